# SPDX-License-Identifier: Apache-2.0
"""Held-out instructions: how likely the answers are to a model before and after the sft stage, and what it writes itself.

The embedded corpus:

    accelerate launch eval/instructions.py --model runs/demo/base runs/demo/chat

Your own files; sources, held_out_fraction and seed must be those of the sft stage:

    accelerate launch eval/instructions.py --config eval/configs/instructions_file.yaml --model runs/real/base runs/real/chat
"""

import scratch_gpt.native_libraries  # noqa: F401  # before torch

import dataclasses
from functools import cache

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from scratch_gpt.data.rows.conversations import instruction_rows
from scratch_gpt.data.rows.splits import Row, read_splits
from scratch_gpt.evaluation.benchmarks.instructions import InstructionArguments, evaluate_instructions
from scratch_gpt.evaluation.harness import run_benchmark
from scratch_gpt.runs.results import Metric
from scratch_gpt.settings.parsing import run_stage


def main(arguments: InstructionArguments) -> None:
    """Measure each model on the rows that the sft stage held out under the same seed."""

    @cache
    def held_out(seed: int) -> list[Row]:
        return read_splits(instruction_rows, dataclasses.replace(arguments, seed=seed))["test"]

    def evaluate(
        model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, arguments: InstructionArguments
    ) -> dict[str, Metric]:
        return evaluate_instructions(model, tokenizer, held_out(arguments.seed), arguments)

    run_benchmark("instructions", arguments, {}, evaluate)


if __name__ == "__main__":
    run_stage(main, InstructionArguments)
