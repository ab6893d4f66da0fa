# SPDX-License-Identifier: Apache-2.0
"""Tokenizer stage: learn a byte-level BPE vocabulary on a sample of the sources.

    accelerate launch train/tokenizer.py --config train/configs/demo/tokenizer.yaml
    accelerate launch train/tokenizer.py --output_dir runs/tokenizer --vocab_size 8192 \
        --sources "[{name: book, path: data/book.txt}]"

Text is drawn in the proportions of the weights until `max_characters`, or until every source was read once; filters and
duplicates leave out what they leave out of the shards. A fiftieth is kept aside, to measure the tokenizer on. Writes
tokenizer.json, tokenizer_config.json, chat_template.jinja and, last, run.yaml.
"""

import scratch_gpt.native_libraries  # noqa: F401  # before torch

from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from scratch_gpt.data.shards.arguments import TokenizerArguments
from scratch_gpt.data.shards.corpus import open_corpus
from scratch_gpt.data.shards.sampling import TokenizerSample
from scratch_gpt.data.sources.bad_rows import BadRows
from scratch_gpt.data.sources.source import ROW_SETTINGS, parse_sources
from scratch_gpt.runs.folders import atomic_directory, write_run_yaml
from scratch_gpt.settings.parsing import run_stage
from scratch_gpt.settings.processes import is_first_process
from scratch_gpt.tokenization import (
    VOCAB_MULTIPLE,
    count_reserved,
    encode_plain,
    save_tokenizer,
    train_tokenizer,
)


SAMPLE_TOKENS = 40

CONTENTS = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "run.yaml")


def main(arguments: TokenizerArguments) -> None:
    """Read the sources, train, save, and show a summary; of several processes one does all."""
    if not is_first_process():
        return
    sources = parse_sources(arguments.sources, ROW_SETTINGS)  # type: ignore[arg-type]  # a list once the arguments are parsed
    console = Console()
    bad_rows = BadRows(arguments.on_bad_row)
    with TemporaryDirectory() as memory, atomic_directory(str(arguments.output_dir), CONTENTS) as folder:
        corpus = open_corpus(sources, bad_rows, arguments.seed, "all_exhausted", Path(memory))
        sample = TokenizerSample(corpus, arguments.max_document_characters, arguments.max_characters)
        with console.status("training the tokenizer"):
            tokenizer = train_tokenizer(sample, arguments.vocab_size)
        bad_rows.check()
        save_tokenizer(tokenizer, folder)
        write_run_yaml(arguments, folder)

    measured, which = (sample.aside, "not ") if sample.aside else (sample.learned, "")
    ids = encode_plain(tokenizer, measured)
    size = sum(len(text.encode()) for text in measured)
    cut = "|".join(tokenizer.decode([token]) for token in ids[0][:SAMPLE_TOKENS])
    lines = [
        f"{len(tokenizer):,} tokens, {size / sum(map(len, ids)):.2f} bytes of text per token, in {arguments.output_dir}",
        f"measured on {size:,} bytes that it has {which}learned from",
        f"a sample, cut in tokens: {cut!r}",
    ]
    if reserved := count_reserved(tokenizer):
        fitting = -(-(len(tokenizer) - reserved) // VOCAB_MULTIPLE) * VOCAB_MULTIPLE
        line = f"{reserved:,} of {len(tokenizer):,} tokens are reserved, since the text yields no more"
        cure = f": set vocab_size {fitting}, or give more text" if fitting < len(tokenizer) else ""
        lines.append(f"{'warning: ' * bool(cure)}{line}{cure}")
    if sample.shortened:
        lines.append(
            f"documents read only in pieces: {sample.shortened:,}, since they are longer than "
            f"max_document_characters {arguments.max_document_characters:,}"
        )
    for line in lines + corpus.usage(sample.used) + corpus.left_out() + bad_rows.report():
        console.print(line, markup=False, soft_wrap=True)


if __name__ == "__main__":
    run_stage(main, TokenizerArguments)
