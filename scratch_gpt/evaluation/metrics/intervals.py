# SPDX-License-Identifier: Apache-2.0
"""Numbers with intervals: the bootstrap over items, and the table that shows them."""

import sys
from collections.abc import Callable, Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from scratch_gpt.runs.results import Items, Metric


RESAMPLES = 1000


def bootstrap(
    rows: Sequence[float] | np.ndarray,
    seed: int,
    score: Callable[[np.ndarray], float] | None = None,
    resamples: int = RESAMPLES,
) -> np.ndarray:
    """The score of items drawn again with replacement, so many times (Efron 1979): shape (resamples,).

    Args:
        rows: one number per item, shape (n,), or additive statistics of each, shape (n, k).
        score: what to compute from the summed statistics, shape (k,); default: the mean of the numbers.
    """
    items = np.asarray(rows, dtype=np.float64).reshape(len(rows), -1)
    compute = score or (lambda sums: sums[0] / len(items))
    random = np.random.default_rng(seed)
    return np.array(
        [compute(items[random.integers(len(items), size=len(items))].sum(axis=0)) for _ in range(resamples)]
    )


def bootstrap_ci(
    rows: Sequence[float] | np.ndarray,
    seed: int,
    score: Callable[[np.ndarray], float] | None = None,
    resamples: int = RESAMPLES,
) -> tuple[float, float]:
    """95% percentile interval of `bootstrap`."""
    low, high = np.quantile(bootstrap(rows, seed, score, resamples), [0.025, 0.975])
    return float(low), float(high)


def mean_metric(
    values: Sequence[float], seed: int, chance: float | None = None, *, share: bool = True
) -> Metric:
    """The mean over items with its interval: the bootstrap's, and Wilson's (1927) of shares that are all 0 or all 1.

    Args:
        share: whether the values are shares, from 0 to 1. No others have an interval where all are the same.
    """
    mean, (low, high) = float(np.mean(values)), bootstrap_ci(values, seed)
    if share and low == high in (0.0, 1.0):
        margin = 1.96**2 / (len(values) + 1.96**2)
        low, high = mean * (1 - margin), mean + (1 - mean) * margin
    items = Items("mean", tuple((float(value),) for value in values))
    return Metric(mean, (low, high), chance, len(values), items=items)


def print_table(title: str, results: dict[str, dict[str, Metric]]) -> None:
    """Print a column per model, a row per metric that any of them has: numbers, intervals, spread over seeds."""

    def cell(metric: Metric | None) -> str:
        spread = f" ± {metric.as_json()['spread']:.3f}" if metric and metric.seeds else ""
        return f"{metric.value:.3f}{spread} [{metric.ci95[0]:.3f}, {metric.ci95[1]:.3f}]" if metric else "-"

    table = Table("metric", "n", *results, "chance", "baselines", title=title)
    for name in dict.fromkeys(name for metrics in results.values() for name in metrics):
        known = [metrics[name] for metrics in results.values() if name in metrics]
        chances = dict.fromkeys("-" if metric.chance is None else f"{metric.chance:.3f}" for metric in known)
        cells = [cell(metrics.get(name)) for metrics in results.values()]
        baselines = ", ".join(f"{label} {value:.3f}" for label, value in (known[0].baselines or {}).items())
        count = "-" if known[0].n is None else f"{known[0].n:,}"
        table.add_row(name, count, *cells, " / ".join(chances), baselines or "-")
    # a pipe has no width: as many columns as the table needs
    Console(width=None if sys.stdout.isatty() else 130 + 40 * len(results), markup=False).print(table)
