# SPDX-License-Identifier: Apache-2.0
"""The files of `results/`: a benchmark's numbers, and the items that they were computed from."""

import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers

import scratch_gpt
from scratch_gpt.errors import UserError
from scratch_gpt.runs.folders import atomic_write, read_json


# Of fewer items, a number says little: its interval spans a third of the scale and more.
FEW = 30


class Items(NamedTuple):
    """What a number is computed from, item by item, so that two models can be compared on the same items.

    Args:
        statistic: how the rows' sum becomes the number, a name in `item_statistics.STATISTICS`.
        rows: additive statistics of each item, all of one length.
        clusters: of each item, the number of its cluster: items that ask one content; None: no two do.
    """

    statistic: str
    rows: tuple[tuple[float, ...], ...]
    clusters: tuple[int, ...] | None = None


class Metric(NamedTuple):
    """One number of a result.

    Args:
        value: the number.
        ci95: its 95% interval.
        chance: what ignorance gets, where that is defined.
        n: number of items.
        baselines: what trivial strategies get, by their names.
        seeds: the value under each seed, where there are several; `value` is their mean.
        items: beside the result file, not in it.
        less_is_better: said where the name of the measure does not say it.
    """

    value: float
    ci95: tuple[float, float]
    chance: float | None = None
    n: int | None = None
    baselines: dict[str, float] | None = None
    seeds: dict[str, float] | None = None
    items: Items | None = None
    less_is_better: bool | None = None

    @property
    def clusters(self) -> int | None:
        """How many contents the items ask; None where each asks another one, or it is not known."""
        return max(self.items.clusters) + 1 if self.items and self.items.clusters else None

    def as_json(self) -> dict[str, Any]:
        """The entry of a result file; what is optional is in it only where it is known."""
        entry: dict[str, Any] = {"value": self.value, "ci95": self.ci95, "chance": self.chance}
        entry |= {
            key: getattr(self, key)
            for key in ("n", "clusters", "baselines", "seeds", "less_is_better")
            if getattr(self, key) is not None
        }
        if self.seeds is not None:
            entry["spread"] = float(np.std(list(self.seeds.values()), ddof=1))
        return entry


def write_result(
    path: str | Path,
    task: str,
    model: str,
    n: int,
    metrics: dict[str, Metric],
    settings: dict[str, Any],
    seed: int,
    answered: Mapping[str, list[str]] | None = None,
) -> None:
    """Write a benchmark's result file: whole or not at all.

    Args:
        answered: task -> questions that were answered right: see `things_to_ask`.
    """
    result = {
        "task": task,
        "model": model,
        "n": n,
        "metrics": {name: metric.as_json() for name, metric in metrics.items()},
        "settings": settings,
        "seed": seed,
        "versions": {
            "python": platform.python_version(),
            "scratch_gpt": scratch_gpt.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        **({"answered": answered} if answered else {}),
    }
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def write_items(path: Path, metrics: Mapping[str, Metric], digests: Mapping[str, str]) -> None:
    """One line for each number that has items: its name, its statistic, the hash of its task's examples, the rows."""
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for name, metric in metrics.items():
            if metric.items is not None:
                line = {"metric": name, "examples": digests.get(name.split("/")[0])}
                stored = {key: value for key, value in metric.items._asdict().items() if value is not None}
                file.write(json.dumps({**line, **stored}) + "\n")


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


def things_to_ask(folder: str | Path) -> list[str]:
    """A question of each task that the model in `folder` answered right in a benchmark; [] where none was measured."""
    try:
        results = read_results(folder).values()
    except UserError:  # only a hint: a damaged result keeps nobody from talking
        return []
    return [asked[0] for result in results for asked in result.get("answered", {}).values() if asked]


def invitation(questions: Sequence[str]) -> str:
    """The questions of `things_to_ask` as a line for people; "" without any."""
    return f"Things to ask (answered right in its benchmarks): {' | '.join(questions)}" if questions else ""


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
