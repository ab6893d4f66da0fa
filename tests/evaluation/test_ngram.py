# SPDX-License-Identifier: Apache-2.0
"""The n-gram model against plain dictionaries."""

import random
from collections import Counter, defaultdict

import numpy as np
import pytest

from scratch_gpt.evaluation.ngram import NGram


class PlainNGram:
    """Counts in dictionaries, one recursion a symbol."""

    def __init__(self, training: list[int], vocab_size: int, order: int) -> None:
        self.vocab_size, self.order = vocab_size, order
        self.following: dict[tuple, Counter] = defaultdict(Counter)
        for length in range(order):
            for end in range(length, len(training)):
                self.following[tuple(training[end - length : end])][training[end]] += 1

    def probability(self, context: tuple, symbol: int) -> float:
        shorter = self.probability(context[1:], symbol) if context else 1 / self.vocab_size
        seen = self.following.get(context)
        if seen is None:
            return shorter
        return (seen[symbol] + len(seen) * shorter) / (sum(seen.values()) + len(seen))

    def at(self, text: list[int], place: int) -> list[float]:
        context = tuple(text[max(0, place - self.order + 1) : place])
        return [self.probability(context, symbol) for symbol in range(self.vocab_size)]


@pytest.fixture(params=[1, 2, 5])
def models(request) -> tuple[NGram, PlainNGram, list[int]]:
    """Both models of 800 symbols, and a text with symbols that were never seen."""
    generator = random.Random(0)
    training = generator.choices([1, 2, 3, 4, 5, 90], weights=[9, 5, 3, 2, 2, 1], k=800)
    text = generator.choices([1, 2, 3, 4, 5, 90, 7], weights=[9, 5, 3, 2, 2, 1, 1], k=60)
    return NGram(np.array(training), 100, request.param), PlainNGram(training, 100, request.param), text


def test_probabilities_equal_those_of_plain_counts(models) -> None:
    """Unseen contexts and symbols included."""
    ours, plain, text = models
    expected = [plain.at(text, place)[symbol] for place, symbol in enumerate(text)]
    assert ours.probabilities(np.array(text)) == pytest.approx(expected)


def test_the_likeliest_symbol_has_the_largest_probability(models) -> None:
    """At the beginning of the text too, where there is no whole context."""
    ours, plain, text = models
    guesses = ours.likeliest(np.array(text), np.arange(len(text)))
    for place, guess in enumerate(guesses):
        probabilities = plain.at(text, place)
        assert probabilities[guess] == pytest.approx(max(probabilities))
