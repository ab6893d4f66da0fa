# SPDX-License-Identifier: Apache-2.0
"""The results of several models side by side, read from their `results/*.json`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scratch_gpt.data.folders import read_json
from scratch_gpt.errors import UserError


# The benchmarks that models are compared by, in the order of the tables.
BENCHMARKS = ("qa", "translation", "generation")

# Categorical colours that also readers with a colour vision deficiency tell apart (Okabe and Ito 2008).
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#777777")

# Measures that are not a share of something: they stay out of the bar chart.
NOT_A_SHARE = ("bits_per_byte", "length", "tokens", "perplexity", "kl", "reward")
# Of the shares those of which less is better.
LESS_IS_BETTER = ("repetition", "asks_on", "self_bleu")
# Measures on a scale of 0 to 100.
OUT_OF_100 = ("bleu", "chrf")


@dataclass(frozen=True)
class Score:
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

    @property
    def full(self) -> float:
        """The value that means all."""
        return 100.0 if any(name in self.metric for name in OUT_OF_100) else 1.0


def read_result(file: str | Path) -> dict[str, Any]:
    """The content of a benchmark's result file.

    Raises:
        UserError: it is damaged, or something else.
    """
    result = read_json(file)
    if not isinstance(result, dict) or not isinstance(result.get("metrics"), dict):
        message = f"{file} holds no result of a benchmark: move it elsewhere, or run the benchmark again"
        raise UserError("not_a_result", message, file=file)
    return result


def read_results(folder: str | Path) -> dict[str, dict[str, Any]]:
    """Benchmark -> content of `folder/results/BENCHMARK.json`; errors as for `read_result`."""
    return {file.stem: read_result(file) for file in sorted((Path(folder) / "results").glob("*.json"))}


def compare(
    results: Mapping[str, Mapping[str, dict[str, Any]]], benchmarks: Sequence[str] = BENCHMARKS
) -> list[Score]:
    """Line up the results of several models: model -> `read_results` of its folder; `benchmarks` alone, in that order."""
    scores = []
    for benchmark in benchmarks:
        metrics = {model: read[benchmark]["metrics"] for model, read in results.items() if benchmark in read}
        for metric in dict.fromkeys(name for of_model in metrics.values() for name in of_model):
            values = {model: of_model[metric] for model, of_model in metrics.items() if metric in of_model}
            scores.append(Score(benchmark, metric, values))
    return scores
