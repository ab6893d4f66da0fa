# SPDX-License-Identifier: Apache-2.0
"""The order of the blocks, and the hash that proves which were used."""

import numpy as np

from scratch_gpt.training.pretrain.shuffled_indices import PhasedIndices, ShuffledIndices, block_hash


def test_each_epoch_is_another_permutation() -> None:
    """Each holds every block once, whatever position one begins at."""
    order = ShuffledIndices(10, seed=3)
    whole = [order[position] for position in range(25)]
    assert sorted(whole[:10]) == sorted(whole[10:20]) == list(range(10))
    assert whole[:10] != whole[10:20]
    for position in (13, 2, 24, 9, 10):
        assert ShuffledIndices(10, seed=3)[position] == order[position] == whole[position]
    assert [ShuffledIndices(10, seed=4)[position] for position in range(10)] != whole[:10]


def test_without_a_seed_the_order_is_that_of_the_blocks() -> None:
    """In every pass, from any position on."""
    order = ShuffledIndices(4, seed=None)
    assert [order[position] for position in (0, 1, 2, 3, 4, 9)] == [0, 1, 2, 3, 0, 1]


def test_the_hash_tells_step_tokens_and_repetition() -> None:
    """Another step, another token, the same block twice: another sum."""
    blocks = [np.arange(8), np.arange(8) + 1]
    assert block_hash(0, blocks[0]) != block_hash(1, blocks[0])
    assert block_hash(0, blocks[0]) != block_hash(0, blocks[1])
    fed = sum(block_hash(5, block) for block in blocks) % 2**64
    assert fed == sum(block_hash(5, block) for block in reversed(blocks)) % 2**64
    assert fed != 2 * block_hash(5, blocks[0]) % 2**64


def test_one_source_is_read_as_without_phases() -> None:
    """The same blocks at the same positions, over several passes."""
    order = PhasedIndices([ShuffledIndices(10, seed=3)], [(35, [1.0])])
    assert [order[position] for position in range(35)] == [
        (0, ShuffledIndices(10, seed=3)[position]) for position in range(35)
    ]


def test_shares_hold_in_every_phase_and_sources_are_read_on() -> None:
    """Counts by hand; at any point of a phase within one block; each source in its own order, from any position on."""
    phases = [(50, [0.7, 0.3, 0.0]), (50, [0.0, 1.0, 0.0]), (90, [0.25, 0.0, 0.75])]
    counts = (8, 20, 100)
    order = PhasedIndices([ShuffledIndices(count, seed=5) for count in counts], phases)
    places = [order[position] for position in range(90)]
    fresh = [ShuffledIndices(count, seed=5) for count in counts]
    assert [PhasedIndices(fresh, phases)[position] for position in reversed(range(90))] == places[::-1]
    sources = [source for source, _ in places]
    assert [sources[:50].count(source) for source in range(3)] == [35, 15, 0]
    assert [sources[50:].count(source) for source in range(3)] == [10, 0, 30]
    for length in range(50):
        assert abs(sources[:length].count(0) - 0.7 * length) <= 1
    for source, count in enumerate(counts):
        own = [number for each, number in places if each == source]
        whole = ShuffledIndices(count, seed=5)
        assert own == [whole[index] for index in range(len(own))]
    assert [order.used(130)[source] - order.used(90)[source] for source in range(3)] == [10, 0, 30]  # goes on
    for position in (0, 1, 49, 50, 51, 90):
        assert order.used(position) == [sources[:position].count(source) for source in range(3)]
