# SPDX-License-Identifier: Apache-2.0
"""What bits per byte cost without a neural network: gzip, and an n-gram model of bytes.

A bits-per-byte figure says little alone; these two are its named baselines on the same split.
"""

import gzip

import numpy as np
from transformers import PreTrainedTokenizerFast

from scratch_gpt.data.shards.writing import PackedBlocks
from scratch_gpt.evaluation.ngram import NGram


def blocks_text(blocks: PackedBlocks, tokenizer: PreTrainedTokenizerFast) -> bytes:
    """The text of packed blocks, documents in the order of the blocks, one line break between two rows."""
    rows = [blocks[index] for index in range(len(blocks))]
    return "\n".join(tokenizer.batch_decode(rows, skip_special_tokens=True)).encode()


def gzip_bits_per_byte(text: bytes) -> float:
    """Size of `gzip -9` of the text, in bits for each byte of it."""
    return 8 * len(gzip.compress(text, compresslevel=9)) / len(text)


def ngram_bits_per_byte(training: bytes, held_out: bytes, order: int = 5) -> float:
    """Cross-entropy of an n-gram model of bytes that looks at `order` of them, the predicted one included."""
    symbols = [np.frombuffer(text, dtype=np.uint8).astype(np.int64) for text in (training, held_out)]
    probabilities = NGram(symbols[0], 256, order).probabilities(symbols[1])
    return float(-np.log2(probabilities).mean())


def blocks_tokens(blocks: PackedBlocks, tokenizer: PreTrainedTokenizerFast) -> np.ndarray:
    """The tokens of packed blocks one after the other, without padding."""
    tokens = np.concatenate([blocks[index] for index in range(len(blocks))])
    return tokens[tokens != tokenizer.pad_token_id]
