# SPDX-License-Identifier: Apache-2.0
"""gzip, n-grams and word-by-word translation against values computed by hand."""

import gzip
import math
import random
from collections import Counter, defaultdict

import numpy as np
import pytest

from scratch_gpt.evaluation.metrics.baselines import (
    NGram,
    WordTranslation,
    gzip_bits_per_byte,
    ngram_bits_per_byte,
)


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


SOURCES = ["the house", "the book", "a book", "the red house", "a red book", "a cat!"]
TARGETS = ["das Haus", "das Buch", "ein Buch", "das rote Haus", "ein rotes Buch", "eine Katze!"]


def plain_best(sources: list[str], targets: list[str], iterations: int) -> dict[str, str]:
    """Brown et al. 1993 as it is usually written, with an empty word in every source."""
    pairs = [
        (["", *source.lower().replace("!", " !").split()], target.lower().replace("!", " !").split())
        for source, target in zip(sources, targets, strict=True)
    ]
    t = defaultdict(lambda: 1.0)
    for _ in range(iterations):
        counts, totals = defaultdict(float), defaultdict(float)
        for left, right in pairs:
            for f in right:
                norm = sum(t[f, e] for e in left)
                for e in left:
                    counts[f, e] += t[f, e] / norm
                    totals[e] += t[f, e] / norm
        t = defaultdict(float, {(f, e): count / totals[e] for (f, e), count in counts.items()})
    words = {e for left, _ in pairs for e in left}
    return {word: max((value, f) for (f, e), value in t.items() if e == word)[1] for word in words}


@pytest.mark.parametrize("turned", [False, True], ids=["article first", "noun first"])
@pytest.mark.parametrize("iterations", [1, 5])
def test_the_likeliest_words_are_those_of_a_plain_one(iterations: int, turned: bool) -> None:
    """Vectorised expectation maximisation ends where dictionaries end; ties aside.

    A house is seen with "das" as often as with "Haus": only that "the" explains the former tells them apart.
    """
    targets = [" ".join(target.split()[::-1]) for target in TARGETS] if turned else TARGETS
    expected = plain_best(SOURCES, targets, iterations)
    found = WordTranslation(SOURCES, targets, iterations).best
    clear = {"house", "book", "the"} if iterations == 5 else {"the"}
    assert {word: found[word].lower() for word in clear} == {word: expected[word] for word in clear}


def test_sentences_are_translated_word_by_word() -> None:
    """Words in their commonest spelling, in the order of the source; unknown words and marks stay."""
    words = WordTranslation(SOURCES * 3, TARGETS * 3)
    assert words.translate("The book, the house!") == "das Buch, das Haus!"
    assert words.translate("the zebra") == "das zebra"


def test_characters_are_translated_without_spaces() -> None:
    """Marks stay with their letters, and no space comes between characters of a script that has none."""
    chinese = WordTranslation(["the dog", "a cat", "the cat"], ["狗。", "猫。", "猫。"])
    assert chinese.best["cat"] == "猫"
    assert chinese.translate("cat cat。") == "猫猫。"
    assert WordTranslation(["हिन्दी"], ["Hindi"]).translate("हिन्दी?") == "Hindi?"
