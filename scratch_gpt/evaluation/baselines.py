# SPDX-License-Identifier: Apache-2.0
"""What bits per byte cost without a neural network: gzip, and an n-gram model of bytes.

A bits-per-byte figure says little alone; these two are its named baselines on the same split.
"""

import gzip
import math

import numpy as np
from transformers import PreTrainedTokenizerFast

from scratch_gpt.data.shards import PackedBlocks


def blocks_text(blocks: PackedBlocks, tokenizer: PreTrainedTokenizerFast) -> bytes:
    """The text of packed blocks, documents in the order of the blocks, one line break between two rows."""
    rows = [blocks[index] for index in range(len(blocks))]
    return "\n".join(tokenizer.batch_decode(rows, skip_special_tokens=True)).encode()


def gzip_bits_per_byte(text: bytes) -> float:
    """Size of `gzip -9` of the text, in bits for each byte of it."""
    return 8 * len(gzip.compress(text, compresslevel=9)) / len(text)


def ngram_bits_per_byte(training: bytes, held_out: bytes, order: int = 5) -> float:
    """Cross-entropy of an interpolated n-gram model of bytes with Witten-Bell smoothing.

    p_n(b | c) = (count(c b) + kinds(c) p_{n-1}(b | c')) / (count(c) + kinds(c)), where c is the last n - 1 bytes, c'
    all but the first of these, kinds(c) the number of different bytes seen after c; below n = 1, p = 1/256
    (Witten and Bell 1991; Chen and Goodman 1999, hf.co/papers/cmp-lg/9606011, section 2.6).

    Args:
        order: n, the bytes that the model looks at, the predicted one included (at most 8).
    """
    probabilities = np.full(len(held_out), 1 / 256)
    for length in range(1, order + 1):
        grams, counts = np.unique(_windows(training, length), return_counts=True)
        contexts, first = np.unique(grams >> np.uint64(8), return_index=True)
        kinds = np.diff(np.append(first, len(grams)))
        totals = np.add.reduceat(counts, first)
        asked = _windows(held_out, length)
        count = _look_up(grams, counts, asked)
        kind = _look_up(contexts, kinds, asked >> np.uint64(8))
        total = _look_up(contexts, totals, asked >> np.uint64(8))
        shorter = probabilities[length - 1 :]
        known = total > 0
        shorter[known] = (count + kind * shorter)[known] / (total + kind)[known]
    return float(-np.log(probabilities).mean() / math.log(2))


def _windows(text: bytes, length: int) -> np.ndarray:
    """Each run of `length` bytes as one number, shape (len(text) - length + 1,)."""
    values = np.frombuffer(text, dtype=np.uint8).astype(np.uint64)
    windows = np.zeros(len(text) - length + 1, dtype=np.uint64)
    for offset in range(length):
        windows = (windows << np.uint64(8)) | values[offset : offset + len(windows)]
    return windows


def _look_up(keys: np.ndarray, values: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """The value of each asked key, 0 where there is none; `keys` are sorted."""
    places = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
    return np.where(keys[places] == asked, values[places], 0)
