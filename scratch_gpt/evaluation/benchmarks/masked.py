# SPDX-License-Identifier: Apache-2.0
"""What a masked language model knows of held-out blocks, beside an n-gram model: accuracy and pseudo-perplexity."""

import math

import numpy as np
import torch
from transformers import PreTrainedModel

from scratch_gpt.data.collators.masking import MaskingCollator
from scratch_gpt.data.collators.packed import IGNORED, to_device
from scratch_gpt.data.shards.blocks import PackedBlocks
from scratch_gpt.evaluation.metrics.baselines import NGram
from scratch_gpt.inference.masked import masked_nll, pseudo_nll


def model_figures(
    model: PreTrainedModel,
    blocks: PackedBlocks,
    collator: MaskingCollator,
    max_blocks: int,
    pseudo_blocks: int,
    batch_size: int,
) -> tuple[float, float]:
    """Masked accuracy on N held-out blocks, and pseudo-perplexity on N."""
    nll = torch.zeros(3, dtype=torch.float64)
    chosen = blocks.evenly_spaced_indices(max_blocks)
    for first in range(0, len(chosen), batch_size):
        numbers = chosen[first : first + batch_size]
        batch = collator([blocks[number] for number in numbers], numbers)
        nll += masked_nll(model, to_device(batch, model.device)).sum(0)
    pairs = [
        pseudo_nll(model, blocks[number], collator, model.device, batch_size)
        for number in blocks.evenly_spaced_indices(pseudo_blocks)
    ]
    nats, tokens = np.sum(pairs, axis=0)
    return float(nll[2] / nll[1]), math.exp(nats / tokens)


def ngram_figures(
    ngram: NGram, blocks: PackedBlocks, collator: MaskingCollator, max_blocks: int, pseudo_blocks: int
) -> tuple[float, float]:
    """The same of an n-gram model: accuracy at the same hidden tokens, and its perplexity on the same text.

    It sees all tokens before a hidden one in the block, and none behind it.
    """
    right = hidden = 0
    for number in blocks.evenly_spaced_indices(max_blocks):
        block = blocks[number]
        _, labels = collator.hide(block, number)
        places = np.flatnonzero(labels != IGNORED)
        right += int((ngram.likeliest(block, places) == block[places]).sum())
        hidden += len(places)
    weighed = [blocks[number] for number in blocks.evenly_spaced_indices(pseudo_blocks)]
    nats = [-np.log(ngram.probabilities(block)[collator.is_text[block]]) for block in weighed]
    return right / hidden, math.exp(np.concatenate(nats).mean())
