# SPDX-License-Identifier: Apache-2.0
"""What masked language models know of held-out blocks: accuracy at hidden tokens and pseudo-perplexity, beside n-grams.

    accelerate launch eval/masked.py --model runs/demo/encoder --shards runs/demo/shards
    accelerate launch eval/masked.py --model runs/demo/encoder runs/demo/modernbert --shards runs/demo/shards \
        --max_blocks 500 --pseudo_blocks 50

The n-gram models learn from the training side. They see the tokens before a hidden one, all of them, and none behind it.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedTokenizerBase

from scratch_gpt.data.collator import IGNORED
from scratch_gpt.data.masking import MaskingCollator
from scratch_gpt.data.shards import PackedBlocks
from scratch_gpt.errors import UserError
from scratch_gpt.evaluation.baselines import blocks_tokens
from scratch_gpt.evaluation.masked_lm import load_masked_model, masked_costs, pseudo_costs
from scratch_gpt.evaluation.ngram import NGram
from scratch_gpt.tokenization import tokenizer_hash
from scratch_gpt.training.arguments import run_stage


@dataclass
class MaskedArguments:
    """Settings of `eval/masked.py`."""

    model: list[str] = field(
        default_factory=list,
        metadata={"help": "Folders of masked language models, all with the shards' tokenizer."},
    )
    shards: str | None = field(default=None, metadata={"help": "Folder of the shards stage."})
    max_blocks: int = field(default=256, metadata={"help": "Held-out blocks with hidden tokens, at most."})
    pseudo_blocks: int = field(
        default=16, metadata={"help": "Held-out blocks of which each token is hidden alone, at most."}
    )
    batch_size: int = field(default=32, metadata={"help": "Blocks that run through the model together."})

    def __post_init__(self) -> None:
        if not self.model or not self.shards:
            raise UserError("give --model DIR, a folder of the pretraining stage, and --shards DIR")
        for name in ("max_blocks", "pseudo_blocks", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")


def evenly(blocks: PackedBlocks, most: int) -> list[int]:
    """So many block numbers, at most, evenly spaced over all: sources stand one after the other."""
    count = min(len(blocks), most)
    return [index * len(blocks) // count for index in range(count)]


def model_figures(folder: str, blocks: PackedBlocks, arguments: MaskedArguments) -> tuple[float, float]:
    """Masked accuracy and pseudo-perplexity of one model."""
    model, tokenizer = load_masked_model(folder)
    check_tokenizer(folder, tokenizer, blocks)
    collator = MaskingCollator(tokenizer, seed=0)
    costs = torch.zeros(3, dtype=torch.float64)
    chosen = evenly(blocks, arguments.max_blocks)
    for first in range(0, len(chosen), arguments.batch_size):
        numbers = chosen[first : first + arguments.batch_size]
        batch = collator([blocks[number] for number in numbers], numbers)
        batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
        costs += masked_costs(model, batch).sum(0).cpu()
    pairs = [
        pseudo_costs(model, blocks[number], collator, model.device, arguments.batch_size)
        for number in evenly(blocks, arguments.pseudo_blocks)
    ]
    nats, tokens = np.sum(pairs, axis=0)
    return float(costs[2] / costs[1]), math.exp(nats / tokens)


def ngram_figures(
    order: int,
    training: np.ndarray,
    tokenizer: PreTrainedTokenizerBase,
    blocks: PackedBlocks,
    arguments: MaskedArguments,
) -> tuple[float, float]:
    """The same of an n-gram model: accuracy at the same hidden tokens, and its perplexity on the same text."""
    ngram = NGram(training, len(tokenizer), order)
    collator = MaskingCollator(tokenizer, seed=0)
    right = hidden = 0
    for number in evenly(blocks, arguments.max_blocks):
        block = blocks[number]
        _, labels = collator.hide(block, number)
        places = np.flatnonzero(labels != IGNORED)
        right += int((ngram.likeliest(block, places) == block[places]).sum())
        hidden += len(places)
    weighed = [blocks[number] for number in evenly(blocks, arguments.pseudo_blocks)]
    nats = [-np.log(ngram.probabilities(block)[collator.is_text[block]]) for block in weighed]
    return right / hidden, math.exp(np.concatenate(nats).mean())


def check_tokenizer(folder: str, tokenizer: PreTrainedTokenizerBase, blocks: PackedBlocks) -> None:
    """Raise UserError if the blocks are of another tokenizer than the model's."""
    if tokenizer_hash(tokenizer) != blocks.manifest["tokenizer_hash"]:
        raise UserError(
            f"the shards in {blocks.folder} were written with another tokenizer than that of {folder}"
        )


def main(arguments: MaskedArguments) -> None:
    """Measure the n-gram models and each model on the same blocks, print."""
    training, held_out = (
        PackedBlocks(Path(str(arguments.shards)) / split) for split in ("train", "validation")
    )
    _, tokenizer = load_masked_model(arguments.model[0])
    check_tokenizer(arguments.model[0], tokenizer, held_out)
    tokens = blocks_tokens(training, tokenizer)
    rows = {
        name: ngram_figures(order, tokens, tokenizer, held_out, arguments)
        for name, order in (("unigram", 1), ("5-gram", 5))
    }
    rows |= {folder: model_figures(folder, held_out, arguments) for folder in arguments.model}
    table = Table(
        "what", "masked accuracy", "pseudo-perplexity", title=f"held-out blocks of {arguments.shards}"
    )
    for name, (accuracy, perplexity) in rows.items():
        table.add_row(name, f"{accuracy:.3f}", f"{perplexity:.2f}")
    Console().print(table)


if __name__ == "__main__":
    run_stage(main, MaskedArguments)
