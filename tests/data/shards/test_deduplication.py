# SPDX-License-Identifier: Apache-2.0
"""The set of hashes against Python's own, and its memory."""

import random

from scratch_gpt.data.shards import deduplication
from scratch_gpt.data.shards.deduplication import HashSet, text_hash


def test_agrees_with_a_python_set(monkeypatch):
    """New or not, for 20,000 hashes with repeats, through many growths; many fall on the same place."""
    monkeypatch.setattr(deduplication, "SMALLEST", 8)
    generator = random.Random(0)
    values = [
        generator.choice((generator.randrange(1, 9000), generator.randrange(1, 2**64))) for _ in range(20_000)
    ]
    ours, theirs = HashSet(), set()
    for value in values:
        assert ours.add(value) == (value not in theirs)
        theirs.add(value)
    assert len(ours) == len(theirs)


def test_zero_is_a_hash_too():
    """The value that marks a free place can be added, once."""
    hashes = HashSet()
    assert hashes.add(0)
    assert not hashes.add(0)


def test_memory_is_bounded(monkeypatch):
    """From 1,000 hashes on, at no size does one take more than 14.2 bytes."""
    monkeypatch.setattr(deduplication, "SMALLEST", 1000)
    generator = random.Random(0)
    hashes = HashSet()
    most = 0.0
    for count in range(1, 30_001):
        hashes.add(generator.randrange(2**64))
        if count > 1000:
            most = max(most, hashes.num_bytes / count)
    assert 13 < most <= 14.2


def test_text_hash_spreads_over_64_bits():
    """Different texts, different hashes; the same one in every process."""
    assert len({text_hash(str(number).encode()) for number in range(1000)}) == 1000
    assert text_hash(b"text") == int.from_bytes(bytes.fromhex("d7f35fa228381a1c"), "big")
