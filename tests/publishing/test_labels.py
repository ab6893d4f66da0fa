# SPDX-License-Identifier: Apache-2.0
"""Measures in words."""

import pytest

from scratch_gpt.publishing.labels import measure_label


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("eval_min_reward", "lowest reward"),
        ("eval_default_gold", "gold score (default decoding)"),
        ("facts/exact_match", "facts: exact answers"),
        ("stories/greedy_distinct_1", "stories: different words (greedy)"),
        ("temperature_1/gold_win_rate", "wins by gold score (temperature 1)"),
        ("some_task/some_measure", "some task: some measure"),
    ],
)
def test_measures_of_logs_and_results_have_words(name: str, label: str) -> None:
    """Prefix, task, decoding and measure, each in its place; an unknown name loses its underscores."""
    assert measure_label(name) == label
