# SPDX-License-Identifier: Apache-2.0
"""What is called a gain: significant at the default decoding, and greedy answers no worse."""

import pytest

from scratch_gpt.evaluation.metrics.intervals import mean_metric
from scratch_gpt.runs.results import Metric
from scratch_gpt.training.rl.verdict import changes, verdict
from wording import shows


def scores(right: int, greedy: int, judge: str = "gold") -> dict[str, Metric]:
    """Of 100 answers so many are right, with the default decoding and greedy."""
    counts = {"default": right, "greedy": greedy}
    return {
        f"{decoding}/{judge}": mean_metric([float(place < count) for place in range(100)], 0)
        for decoding, count in counts.items()
    }


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (scores(60, 50), ("0.500 -> 0.600", "+0.100", ": a gain", "greedy +0.000")),
        (scores(51, 50), ("+0.010", "no gain")),  # chance does that
        (scores(60, 49), ("+0.100", "no gain", "greedy -0.010")),
        (scores(40, 60), ("-0.100", "no gain")),
    ],
)
def test_a_gain_is_one_that_people_meet(after: dict[str, Metric], words: tuple[str, ...]) -> None:
    """From 50 of 100 right in both decodings."""
    before = scores(50, 50)
    line = verdict(before, after, changes(before, after, seed=0))
    assert shows(line, "Gold score", "default decoding", *words)
    assert (": a gain" in line) == (": a gain" in words)


def test_a_reward_alone_decides_nothing() -> None:
    """Without a gold score the line says that it shows what was optimized."""
    before, after = scores(50, 50, "reward"), scores(90, 90, "reward")
    line = verdict(before, after, changes(before, after, seed=0))
    assert shows(line, "Reward score", "0.500 -> 0.900", "optimized")
    assert "gain" not in line


def test_a_model_that_is_kept_is_no_gain() -> None:
    """Where nothing was better than the model before, the line says that it was kept."""
    before = scores(50, 60)
    assert shows(verdict(before, before, changes(before, before, 0)), "0.500", "no gain", "kept")


def test_changes_are_paired() -> None:
    """The difference of the same items, by hand; what has no items has no change."""
    before = {"x": mean_metric([0.0, 1.0, 0.0, 1.0], 0), "y": Metric(1.0, (1.0, 1.0))}
    after = {"x": mean_metric([1.0, 1.0, 0.0, 1.0], 0), "y": Metric(2.0, (2.0, 2.0))}
    found = changes(before, after, seed=0)
    assert found.keys() == {"x"}
    assert found["x"].value == pytest.approx(0.25)
    assert found["x"].ci95[0] == 0.0  # no item became worse
