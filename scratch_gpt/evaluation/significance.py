# SPDX-License-Identifier: Apache-2.0
"""Whether one model scores better than another on the same items: the paired bootstrap.

Koehn 2004, "Statistical Significance Tests for Machine Translation Evaluation"; the p-value is the two-sided one of Efron
and Tibshirani 1993, section 16.4: how often drawing items moves the difference by as much as it is from nothing.
"""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scratch_gpt.errors import UserError
from scratch_gpt.evaluation import scores
from scratch_gpt.evaluation.runner import RESAMPLES, bootstrap
from scratch_gpt.evaluation.translation import corpus_metrics, corpus_score


ROUNDING = 1e-9
BLEU, CHRF = corpus_metrics().values()

# What a number is computed by, from the sum of its items' rows, shape (k,), and the number of items.
STATISTICS: dict[str, Callable[[np.ndarray, int], float]] = {
    "mean": lambda sums, count: float(sums[0] / count),
    "perplexity": lambda sums, count: math.exp(sums[0] / count),
    "ratio": lambda sums, count: float(sums[0] / sums[1]),
    "bits_per_byte": lambda sums, count: scores.bits_per_byte(*sums),
    "bleu": lambda sums, count: corpus_score(BLEU, sums),
    "chrf": lambda sums, count: corpus_score(CHRF, sums),
}


class Difference(NamedTuple):
    """How much more one model scores than another: the difference, its 95% interval, the p-value of no difference."""

    value: float
    ci95: tuple[float, float]
    p_value: float

    @property
    def is_significant(self) -> bool:
        """At the 5% level."""
        return self.p_value < 0.05


def paired_difference(
    rows: np.ndarray, others: np.ndarray, statistic: str, seed: int = 0, resamples: int = RESAMPLES
) -> Difference:
    """Score of `rows` less that of `others`, both of shape (items, k), the same items in the same order."""
    compute, (count, width) = STATISTICS[statistic], rows.shape
    both = np.hstack([rows, others])

    def difference(sums: np.ndarray) -> float:
        return compute(sums[:width], count) - compute(sums[width:], count)

    value = difference(both.sum(axis=0))
    drawn = bootstrap(both, seed, difference, resamples)
    low, high = np.quantile(drawn, [0.025, 0.975])
    # at least as far from the difference as that is from nothing, but for rounding
    extreme = int((np.abs(drawn - value) >= abs(value) - ROUNDING).sum())
    return Difference(value, (float(low), float(high)), (extreme + 1) / (resamples + 1))


def read_items(folder: str | Path) -> dict[tuple[str, str], dict[str, Any]]:
    """(benchmark, metric) -> its line of `folder/results/BENCHMARK.items.jsonl`.

    Raises:
        UserError: a damaged file.
    """
    items: dict[tuple[str, str], dict[str, Any]] = {}
    for file in sorted((Path(folder) / "results").glob("*.items.jsonl")):
        try:
            entries = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        except ValueError as error:
            message = f"cannot read {file} ({error}): delete it, or run the benchmark again"
            raise UserError("unreadable_file", message, file=file) from None
        items |= {(file.name.removesuffix(".items.jsonl"), entry["metric"]): entry for entry in entries}
    return items


def item_difference(
    entry: Mapping[str, Any] | None, other: Mapping[str, Any] | None, seed: int = 0
) -> Difference | None:
    """The difference of two lines of items; None where they are missing or not of the same items.

    Where no examples were asked, blocks of the same numbers of bytes (bits per byte) are taken for the same, and rows of one
    number, which do not tell, for others.
    """
    if entry is None or other is None:
        return None
    rows, others = np.array(entry["rows"]), np.array(other["rows"])
    same = entry["statistic"] == other["statistic"] and rows.shape == others.shape
    if entry["examples"] is None:
        same = same and rows.shape[1] > 1 and np.array_equal(rows[:, 1:], others[:, 1:])
    if not same or entry["examples"] != other["examples"]:
        return None
    return paired_difference(rows, others, entry["statistic"], seed)
