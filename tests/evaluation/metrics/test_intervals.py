# SPDX-License-Identifier: Apache-2.0
"""Intervals by cluster and Wilson's, against values computed by hand."""

from collections import Counter

import numpy as np
import pytest

from scratch_gpt.evaluation.metrics.intervals import (
    bootstrap,
    mean_metric,
    number_clusters,
    print_table,
    wilson_ci,
)
from scratch_gpt.runs.results import Metric


def test_clusters_are_numbered_as_they_come() -> None:
    """Items of one key are one cluster, wherever they are; where no two are, there are no clusters."""
    assert number_clusters(["paris", "rome", "paris", "oslo"]) == (0, 1, 0, 2)
    assert number_clusters(["paris", "rome"]) is None
    assert mean_metric([1.0, 0.0, 1.0, 1.0], 0, clusters=(0, 1, 0, 2)).clusters == 3


def test_clusters_are_drawn_with_all_of_their_items() -> None:
    """Three right items of one content and one wrong of another: 1 and 0 with a chance of a quarter each, else 3/4."""
    drawn = bootstrap([1.0, 1.0, 0.0, 1.0], 0, resamples=4000, clusters=(0, 0, 1, 0))
    counts = Counter(drawn.tolist())
    assert counts.keys() == {0.0, 0.75, 1.0}
    assert counts[0.75] / 4000 == pytest.approx(0.5, abs=0.03)
    assert counts[1.0] / 4000 == pytest.approx(0.25, abs=0.03)


def test_one_content_asked_three_times_is_no_more_evidence() -> None:
    """The interval is that of the contents; items taken for independent would make it narrower by the root of three."""
    contents = np.random.default_rng(0).random(300)
    items, clusters = np.repeat(contents, 3).tolist(), np.repeat(np.arange(300), 3).tolist()

    def width(metric: Metric) -> float:
        return metric.ci95[1] - metric.ci95[0]

    clustered = width(mean_metric(items, 0, clusters=clusters))
    assert clustered == pytest.approx(2 * 1.96 * contents.std() / 300**0.5, rel=0.1)
    assert clustered == pytest.approx(width(mean_metric(contents.tolist(), 0)), rel=0.05)
    assert clustered / width(mean_metric(items, 0)) == pytest.approx(3**0.5, rel=0.1)


def test_right_or_wrong_has_the_interval_of_wilson() -> None:
    """9 of 10 by hand; shares between keep the bootstrap; in clusters only where all are right, by the clusters' number."""
    assert wilson_ci(0.9, 10) == pytest.approx((0.59584, 0.98212), abs=1e-5)
    assert mean_metric([1.0] * 9 + [0.0], 0).ci95 == wilson_ci(0.9, 10)
    assert mean_metric([0.5, 1.0, 0.0], 0).ci95 != wilson_ci(0.5, 3)
    assert mean_metric([1.0] * 6, 0, clusters=(0, 0, 1, 1, 2, 2)).ci95 == wilson_ci(1.0, 3)
    mixed = mean_metric([1.0, 1.0, 0.0, 1.0], 0, clusters=(0, 0, 1, 0))
    assert mixed.ci95 == (0.0, 1.0)


def test_the_table_says_clusters_and_few_items(capsys: pytest.CaptureFixture[str]) -> None:
    """Beside n; a number of two items is marked as one that says little."""
    print_table("t", {"m": {"facts": mean_metric([1.0, 0.5] * 40, 0, clusters=[0, 1, *range(2, 40)] * 2)}})
    out = capsys.readouterr().out
    assert "80 in 40" in out and "below 30" not in out
    print_table("t", {"m": {"pairs": mean_metric([1.0, 1.0], 0)}})
    assert "below 30" in capsys.readouterr().out
