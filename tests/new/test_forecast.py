# SPDX-License-Identifier: Apache-2.0
"""The scaling law: known constants are found again, repeated text and idle parameters are worth less, units agree."""

import itertools

import pytest

from scratch_gpt.new.forecast import Point, ScalingLaw, fit, stored, stored_law, text_difficulty


LAW = ScalingLaw(E=0.3, A=0.2, a=0.35, B=0.3, b=0.4)


def test_fresh_text_is_the_plain_law() -> None:
    """One million parameters and one million bytes, each read once: E + A + B."""
    point = Point(1e5, 8e6, 1e6, difficulty=2.0)
    expected = 2 * (0.3 + 0.2 * 0.1**-0.35 + 0.3)
    assert LAW.bits_per_byte(point) == pytest.approx(expected)


def test_repeats_are_worth_less_and_never_harm() -> None:
    """Ever more passes lower the expectation by ever less, and 64 passes are worth less than six times the text."""
    values = [LAW.bits_per_byte(Point(1e5, 1e7, passes * 1e7, 2.0)) for passes in (1, 2, 4, 8, 16, 32, 64)]
    gains = [before - after for before, after in itertools.pairwise(values)]
    assert all(gain > 0 for gain in gains) and gains == sorted(gains, reverse=True)
    assert values[-1] > LAW.bits_per_byte(Point(1e5, 6e7, 6e7, 2.0))


def test_known_constants_are_found_again() -> None:
    """Points of a law, without noise."""
    points = [
        Point(size, 1e9, seen, difficulty)
        for size, seen in itertools.product((1e5, 1e6, 1e7), (1e6, 1e7, 1e8))
        for difficulty in (2.0, 3.0)
    ]
    points = [point._replace(bits_per_byte=LAW.bits_per_byte(point)) for point in points]
    found, error = fit(points)
    assert error < 0.01
    assert [found.bits_per_byte(point) for point in points] == pytest.approx(
        [point.bits_per_byte for point in points], rel=0.03
    )


def test_what_is_stored_is_the_fit_of_its_runs() -> None:
    """The constants follow from the runs beside them, which the command made."""
    points = [Point(**{name: run[name] for name in Point._fields}) for run in stored()["runs"]]
    law, error = fit(points)
    assert law == stored_law()
    assert round(error, 4) == stored()["error"]
    assert "scaling_fit.py" in stored()["command"]
    assert all(example["text"] for example in stored()["examples"])


def test_a_harder_text_needs_more_bits() -> None:
    """Repeating words, counting numbers, random bytes."""
    easy = ["to be or not to be that is the question " * 100]
    hard = [" ".join(str(number * 7919 % 10007) for number in range(1000))]
    assert text_difficulty(easy, easy) < 0.3 < text_difficulty(hard, [hard[0][::-1]])
