# SPDX-License-Identifier: Apache-2.0
"""Each well-known failure of reinforcement learning, on histories made by hand."""

from typing import Any

import pytest

from scratch_gpt.training.rl.monitors import TESTS, check_run


START = {
    "step": 0,
    "eval_reward": 0.0,
    "eval_gold": 0.5,
    "eval_length": 20.0,
    "eval_repetition": 0.01,
    "eval_distinct_2": 0.5,
    "eval_entropy": 0.8,
    "eval_kl": 0.0,
    "eval_finished": 0.9,
}
# A good run: more reward, more gold, somewhat shorter answers, sharper, not far away.
GOOD = {**START, "step": 10, "eval_reward": 1.0, "eval_gold": 0.6, "eval_length": 13.0, "eval_entropy": 0.4}
GOOD |= {"eval_kl": 0.5, "eval_finished": 1.0, "eval_distinct_2": 0.48}


def test_a_good_run_has_none() -> None:
    """Nothing is said at the start, nor of a run that goes as it should."""
    assert check_run([START]) == []
    assert check_run([START, GOOD]) == []


@pytest.mark.parametrize(
    ("name", "change", "numbers"),
    [
        (
            "reward_hacking",
            {"eval_reward": 1.5, "eval_gold": 0.55},
            ("1.000", "1.500", "0.600", "0.550", "step 10"),
        ),
        ("length_drift", {"eval_length": 41.0}, ("20.0", "41.0")),
        ("length_drift", {"eval_length": 9.0}, ("20.0", "9.0")),
        ("repetition", {"eval_repetition": 0.08}, ("0.010", "0.080")),
        ("variety", {"eval_distinct_2": 0.44}, ("0.500", "0.440")),
        ("entropy_collapse", {"eval_entropy": 0.1}, ("0.800", "0.100")),
        ("kl_runaway", {"eval_kl": 4.5}, ("4.50", "13.0")),
        ("unfinished", {"eval_finished": 0.7}, ("0.90", "0.70")),
    ],
)
def test_each_failure_is_told_with_its_numbers(
    name: str, change: dict[str, float], numbers: tuple[str, ...]
) -> None:
    """One measurement that is wrong in one way gives that failure, and no other, with before and now."""
    (failure,) = check_run([START, GOOD, {**GOOD, "step": 20, **change}])
    assert failure.name == name
    assert all(number in failure.message for number in numbers)


@pytest.mark.parametrize(
    "change",
    [
        {"eval_reward": 0.9, "eval_gold": 0.5},  # both fell: a bad step, no hacking
        {"eval_reward": 1.5, "eval_gold": 0.58},  # within what chance does
        {"eval_length": 38.0},
        {"eval_repetition": 0.05},
        {"eval_distinct_2": 0.46},
        {"eval_entropy": 0.25},
        {"eval_kl": 3.5},
        {"eval_finished": 0.85},
    ],
)
def test_below_the_limits_nothing_is_said(change: dict[str, float]) -> None:
    """Each measure may move somewhat."""
    assert check_run([START, GOOD, {**GOOD, "step": 20, **change}]) == []


def test_without_a_gold_score_hacking_cannot_be_seen() -> None:
    """The others still can."""
    history: list[dict[str, Any]] = [
        {name: value for name, value in row.items() if name != "eval_gold"}
        for row in (START, {**GOOD, "eval_reward": 9.0, "eval_length": 100.0})
    ]
    assert [alert.name for alert in check_run(history)] == ["length_drift"]


def test_names_are_the_log_s() -> None:
    """Names are unique: each failure is told once by its name."""
    names = [test.__name__ for test in TESTS]
    assert len(set(names)) == len(names) == 7
