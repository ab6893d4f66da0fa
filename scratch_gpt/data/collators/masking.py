# SPDX-License-Identifier: Apache-2.0
"""Masked language modelling on packed blocks: BERT's corruption, with what is hidden as labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from scratch_gpt.data.collators.packed import IGNORED, PackedCollator
from scratch_gpt.tokenization import mask_id, token_byte_lengths


# Devlin et al. 2019 (hf.co/papers/1810.04805), section 3.1: of all tokens 15% are to be predicted; of these 80% become
# the mask, 10% a random token, and 10% stay, so that the model cannot know which tokens are sound.
MASKED_SHARE = 0.15
HIDDEN_SHARE = 0.8
RANDOM_SHARE = 0.1
# In the byte-level alphabet, which writes control characters and the space as U+0100 to U+0121.
SPACE = "\u0120"
# Keeps the draws apart from others that are made of the same seed.
STREAM = 1


@dataclass
class MaskingCollator:
    """Turns blocks into inputs with hidden tokens, and labels at their places.

    What is hidden depends on the seed and the position of the block in the run's order alone, so a resumed run hides
    the same, and each epoch something else. The tokens that end documents and fill blocks are never hidden or learned.

    Args:
        tokenizer: one of ours, with a mask token.
        seed: of the draws.
        whole_words: hide all tokens of a word or none (Google's BERT of May 2019).
        lengths: see `PackedCollator`.

    Raises:
        UserError: the tokenizer has no mask token.
    """

    tokenizer: PreTrainedTokenizerFast
    seed: int
    whole_words: bool = False
    lengths: bool = False

    def __post_init__(self) -> None:
        self.mask = mask_id(self.tokenizer)
        self.packed = PackedCollator(self.tokenizer.eos_token_id, self.tokenizer.pad_token_id, self.lengths)
        self.is_text = token_byte_lengths(self.tokenizer) > 0  # (V,)
        self.text_ids = np.flatnonzero(self.is_text)
        self.goes_on, self.carries_on = word_joints(self.tokenizer)

    def __call__(self, blocks: list[np.ndarray], positions: Sequence[int]) -> dict[str, Any]:
        """Collate B blocks of T tokens.

        Args:
            positions: of each block, in the order of the run.

        Returns:
            `input_ids`, `position_ids` and `labels`, all int64 of shape (B, T). Labels are at the positions of the
            hidden tokens and are IGNORED elsewhere. With `lengths` also those of `PackedCollator`.
        """
        batch = self.packed(blocks)
        hidden = [self.hide(block, position) for block, position in zip(blocks, positions, strict=True)]
        for name, rows in zip(("input_ids", "labels"), zip(*hidden, strict=True), strict=True):
            batch[name] = torch.from_numpy(np.stack(rows))
        return batch

    def hide(self, block: np.ndarray, position: int) -> tuple[np.ndarray, np.ndarray]:
        """The corrupted block and its labels, each of shape (T,)."""
        random = np.random.default_rng([self.seed, position, STREAM])
        draws, actions = random.random((2, len(block)))
        others = random.choice(self.text_ids, len(block))
        if self.whole_words:
            draws = draws[np.cumsum(self._word_starts(block)) - 1]
        text = self.is_text[block]
        # at least the token with the smallest draw: a block of one short document would teach and measure nothing
        chosen = text & ((draws < MASKED_SHARE) | (draws == draws[text].min(initial=1.0)))
        corrupted = np.where(actions < HIDDEN_SHARE + RANDOM_SHARE, others, block)
        corrupted[actions < HIDDEN_SHARE] = self.mask
        return np.where(chosen, corrupted, block), np.where(chosen, block, IGNORED)

    def _word_starts(self, block: np.ndarray) -> np.ndarray:
        starts = np.ones(len(block), dtype=bool)
        starts[1:] = ~(self.goes_on[block[:-1]] & self.carries_on[block[1:]])
        return starts


def word_joints(tokenizer: PreTrainedTokenizerFast) -> tuple[np.ndarray, np.ndarray]:
    """Which tokens a word can continue after, and which can continue it, bool of shape (V,) each.

    A word is a run of letters and digits with a space or sign before it. Bytes beyond ASCII count as parts of letters.
    """
    special = set(tokenizer.added_tokens_decoder)
    joints = np.zeros((2, len(tokenizer)), dtype=bool)
    for token, index in tokenizer.get_vocab().items():
        if index not in special:
            is_sign = len(token) == 1 and token.isascii() and not token.isalnum()
            joints[:, index] = [_in_word(token[-1]) or is_sign or token == SPACE, _in_word(token[0])]
    return joints[0], joints[1]


def _in_word(character: str) -> bool:
    return character.isalnum() if character.isascii() else not 0x100 <= ord(character) <= 0x121
