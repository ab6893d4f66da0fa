# SPDX-License-Identifier: Apache-2.0
"""Span corruption on packed blocks: what is left of each document as the source, what was taken out as the target."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from scratch_gpt.data.collators.packed import IGNORED
from scratch_gpt.errors import UserError
from scratch_gpt.tokenization import MAX_SENTINELS, TOKENS_PER_SENTINEL, sentinel_ids


# Raffel et al. 2020 (hf.co/papers/1910.10683), section 3.3: 15% of the tokens, in spans of 3 on average.
NOISE_DENSITY = 0.15
MEAN_SPAN_LENGTH = 3.0
# Keeps the draws apart from others that are made of the same seed.
STREAM = 2


def noise_counts(length: int) -> tuple[int, int]:
    """Tokens to take out of a document of `length` tokens, and in how many spans; none of a single token."""
    tokens = min(max(round(length * NOISE_DENSITY), 1), length - 1)
    if tokens < 1:
        return 0, 0
    return tokens, min(max(round(tokens / MEAN_SPAN_LENGTH), 1), length - tokens)


def noise_mask(length: int, random: np.random.Generator) -> np.ndarray:
    """Which tokens of a document are taken out, bool of shape (length,); all ways to do it are equally likely.

    T5's own code takes out the end of every document. Here documents are short, many with one span, and a model that
    never sees what comes after a span would learn to continue and never to fill in.
    """
    tokens, spans = noise_counts(length)
    if not spans:
        return np.zeros(length, dtype=bool)
    kept = length - tokens
    # Before which of the kept tokens each span is: different numbers, so that no two spans touch.
    places = np.sort(random.choice(kept + 1, spans, replace=False))
    cuts = np.sort(random.choice(tokens - 1, spans - 1, replace=False)) + 1
    lengths = np.empty(2 * spans + 1, dtype=np.int64)
    lengths[0::2] = np.diff(places, prepend=0, append=kept)
    lengths[1::2] = np.diff(cuts, prepend=0, append=tokens)
    return np.repeat(np.arange(2 * spans + 1) % 2 == 1, lengths)


@dataclass
class SpanCorruptionCollator:
    """Turns blocks into rows of an encoder-decoder, one document a row.

    A span of the document that is taken out becomes one sentinel in the source; the target is each sentinel with the
    tokens it replaced, and the end of the document. What is taken out depends on the seed and the position of the
    block in the run's order alone, so a resumed run takes out the same, and each epoch something else.

    Args:
        tokenizer: one of ours, with sentinels.
        seed: of the draws.
        sequence_length: tokens in a block.

    Raises:
        UserError: the tokenizer has no sentinels, or too few for a document as long as a block.
    """

    tokenizer: PreTrainedTokenizerFast
    seed: int
    sequence_length: int

    def __post_init__(self) -> None:
        self.sentinels = np.array(sentinel_ids(self.tokenizer))
        self.eos, self.pad = self.tokenizer.eos_token_id, self.tokenizer.pad_token_id
        _, most = noise_counts(self.sequence_length)
        if most > len(self.sentinels):
            message = (
                f"span corruption of blocks of {self.sequence_length} tokens takes {most} sentinels, and tokenizer "
                f"{self.tokenizer.name_or_path} has {len(self.sentinels)}: write shorter blocks, or train a larger "
                f"vocabulary (one sentinel for {TOKENS_PER_SENTINEL} tokens, at most {MAX_SENTINELS})"
            )
            raise UserError("too_few_sentinels", message, needed=most, found=len(self.sentinels))

    def __call__(self, blocks: list[np.ndarray], positions: Sequence[int]) -> dict[str, torch.Tensor]:
        """Collate blocks with R documents in all.

        Args:
            positions: of each block, in the order of the run.

        Returns:
            `input_ids` and `attention_mask` of shape (R, S), `labels` of shape (R, U): the targets at their own
            places, IGNORED behind them. All int64.
        """
        sources, targets = [], []
        for block, position in zip(blocks, positions, strict=True):
            random = np.random.default_rng([self.seed, position, STREAM])
            for document in self.documents(block):
                source, target = self.corrupt(document, random)
                sources.append(source)
                targets.append(target)
        input_ids = _padded(sources, self.pad)
        lengths = torch.tensor([len(source) for source in sources])
        attention_mask = (torch.arange(input_ids.shape[1]) < lengths[:, None]).long()
        return {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "labels": _padded(targets, IGNORED),
        }

    def documents(self, block: np.ndarray) -> list[np.ndarray]:
        """The documents of a block, each with the token that ends it, where that is in the block."""
        text = block[block != self.pad]
        ends = np.flatnonzero(text == self.eos) + 1
        return [document for document in np.split(text, ends) if len(document)]

    def corrupt(self, document: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Source and target of one document."""
        ended = document[-1] == self.eos
        text = document[:-1] if ended else document
        noise = noise_mask(len(text), random)
        begins = noise & ~np.concatenate([[False], noise[:-1]])
        span = np.cumsum(begins) - 1  # the number of the span that a token is in, or that was before it
        source = np.where(begins, self.sentinels[span], text)[begins | ~noise]
        target = np.insert(text[noise], np.flatnonzero(begins[noise]), self.sentinels[: begins.sum()])
        return np.append(source, [self.eos] * bool(ended)), np.append(target, self.eos)


def _padded(rows: list[np.ndarray], value: int) -> torch.Tensor:
    padded = np.full((len(rows), max(map(len, rows))), value, dtype=np.int64)
    for row, place in zip(rows, padded, strict=True):
        place[: len(row)] = row
    return torch.from_numpy(padded)
