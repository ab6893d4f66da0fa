# SPDX-License-Identifier: Apache-2.0
"""Bits per byte of gzip and of a 5-gram byte model on the held-out side of shards, beside a model's own.

    accelerate launch eval/baselines.py --shards runs/real/shards --model runs/real/base

The n-gram model learns from the training side. The model's figure is that of its training log: its last evaluation.
"""

import scratch_gpt.native_libraries  # noqa: F401  # before torch

from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from scratch_gpt.data.shards.blocks import PackedBlocks
from scratch_gpt.errors import UserError
from scratch_gpt.evaluation.metrics.baselines import blocks_text, gzip_bits_per_byte, ngram_bits_per_byte
from scratch_gpt.runs.log import RunLog
from scratch_gpt.settings.parsing import run_stage
from scratch_gpt.tokenization import load_tokenizer


@dataclass
class BaselineArguments:
    """Settings of `eval/baselines.py`."""

    shards: str = field(metadata={"help": "Folder of the shards stage."})
    model: str = field(metadata={"help": "Folder of the pretraining stage."})


def main(arguments: BaselineArguments) -> None:
    """Decode both sides, compute, print."""
    evaluations = [
        row for row in RunLog(Path(arguments.model) / "log.jsonl").rows() if "eval_bits_per_byte" in row
    ]
    if not evaluations:
        message = f"{arguments.model}/log.jsonl holds no evaluation: give a folder of the pretraining stage"
        raise UserError("evaluation_missing", message, folder=arguments.model)
    tokenizer = load_tokenizer(arguments.model)
    training, held_out = (
        blocks_text(PackedBlocks(Path(arguments.shards) / split, tokenizer), tokenizer)
        for split in ("train", "validation")
    )
    table = Table("what", "bits per byte", title=f"{len(held_out):,} held-out bytes of {arguments.shards}")
    table.add_row("uniform bytes", f"{8:.3f}")
    table.add_row("gzip -9", f"{gzip_bits_per_byte(held_out):.3f}")
    table.add_row("5-gram of bytes", f"{ngram_bits_per_byte(training, held_out):.3f}")
    table.add_row(arguments.model, f"{evaluations[-1]['eval_bits_per_byte']:.3f}")
    Console(markup=False).print(table)


if __name__ == "__main__":
    run_stage(main, BaselineArguments)
