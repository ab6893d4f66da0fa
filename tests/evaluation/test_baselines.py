# SPDX-License-Identifier: Apache-2.0
"""The baselines against a plain dictionary implementation and hand-computed values."""

import gzip
import math
import random
from collections import Counter, defaultdict

import pytest

from scratch_gpt.evaluation.baselines import gzip_bits_per_byte, ngram_bits_per_byte


def plain_ngram(training: bytes, held_out: bytes, order: int) -> float:
    following: dict[bytes, Counter] = defaultdict(Counter)
    for length in range(order):
        for end in range(length, len(training)):
            following[training[end - length : end]][training[end]] += 1

    def probability(context: bytes, byte: int) -> float:
        shorter = 1 / 256 if not context else probability(context[1:], byte)
        seen = following.get(context)
        if seen is None:
            return shorter
        return (seen[byte] + len(seen) * shorter) / (sum(seen.values()) + len(seen))

    bits = 0.0
    for end in range(len(held_out)):
        bits -= math.log2(probability(held_out[max(0, end - order + 1) : end], held_out[end]))
    return bits / len(held_out)


@pytest.mark.parametrize("order", [1, 2, 5])
def test_ngram_model_equals_a_plain_one(order) -> None:
    """Vectorised counts give what dictionaries give, unseen contexts and bytes included."""
    rng = random.Random(0)
    training = bytes(rng.choice(b"abracadabra ") for _ in range(400))
    held_out = bytes(rng.choice(b"abracadabra xyz") for _ in range(60))
    expected = plain_ngram(training, held_out, order)
    assert ngram_bits_per_byte(training, held_out, order) == pytest.approx(expected)


def test_ngram_of_one_known_byte() -> None:
    """Unigram by hand: "aab" gives p(a) = (2 + 2/256) / (3 + 2)."""
    assert ngram_bits_per_byte(b"aab", b"a", order=1) == pytest.approx(-math.log2((2 + 2 / 256) / 5))


def test_gzip_bits_are_those_of_the_compressed_size() -> None:
    """8 bits for each compressed byte, over the bytes of the text."""
    text = b"the same words again and again " * 50
    assert gzip_bits_per_byte(text) == 8 * len(gzip.compress(text, 9)) / len(text)
