# SPDX-License-Identifier: Apache-2.0
"""The order of the blocks, and the hash that proves which were used."""

import numpy as np

from scratch_gpt.training.pretrain.shuffled_indices import ShuffledIndices, block_hash


def test_each_epoch_is_another_permutation() -> None:
    """Each holds every block once, whatever position one begins at."""
    order = ShuffledIndices(10, seed=3)
    whole = [order[position] for position in range(25)]
    assert sorted(whole[:10]) == sorted(whole[10:20]) == list(range(10))
    assert whole[:10] != whole[10:20]
    for position in (13, 2, 24, 9, 10):
        assert ShuffledIndices(10, seed=3)[position] == order[position] == whole[position]
    assert [ShuffledIndices(10, seed=4)[position] for position in range(10)] != whole[:10]


def test_the_hash_tells_step_tokens_and_repetition() -> None:
    """Another step, another token, the same block twice: another sum."""
    blocks = [np.arange(8), np.arange(8) + 1]
    assert block_hash(0, blocks[0]) != block_hash(1, blocks[0])
    assert block_hash(0, blocks[0]) != block_hash(0, blocks[1])
    fed = sum(block_hash(5, block) for block in blocks) % 2**64
    assert fed == sum(block_hash(5, block) for block in reversed(blocks)) % 2**64
    assert fed != 2 * block_hash(5, blocks[0]) % 2**64
