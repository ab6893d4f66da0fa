# SPDX-License-Identifier: Apache-2.0
"""What masked language models know of held-out blocks: accuracy at hidden tokens and pseudo-perplexity, beside n-grams.

    accelerate launch eval/masked.py --model runs/demo/encoder --shards runs/demo/shards
    accelerate launch eval/masked.py --model runs/demo/encoder runs/demo/modernbert --shards runs/demo/shards \
        --max_blocks 500 --pseudo_blocks 50

The n-gram models learn from the training side. They see the tokens before a hidden one, all of them, and none behind it.
"""

import scratch_gpt.native_libraries  # noqa: F401  # before torch

from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from scratch_gpt.data.collators.masking import MaskingCollator
from scratch_gpt.data.shards.blocks import PackedBlocks
from scratch_gpt.errors import UserError
from scratch_gpt.evaluation.benchmarks.masked import model_figures, ngram_figures
from scratch_gpt.evaluation.metrics.baselines import NGram, blocks_tokens
from scratch_gpt.inference.masked import load_masked_model
from scratch_gpt.settings.checking import Count, check_values
from scratch_gpt.settings.parsing import run_stage


@dataclass
class MaskedArguments:
    """Settings of `eval/masked.py`."""

    model: list[str] = field(
        default_factory=list,
        metadata={"help": "Folders of masked language models, all with the shards' tokenizer."},
    )
    shards: str | None = field(default=None, metadata={"help": "Folder of the shards stage."})
    max_blocks: Count = field(default=256, metadata={"help": "Held-out blocks with hidden tokens, at most."})
    pseudo_blocks: Count = field(
        default=16,
        metadata={"help": "Largest number of held-out blocks whose tokens are hidden one at a time."},
    )
    batch_size: Count = field(default=32, metadata={"help": "Blocks that run through the model together."})

    def __post_init__(self) -> None:
        check_values(self)
        if not self.model or not self.shards:
            message = "give --model DIR, a folder of the pretraining stage, and --shards DIR"
            raise UserError("setting_missing", message, setting="shards" if self.model else "model")


def main(arguments: MaskedArguments) -> None:
    """Measure the n-gram models and each model on the same blocks, print."""
    loaded = {folder: load_masked_model(folder) for folder in arguments.model}
    for _, tokenizer in loaded.values():
        training, held_out = (
            PackedBlocks(Path(str(arguments.shards)) / split, tokenizer) for split in ("train", "validation")
        )
    collator, tokens = MaskingCollator(tokenizer, seed=0), blocks_tokens(training, tokenizer)
    counts = {"max_blocks": arguments.max_blocks, "pseudo_blocks": arguments.pseudo_blocks}
    rows = {
        name: ngram_figures(NGram(tokens, len(tokenizer), order), held_out, collator, **counts)
        for name, order in (("unigram", 1), ("5-gram", 5))
    }
    for folder, (model, _) in loaded.items():
        rows[folder] = model_figures(model, held_out, collator, **counts, batch_size=arguments.batch_size)
    table = Table(
        "what", "masked accuracy", "pseudo-perplexity", title=f"held-out blocks of {arguments.shards}"
    )
    for name, (accuracy, perplexity) in rows.items():
        table.add_row(name, f"{accuracy:.3f}", f"{perplexity:.2f}")
    Console(markup=False).print(table)


if __name__ == "__main__":
    run_stage(main, MaskedArguments)
