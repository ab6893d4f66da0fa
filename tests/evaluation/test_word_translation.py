# SPDX-License-Identifier: Apache-2.0
"""IBM Model 1 against a plain dictionary implementation, and on pairs that say which word is which."""

from collections import defaultdict

import pytest

from scratch_gpt.evaluation.word_translation import WordTranslation


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
