# SPDX-License-Identifier: Apache-2.0
"""Tokenizer stage: learn a byte-level BPE vocabulary on a sample of the sources.

    accelerate launch train/tokenizer.py --config train/configs/demo/tokenizer.yaml
    accelerate launch train/tokenizer.py --output_dir runs/tokenizer --vocab_size 8192 \
        --sources '[{"name": "book", "path": "data/book.txt"}]'

Text is drawn in the proportions of the weights until `max_characters`, or until every source was read once; filters and
duplicates leave out what they leave out of the shards. Writes
tokenizer.json, tokenizer_config.json, chat_template.jinja and, last, run.yaml.
"""

import scratch_gpt.openmp  # noqa: F401  # before torch

from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from scratch_gpt.data.shards.arguments import TokenizerArguments
from scratch_gpt.data.shards.corpus import bounded_texts, open_corpus
from scratch_gpt.data.sources.bad_rows import BadRows
from scratch_gpt.data.sources.source import ROW_SETTINGS, parse_sources
from scratch_gpt.runs.folders import atomic_directory, write_run_yaml
from scratch_gpt.settings.parsing import run_stage
from scratch_gpt.tokenization import encode_plain, save_tokenizer, train_tokenizer


SAMPLE_TOKENS = 40

CONTENTS = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "run.yaml")


def main(arguments: TokenizerArguments) -> None:
    """Read the sources, train, save, and show what came out."""
    sources = parse_sources(arguments.sources, ROW_SETTINGS)  # type: ignore[arg-type]  # a list once the arguments are parsed
    console = Console()
    bad_rows = BadRows(arguments.on_bad_row)
    measured: list[str] = []
    with TemporaryDirectory() as memory, atomic_directory(str(arguments.output_dir), CONTENTS) as folder:
        corpus = open_corpus(sources, bad_rows, arguments.seed, "all_exhausted", Path(memory))
        texts = bounded_texts(corpus, arguments.max_document_characters, arguments.max_characters, measured)
        with console.status("training the tokenizer"):
            tokenizer = train_tokenizer(texts, arguments.vocab_size)
        bad_rows.check()
        save_tokenizer(tokenizer, folder)
        write_run_yaml(arguments, folder)

    ids = encode_plain(tokenizer, measured)
    bytes_per_token = sum(len(text.encode()) for text in measured) / sum(map(len, ids))
    sample = "|".join(tokenizer.decode([token]) for token in ids[0][:SAMPLE_TOKENS])
    console.print(
        f"{len(tokenizer):,} tokens, {bytes_per_token:.2f} bytes of text per token, in {arguments.output_dir}"
    )
    console.print(f"a sample, cut in tokens: {sample!r}", markup=False)
    for line in corpus.left_out() + bad_rows.report():
        console.print(line, markup=False)


if __name__ == "__main__":
    run_stage(main, TokenizerArguments)
