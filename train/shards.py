# SPDX-License-Identifier: Apache-2.0
"""Shards stage: tokenize the sources and pack them into blocks, for training and for validation.

    accelerate launch train/shards.py --config train/configs/demo/shards.yaml
    accelerate launch train/shards.py --tokenizer runs/tokenizer --output_dir runs/shards --sequence_length 256 \
        --sources "[{name: book, path: data/book.txt}]"

Writes train/ and validation/, each with tokens.bin and manifest.json: present means complete. After an interruption the
same command resumes. With --num_slices N --slice I it writes one of N slices; with --num_slices N alone it merges them.
"""

import scratch_gpt.native_libraries  # noqa: F401  # before torch

import os

from rich.console import Console

from scratch_gpt.data.shards.arguments import ShardsArguments
from scratch_gpt.data.shards.writing import write_shards
from scratch_gpt.settings.parsing import run_stage
from scratch_gpt.settings.processes import is_first_process


def main(arguments: ShardsArguments) -> None:
    """Write the shards and show a summary; of several processes one does all."""
    if not is_first_process():
        return
    # A launcher may have switched the tokenizer's threads off; this stage is nothing but tokenization.
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    console = Console()
    for line in write_shards(arguments):
        console.print(line, markup=False, soft_wrap=True)


if __name__ == "__main__":
    run_stage(main, ShardsArguments)
