# SPDX-License-Identifier: Apache-2.0
"""Filters: shares worked out by hand, ordinary text untouched, mistakes named."""

import itertools

import pytest

from scratch_gpt import primer
from scratch_gpt.data.sources.filters import (
    NO_FILTERS,
    Filters,
    parse_filters,
    repeated_lines,
    repeated_ngrams,
)
from wording import user_error


def test_length_is_counted_in_characters():
    """Four letters of two bytes each are four characters; both limits are allowed lengths."""
    filters = Filters(min_characters=4, max_characters=5)
    assert [filters.broken_rule("\u00e9" * length) for length in (3, 4, 5, 6)] == [
        "min_characters",
        None,
        None,
        "max_characters",
    ]


def test_share_of_repeated_lines_by_hand():
    """Of ten lines of two characters, spaces aside, four came before: 8 of 20 characters; nine lines are too few."""
    lines = ["aa", "bb", " aa", "", "cc", "dd", "aa ", "bb", "bb", "ee", "ff"]
    assert repeated_lines("\n".join(lines)) == pytest.approx(0.4)
    assert repeated_lines("\n".join(["aa"] * 9)) == 0
    assert Filters(max_repeated_lines=0.39).broken_rule("\n".join(lines)) == "max_repeated_lines"
    assert Filters(max_repeated_lines=0.41).broken_rule("\n".join(lines)) is None


def test_share_of_repeated_ngrams_by_hand():
    """60 words of which the last ten are the first ten: 6 of the 56 sequences of five words came before."""
    words = [f"w{number}" for number in range(50)]
    text = " ".join(words + words[:10])
    assert repeated_ngrams(text) == pytest.approx(6 / 56)
    assert repeated_ngrams(" ".join(words[:24] * 2)) == 0, "48 words are too few"
    assert Filters(max_repeated_ngrams=0.1).broken_rule(text) == "max_repeated_ngrams"


def test_scripts_without_spaces_are_judged_by_characters():
    """A phrase of ten characters said twenty times is repetition, 200 different characters are not."""
    assert repeated_ngrams("".join(map(chr, range(0x4E00, 0x4E0A))) * 20) > 0.9
    assert repeated_ngrams("".join(map(chr, range(0x4E00, 0x4EC8)))) == 0


def test_defaults_leave_ordinary_text_alone():
    """No document of the primer is left out, nor a ballad whose refrain makes up half of it; a stuck record is."""
    texts = list(itertools.islice(primer.documents(seed=1), 2000))
    ballad = "\n".join(
        line
        for verse in range(12)
        for line in (
            f"The {verse} soldier came riding by number {verse}",
            "With a hey and a ho and a down-derry-down",
        )
    )
    assert {Filters().broken_rule(text) for text in [*texts, ballad]} == {None}
    assert Filters().broken_rule("click here to subscribe and " * 40) == "max_repeated_ngrams"


def test_false_is_no_filter_and_true_the_defaults():
    """The two short forms, and a mapping over the defaults."""
    assert parse_filters(False, "s") == NO_FILTERS
    assert parse_filters(True, "s") == Filters()
    assert parse_filters({"min_characters": 9}, "s") == Filters(min_characters=9)
    assert NO_FILTERS.broken_rule("spam " * 1000 + "\n" * 99) is None


MISTAKES = [
    ("web", user_error("wrong_value", "min_characters", setting="filters", value="web")),
    ({"min_words": 5}, user_error("unknown_key", "min_characters", key="min_words")),
    ({"min_characters": 1.5}, user_error("wrong_value", setting="min_characters", value=1.5)),
    ({"min_characters": None}, user_error("wrong_value", setting="min_characters", value=None)),
    ({"max_characters": -1}, user_error("wrong_value", setting="max_characters", value=-1)),
    ({"max_repeated_lines": 20}, user_error("wrong_value", setting="max_repeated_lines", value=20)),
    ({"max_repeated_ngrams": True}, user_error("wrong_value", setting="max_repeated_ngrams", value=True)),
    (
        {"min_characters": 9, "max_characters": 5},
        user_error("settings_conflict", 5, 9, setting="max_characters", other="min_characters"),
    ),
]


@pytest.mark.parametrize(("declared", "expected"), MISTAKES)
def test_mistake_is_one_clear_line(declared, expected):
    """Each names the source, the filter and the value."""
    with expected as caught:
        parse_filters(declared, "the source")
    assert "the source" in str(caught.value)
