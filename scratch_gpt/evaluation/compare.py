# SPDX-License-Identifier: Apache-2.0
"""`scratch-gpt compare`: the results of several models side by side, each against the first by the paired bootstrap.

Items that ask one content several ways are drawn together. Koehn 2004, "Statistical Significance Tests for Machine Translation Evaluation"; the p-value is the two-sided one of Efron
and Tibshirani 1993, section 16.4: how often drawing items moves the difference by as much as it is from nothing. With few
differing items it is that of the sign test, where all of them speak for one model.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scratch_gpt.errors import UserError
from scratch_gpt.evaluation.metrics.intervals import RESAMPLES, bootstrap
from scratch_gpt.evaluation.metrics.item_statistics import STATISTICS
from scratch_gpt.runs.results import read_items, read_results


# The benchmarks that models are compared by, in the order of the tables.
BENCHMARKS = ("qa", "translation", "generation")
# What the results of lm-eval's tasks begin with.
LM_EVAL = "lm_eval_"

# Measures that are not a share of something: they stay out of the bar chart.
NOT_A_SHARE = ("bits_per_byte", "length", "tokens", "perplexity", "kl", "reward", "loss", "entropy")
# Better when lower; of lm-eval's tasks the results say it.
LESS_IS_BETTER = (
    *("repetition", "loops", "continues_with_question", "self_bleu"),  # shares
    *("bits_per_byte", "perplexity", "loss"),
)
# Measures on a scale of 0 to 100.
OUT_OF_100 = ("bleu", "chrf")

# A written score -> the same content as a choice. A model that ranks this share of the choices right knows the content, and a gain in
# writing of so much is the form's.
ELICITED = {"facts/exact_match": "choices/accuracy", "facts/f1": "choices/accuracy"}
KNOWN, GAIN = 0.9, 0.2

ROUNDING = 1e-9
# Of what is printed.
WIDTH = 80


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
        note: what else is known of the row.
    """

    benchmark: str
    metric: str
    values: Mapping[str, Mapping[str, Any]]
    note: str = ""

    @property
    def title(self) -> str:
        """The measure as tables name it, with the note."""
        return f"{self.metric} ({self.note})" if self.note else self.metric

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
        return not self._is_one_of(NOT_A_SHARE)

    @property
    def is_more_better(self) -> bool:
        """Whether a larger value is the better one."""
        said = any(value.get("less_is_better") for value in self.values.values())
        return not (said or self._is_one_of(LESS_IS_BETTER))

    def verdict(self, difference: Difference) -> str:
        """Whether a significant difference is for the better or the worse; higher or lower where neither is the better one."""
        if not difference.is_significant:
            return "no difference found"
        if self.is_share or not self.is_more_better:
            return "better" if (difference.value > 0) == self.is_more_better else "worse"
        return "higher" if difference.value > 0 else "lower"

    def is_worse(self, difference: Difference) -> bool:
        """Whether the difference is significant and to the worse."""
        return self.verdict(difference) == "worse"

    @property
    def full(self) -> float:
        """The value that means all."""
        return 100.0 if self._is_one_of(OUT_OF_100) else 1.0

    def _is_one_of(self, measures: Sequence[str]) -> bool:
        """Whether it is one of these measures, also "greedy_..." or "sampled_..."; names of sources and kinds do not count."""
        own = self.metric.rpartition("/")[2]
        return any(own == measure or own.endswith(f"_{measure}") for measure in measures)


def compare(
    results: Mapping[str, Mapping[str, dict[str, Any]]], benchmarks: Sequence[str] | None = None
) -> list[Comparison]:
    """Line up the results of several models: model -> `read_results` of its folder.

    Args:
        benchmarks: these alone, in that order; default: BENCHMARKS and the tasks of lm-eval.
    """
    scores = []
    for benchmark in benchmarks or (*BENCHMARKS, *lm_eval_benchmarks(results)):
        metrics = {model: read[benchmark]["metrics"] for model, read in results.items() if benchmark in read}
        for metric in dict.fromkeys(name for of_model in metrics.values() for name in of_model):
            values = {model: of_model[metric] for model, of_model in metrics.items() if metric in of_model}
            scores.append(Comparison(benchmark, metric, values, _elicited(metric, values, metrics)))
    return scores


def main_scores(scores: Sequence[Comparison]) -> list[Comparison]:
    """The first share of each task that is better when higher and has a known chance level."""
    found: dict[tuple[str, str], Comparison] = {}
    for score in scores:
        if score.is_headline and score.is_share and score.is_more_better and score.chance is not None:
            found.setdefault((score.benchmark, score.metric.partition("/")[0]), score)
    return list(found.values())


def lm_eval_benchmarks(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The tasks of lm-eval that any of the models has results of."""
    return sorted({name for found in results.values() for name in found if name.startswith(LM_EVAL)})


def _elicited(
    metric: str, values: Mapping[str, Mapping[str, Any]], metrics: Mapping[str, Mapping[str, Any]]
) -> str:
    """Which model already knows what it does not write, where another one writes it: tuning taught the form, no facts."""
    ranks = ELICITED.get(metric, "")
    for model, value in values.items():
        known = metrics[model].get(ranks, {}).get("value", 0.0)
        gain = max(other["value"] for other in values.values()) - value["value"]
        if known >= KNOWN and gain >= GAIN:
            return f"elicited, not learned: {model} ranks {known:.2f} of the choices right"
    return ""


def paired_difference(
    rows: np.ndarray,
    others: np.ndarray,
    statistic: str,
    seed: int = 0,
    resamples: int = RESAMPLES,
    clusters: Sequence[int] | None = None,
) -> Difference:
    """Score of `rows` less that of `others`, both of shape (items, k), the same items in the same order.

    Args:
        clusters: of each item; clusters are drawn, see `bootstrap`.
    """
    compute, (count, width) = STATISTICS[statistic], rows.shape
    both = np.hstack([rows, others, np.ones((count, 1))])

    def difference(sums: np.ndarray) -> float:
        return compute(sums[:width], sums[-1]) - compute(sums[width:-1], sums[-1])

    value, groups = difference(both.sum(axis=0)), clusters or range(count)
    drawn = bootstrap(both, seed, difference, resamples, clusters)
    low, high = np.quantile(drawn, [0.025, 0.975])
    # at least as far from the difference as that is from nothing, but for rounding
    extreme = int((np.abs(drawn - value) >= abs(value) - ROUNDING).sum())
    # Draws of a few items are all alike. No test by swapping the two models' items finds less than this.
    differing = len({place for place, same in zip(groups, (rows == others).all(axis=1)) if not same})
    p_value = max((extreme + 1) / (resamples + 1), min(1.0, 2.0 ** (1 - differing)))
    return Difference(value, (float(low), float(high)), p_value)


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
    # results from before there were clusters have none
    clusters = entry.get("clusters") or other.get("clusters")
    return paired_difference(rows, others, entry["statistic"], seed, clusters=clusters)


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


def comparison_lines(scores: Sequence[Comparison], differences: Differences) -> list[str]:
    """Each number with its interval, a line a model, and below its name in words how the model differs from the first."""
    models = list(dict.fromkeys(model for score in scores for model in score.values))
    letters = {model: chr(ord("A") + number) for number, model in enumerate(models)}
    lines = [f"{letter}  {model}" for model, letter in letters.items()]
    for benchmark in dict.fromkeys(score.benchmark for score in scores):
        lines += ["", benchmark]
        for score in scores:
            if score.benchmark == benchmark:
                lines += _score_lines(score, letters, differences)
    tested = len(differences)
    untested = sum(model in score.values for score in scores for model in models[1:]) - tested
    notes = [
        f"Better and worse: than {letters[models[0]]} on the same items, p < 0.05 (paired bootstrap). Tests: {tested}; "
        f"where nothing differs, about {0.05 * tested:.0f} of them find a difference by chance."
    ]
    if untested:
        notes.append(
            f"Not tested: {untested}, whose items are not stored or not the same. Intervals that do not overlap differ; of "
            "others that says nothing."
        )
    return [*lines, "", *(line for note in notes for line in textwrap.wrap(note, WIDTH))]


def _score_lines(score: Comparison, letters: Mapping[str, str], differences: Differences) -> list[str]:
    """On the left the name and a verdict for each model but the first, on the right the models' numbers."""
    lines = []
    chance = "" if score.chance is None else f"  chance {score.chance:.3f}"
    for number, (model, letter) in enumerate(letters.items()):
        if number and model not in score.values:
            continue
        difference = differences.get((score.benchmark, score.metric, model))
        left = f"  {_verdict(score, difference)}" if number else score.metric
        lines.append(f"  {left:<37} {letter} {_value(score.values.get(model))}{'' if number else chance}")
    indent = " " * 4
    return lines + textwrap.wrap(score.note, WIDTH, initial_indent=indent, subsequent_indent=indent)


def _value(metric: Mapping[str, Any] | None) -> str:
    if metric is None:
        return "-"
    low, high = metric["ci95"]
    return f"{metric['value']:.3f} [{low:.3f}, {high:.3f}]"


def _verdict(score: Comparison, difference: Difference | None) -> str:
    if difference is None:
        return "not tested"
    words = score.verdict(difference)
    by = f" by {abs(difference.value):.3f}" if difference.is_significant else ""
    return f"{words}{by} (p = {difference.p_value:.3f})"
