# SPDX-License-Identifier: Apache-2.0
"""`scratch-gpt compare`: the results of several models side by side, each against the first by the paired bootstrap.

Koehn 2004, "Statistical Significance Tests for Machine Translation Evaluation"; the p-value is the two-sided one of Efron
and Tibshirani 1993, section 16.4: how often drawing items moves the difference by as much as it is from nothing.
"""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from scratch_gpt.errors import UserError
from scratch_gpt.evaluation.metrics.intervals import RESAMPLES, bootstrap
from scratch_gpt.runs.results import read_items, read_results
from scratch_gpt.tasks.scores import bits_per_byte, corpus_metrics, corpus_score


# The benchmarks that models are compared by, in the order of the tables.
BENCHMARKS = ("qa", "translation", "generation")

# Measures that are not a share of something: they stay out of the bar chart.
NOT_A_SHARE = ("bits_per_byte", "length", "tokens", "perplexity", "kl", "reward")
# Of the shares those of which less is better.
LESS_IS_BETTER = ("repetition", "continues_with_question", "self_bleu")
# Of the others those of which less is better.
LOSSES = ("bits_per_byte", "perplexity")
# Measures on a scale of 0 to 100.
OUT_OF_100 = ("bleu", "chrf")

ROUNDING = 1e-9
BLEU, CHRF = corpus_metrics().values()

# What a number is computed by, from the sum of its items' rows, shape (k,), and the number of items.
STATISTICS: dict[str, Callable[[np.ndarray, int], float]] = {
    "mean": lambda sums, count: float(sums[0] / count),
    "perplexity": lambda sums, count: math.exp(sums[0] / count),
    "ratio": lambda sums, count: float(sums[0] / sums[1]),
    "bits_per_byte": lambda sums, count: bits_per_byte(*sums),
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


@dataclass(frozen=True)
class Comparison:
    """One measure of one benchmark, for several models.

    Args:
        benchmark: name of the result file.
        metric: name of the measure in it.
        values: model -> `{"value", "ci95", "chance"}`.
    """

    benchmark: str
    metric: str
    values: Mapping[str, Mapping[str, Any]]

    @property
    def chance(self) -> float | None:
        """What guessing scores, where that is known."""
        return next((value["chance"] for value in self.values.values()), None)

    @property
    def is_headline(self) -> bool:
        """Whether the measure is about a whole task (`TASK/MEASURE`), not one kind of its examples."""
        return self.metric.count("/") <= 1

    @property
    def is_share(self) -> bool:
        """Whether the measure lies between nothing and all (0 to 1, or 0 to 100)."""
        return not any(name in self.metric for name in NOT_A_SHARE)

    @property
    def is_more_better(self) -> bool:
        """Whether a larger share is the better one."""
        return not any(name in self.metric for name in LESS_IS_BETTER)

    def is_worse(self, difference: Difference) -> bool:
        """Whether the difference is significant and to the worse; False where neither direction is the better one."""
        is_less_better = not self.is_more_better or any(name in self.metric for name in LOSSES)
        if not (self.is_share or is_less_better) or not difference.is_significant:
            return False
        return difference.value > 0 if is_less_better else difference.value < 0

    @property
    def full(self) -> float:
        """The value that means all."""
        return 100.0 if any(name in self.metric for name in OUT_OF_100) else 1.0


def compare(
    results: Mapping[str, Mapping[str, dict[str, Any]]], benchmarks: Sequence[str] = BENCHMARKS
) -> list[Comparison]:
    """Line up the results of several models: model -> `read_results` of its folder; `benchmarks` alone, in that order."""
    scores = []
    for benchmark in benchmarks:
        metrics = {model: read[benchmark]["metrics"] for model, read in results.items() if benchmark in read}
        for metric in dict.fromkeys(name for of_model in metrics.values() for name in of_model):
            values = {model: of_model[metric] for model, of_model in metrics.items() if metric in of_model}
            scores.append(Comparison(benchmark, metric, values))
    return scores


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


def headline_differences(folder: str | Path, other: str | Path) -> dict[tuple[str, str], Difference]:
    """(benchmark, metric) -> what the model in `folder` scores more than the one in `other`, of whole tasks on the same items."""
    items, others = read_items(folder), read_items(other)
    found = {
        place: item_difference(entry, others.get(place))
        for place, entry in items.items()
        if place[1].count("/") <= 1
    }
    return {place: difference for place, difference in found.items() if difference is not None}


# (benchmark, metric, model) -> how the model differs from the first one.
Differences = dict[tuple[str, str, str], Difference]


def compare_folders(
    folders: Sequence[str], all_kinds: bool = False, seed: int = 0
) -> tuple[list[Comparison], Differences]:
    """Line up the result files of model folders, and test each against the first.

    Raises:
        UserError: fewer than two folders, or one twice; a folder without results; no number that two of them have.
    """
    if len(folders) < 2 or len(set(folders)) < len(folders):
        message = f"compare takes two or more different folders, got {' '.join(folders) or 'none'}"
        raise UserError("too_few_folders", message, folders=folders)
    results = {folder: read_results(folder) for folder in folders}
    for folder, found in results.items():
        if not found:
            message = (
                f"no results in {folder}/results: run a benchmark first, as scratch-gpt qa --model {folder}"
            )
            raise UserError("no_results", message, folder=folder)
    benchmarks = dict.fromkeys((*BENCHMARKS, *(name for found in results.values() for name in found)))
    scores = [
        score
        for score in compare(results, list(benchmarks))
        if len(score.values) > 1 and (all_kinds or score.is_headline)
    ]
    if not scores:
        message = "no number that two of the folders have: run the same benchmark on each"
        raise UserError("no_common_metric", message)
    first, *others = folders
    items = {folder: read_items(folder) for folder in folders}
    differences = {}
    for score in scores:
        place = (score.benchmark, score.metric)
        for folder in others:
            found_difference = item_difference(items[folder].get(place), items[first].get(place), seed)
            if found_difference is not None:
                differences[(*place, folder)] = found_difference
    return scores, differences


def print_comparison(scores: Sequence[Comparison], differences: Differences) -> None:
    """One row a number, one column a model; what stands apart from the first model's on the same items has a star."""
    models = list(dict.fromkeys(model for score in scores for model in score.values))
    table = Table("benchmark", "metric", *models, "chance", title="Each model against the first")
    for score in scores:
        cells = []
        for model in models:
            difference = differences.get((score.benchmark, score.metric, model))
            cells.append(_cell(score, model, difference))
        chance = "-" if score.chance is None else f"{score.chance:.3f}"
        table.add_row(score.benchmark, score.metric, *cells, chance)
    console = Console(
        width=None if sys.stdout.isatty() else 60 + 50 * len(models), highlight=False, markup=False
    )
    console.print(table)
    tested = len(differences)
    pairs = len(scores) * (len(models) - 1)
    console.print(
        f"* differs from {models[0]} on the same items (paired bootstrap, p < 0.05). Tests: {tested}; where nothing "
        f"differs, about {0.05 * tested:.0f} of them get a star by chance.",
        soft_wrap=True,
    )
    if tested < pairs:
        console.print(
            f"Not tested: {pairs - tested}, whose items are not stored or not the same. Intervals that do not overlap "
            "differ; of others that says nothing.",
            soft_wrap=True,
        )


def _cell(score: Comparison, model: str, difference: Difference | None) -> str:
    if model not in score.values:
        return "-"
    low, high = score.values[model]["ci95"]
    text = f"{score.values[model]['value']:.3f} [{low:.3f}, {high:.3f}]"
    if difference is None:
        return text
    star = "*" if difference.is_significant else ""
    return f"{text} {difference.value:+.3f}{star} (p={difference.p_value:.3f})"
