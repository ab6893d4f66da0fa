# SPDX-License-Identifier: Apache-2.0
"""An n-gram model of bytes or tokens: what prediction without a neural network comes to."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np


class _Level(NamedTuple):
    """What was counted of runs of one length.

    Args:
        grams: each run that occurs, as (number of its beginning in the level below) x V + its last symbol; sorted.
        counts: how often each occurs.
        totals, kinds: of each run of the level below, how often, and by how many different symbols, it is followed.
    """

    grams: np.ndarray
    counts: np.ndarray
    totals: np.ndarray
    kinds: np.ndarray


class NGram:
    """An interpolated n-gram model with Witten-Bell smoothing.

    p_n(x | c) = (count(c x) + kinds(c) p_{n-1}(x | c')) / (count(c) + kinds(c)), where c is the last n - 1 symbols, c'
    all but the first of these, kinds(c) the number of different symbols seen after c; below n = 1, p = 1/V
    (Witten and Bell 1991; Chen and Goodman 1999, hf.co/papers/cmp-lg/9606011, section 2.6).

    Args:
        training: symbols from 0 to V - 1.
        vocab_size: V.
        order: n, the symbols that the model looks at, the predicted one included.
    """

    def __init__(self, training: np.ndarray, vocab_size: int, order: int) -> None:
        self.vocab_size = vocab_size
        self.levels: list[_Level] = []
        runs, below = np.zeros(len(training) + 1, dtype=np.int64), 1
        for length in range(1, order + 1):
            keys = runs[:-1] * vocab_size + training[length - 1 :]
            grams, runs, counts = np.unique(keys, return_inverse=True, return_counts=True)
            begins = grams // vocab_size
            totals = np.bincount(begins, weights=counts, minlength=below)
            self.levels.append(_Level(grams, counts, totals, np.bincount(begins, minlength=below)))
            below = len(grams)

    def probabilities(self, text: np.ndarray) -> np.ndarray:
        """The probability of each symbol of a text after those before it, shape (len(text),)."""
        probabilities = np.full(len(text), 1 / self.vocab_size)
        for length, runs in enumerate(self._runs(text), start=1):
            level, shorter = self.levels[length - 1], probabilities[length - 1 :]
            known = np.flatnonzero(runs >= 0)
            known = known[level.totals[runs[known]] > 0]
            begins = runs[known]
            places = _places(level.grams, begins * self.vocab_size + text[length - 1 :][known])
            counts = np.where(places >= 0, level.counts[places], 0)
            kinds = level.kinds[begins]
            shorter[known] = (counts + kinds * shorter[known]) / (level.totals[begins] + kinds)
        return probabilities

    def likeliest(self, text: np.ndarray, places: np.ndarray) -> np.ndarray:
        """The likeliest symbol at each of the places of a text after those before it, shape (len(places),)."""
        runs_before = list(self._runs(text))
        guesses = np.empty(len(places), dtype=np.int64)
        for number, place in enumerate(places):
            probabilities = np.full(self.vocab_size, 1 / self.vocab_size)
            for length, (level, runs) in enumerate(zip(self.levels, runs_before, strict=True), start=1):
                run = runs[place - length + 1] if place >= length - 1 else -1
                if run < 0 or not level.totals[run]:
                    continue
                first, last = np.searchsorted(
                    level.grams, [run * self.vocab_size, (run + 1) * self.vocab_size]
                )
                probabilities *= level.kinds[run]
                probabilities[level.grams[first:last] % self.vocab_size] += level.counts[first:last]
                probabilities /= level.totals[run] + level.kinds[run]
            guesses[number] = probabilities.argmax()
        return guesses

    def _runs(self, text: np.ndarray) -> Iterator[np.ndarray]:
        """For each length n: the number of the n - 1 symbols before each one that has so many, -1 if never seen."""
        runs = np.zeros(len(text), dtype=np.int64)
        for length, level in enumerate(self.levels, start=1):
            yield runs
            keys = np.where(runs >= 0, runs * self.vocab_size + text[length - 1 :], -1)
            runs = _places(level.grams, keys)[:-1]


def _places(keys: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Where each asked key stands, -1 where there is none; `keys` are sorted."""
    places = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
    return np.where(keys[places] == asked, places, -1)
