# SPDX-License-Identifier: Apache-2.0
"""Numbers with intervals: the bootstrap over items, and the table that shows them."""

import math
import sys
from collections.abc import Callable, Hashable, Iterable, Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from scratch_gpt.runs.results import FEW, Items, Metric


RESAMPLES = 1000


def cluster_sums(rows: np.ndarray, clusters: Sequence[int] | None) -> np.ndarray:
    """The rows of each cluster added up: (items, k) -> (clusters, k); without clusters, the rows as they are."""
    if clusters is None:
        return rows
    sums = np.zeros((max(clusters) + 1, rows.shape[1]))
    np.add.at(sums, np.asarray(clusters), rows)
    return sums


def number_clusters(keys: Iterable[Hashable]) -> tuple[int, ...] | None:
    """Each item's cluster, numbered in the order of appearance; None where each item is one of its own."""
    keys = list(keys)
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return tuple(numbers[key] for key in keys) if len(numbers) < len(keys) else None


def bootstrap(
    rows: Sequence[float] | np.ndarray,
    seed: int,
    score: Callable[[np.ndarray], float] | None = None,
    resamples: int = RESAMPLES,
    clusters: Sequence[int] | None = None,
) -> np.ndarray:
    """The score of items drawn again with replacement (Efron 1979): shape (resamples,).

    Args:
        rows: one number per item, shape (n,), or additive statistics of each, shape (n, k).
        score: what to compute from the summed statistics, shape (k,); default: the mean of the numbers.
        clusters: of each item, from `number_clusters`: clusters are drawn, each with all of its items (Davison and
            Hinkley 1997, section 3.8). What asks one content several ways is one draw, not several.
    """
    items = np.asarray(rows, dtype=np.float64).reshape(len(rows), -1)
    if score is None:
        items = np.hstack([items, np.ones((len(items), 1))])
    compute = score or (lambda sums: sums[0] / sums[-1])
    drawn = cluster_sums(items, clusters)
    random = np.random.default_rng(seed)
    return np.array(
        [compute(drawn[random.integers(len(drawn), size=len(drawn))].sum(axis=0)) for _ in range(resamples)]
    )


def bootstrap_ci(
    rows: Sequence[float] | np.ndarray,
    seed: int,
    score: Callable[[np.ndarray], float] | None = None,
    resamples: int = RESAMPLES,
    clusters: Sequence[int] | None = None,
) -> tuple[float, float]:
    """95% percentile interval of `bootstrap`."""
    low, high = np.quantile(bootstrap(rows, seed, score, resamples, clusters), [0.025, 0.975])
    return float(low), float(high)


def wilson_ci(share: float, n: int) -> tuple[float, float]:
    """95% interval of a share of `n` independent items that are right or wrong (Wilson 1927)."""
    squared = 1.96**2
    center = (share + squared / (2 * n)) / (1 + squared / n)
    margin = math.sqrt(squared * (share * (1 - share) / n + squared / (4 * n * n))) / (1 + squared / n)
    return max(0.0, center - margin), min(1.0, center + margin)


def mean_metric(
    values: Sequence[float],
    seed: int,
    chance: float | None = None,
    *,
    share: bool = True,
    clusters: Sequence[int] | None = None,
) -> Metric:
    """The mean over items with its interval: Wilson's where each is right or wrong, else the bootstrap's.

    Args:
        share: whether the values are shares, from 0 to 1. No others have an interval where all are the same.
        clusters: see `bootstrap`; Wilson's is then for shares that are all 0 or all 1, with the number of clusters as n.
    """
    mean, drawn = float(np.mean(values)), len(values) if clusters is None else max(clusters) + 1
    if share and set(values) <= {0.0, 1.0} and (clusters is None or mean in (0.0, 1.0)):
        interval = wilson_ci(mean, drawn)
    else:
        interval = bootstrap_ci(values, seed, clusters=clusters)
    numbered = None if clusters is None else tuple(clusters)
    items = Items("mean", tuple((float(value),) for value in values), numbered)
    return Metric(mean, interval, chance, len(values), items=items)


def print_table(title: str, results: dict[str, dict[str, Metric]]) -> None:
    """Print a column per model, a row per metric that any of them has: numbers, intervals, spread over seeds."""

    def cell(metric: Metric | None) -> str:
        spread = f" ± {metric.as_json()['spread']:.3f}" if metric and metric.seeds else ""
        return f"{metric.value:.3f}{spread} [{metric.ci95[0]:.3f}, {metric.ci95[1]:.3f}]" if metric else "-"

    few = clustered = False
    table = Table("metric", "n", *results, "chance", "baselines", title=title)
    for name in dict.fromkeys(name for metrics in results.values() for name in metrics):
        known = [metrics[name] for metrics in results.values() if name in metrics]
        chances = dict.fromkeys("-" if metric.chance is None else f"{metric.chance:.3f}" for metric in known)
        cells = [cell(metrics.get(name)) for metrics in results.values()]
        baselines = ", ".join(f"{label} {value:.3f}" for label, value in (known[0].baselines or {}).items())
        count = "-" if known[0].n is None else f"{known[0].n:,}"
        count += f" in {known[0].clusters:,}" if known[0].clusters else ""
        few |= known[0].n is not None and (known[0].clusters or known[0].n) < FEW
        clustered |= known[0].clusters is not None
        table.add_row(name, count, *cells, " / ".join(chances), baselines or "-")
    # a pipe has no width: as many columns as the table needs
    console = Console(width=None if sys.stdout.isatty() else 130 + 40 * len(results), markup=False)
    console.print(table)
    if clustered:
        console.print("n: items in clusters of one content, by which intervals are drawn", soft_wrap=True)
    if few:
        console.print(f"n below {FEW}: such a number says little", soft_wrap=True)
