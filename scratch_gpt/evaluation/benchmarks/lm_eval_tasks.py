# SPDX-License-Identifier: Apache-2.0
"""Tasks of lm-eval, run by lm-eval itself; what it finds becomes results like those of the other benchmarks.

A number is taken with its items where they add up to it, so that models can be compared on the same items.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from typing import Annotated, Any

import numpy as np

import scratch_gpt.registration  # noqa: F401  # so that lm-eval can load models of ours
from scratch_gpt.errors import UserError, did_you_mean
from scratch_gpt.evaluation.metrics.intervals import bootstrap_ci, mean_metric
from scratch_gpt.evaluation.metrics.item_statistics import STATISTICS
from scratch_gpt.runs.log import console
from scratch_gpt.runs.results import Items, Metric
from scratch_gpt.settings.checking import Count, Range, check_values
from scratch_gpt.settings.hardware import device_type


# Statistic -> its row of what lm-eval has for an item: a number, or log-likelihood and weight.
ROWS: dict[str, Callable[[Any], tuple[float, ...]]] = {
    "mean": lambda value: (float(value),),
    "perplexity": lambda value: (-float(value),),
    "bits_per_byte": lambda pair: (-float(pair[0]), float(pair[1])),
    "weighted_perplexity": lambda pair: (-float(pair[0]), float(pair[1])),
}
SAME = 1e-6


@dataclass
class HarnessArguments:
    """Settings of `eval/harness.py`; what is not here is lm-eval's default."""

    model: list[str] = field(
        default_factory=list, metadata={"help": "Model folders: one, or several to compare in one table."}
    )
    tasks: list[str] = field(
        default_factory=list,
        metadata={"help": "Tasks, groups and tags of lm-eval, such as gsm8k, mmlu or 'arc_*'."},
    )
    include_path: str | None = field(default=None, metadata={"help": "Folder with task files of your own."})
    num_fewshot: Annotated[int, Range("at least 0", lambda value: value >= 0)] | None = field(
        default=None, metadata={"help": "Examples before each question. Default: the task's."}
    )
    limit: Count | None = field(
        default=None, metadata={"help": "At most this many items of each task, the first ones."}
    )
    batch_size: Count = field(default=8, metadata={"help": "Texts that run through the model together."})
    apply_chat_template: bool = field(default=False, metadata={"help": "Ask through the chat template."})
    confirm_run_unsafe_code: bool = field(
        default=False, metadata={"help": "Let tasks such as humaneval run the code that the model writes."}
    )
    seed: int = field(default=0, metadata={"help": "Seed of the intervals; lm-eval's own are its defaults."})

    def __post_init__(self) -> None:
        check_values(self)
        for name, example in (("model", "DIR"), ("tasks", "gsm8k")):
            if not getattr(self, name):
                raise UserError(
                    "setting_missing", f"{name} is missing: give --{name} {example}", setting=name
                )


def run_tasks(folder: str, arguments: HarnessArguments) -> dict[str, Any] | None:
    """Let lm-eval measure a model on the tasks; None in all processes but the first.

    Raises:
        UserError: lm-eval is not installed; a task that it does not know.
    """
    if find_spec("lm_eval") is None:
        message = 'eval/harness.py needs the package lm_eval: pip install "scratch-gpt[harness]"'
        raise UserError("missing_package", message, package="scratch-gpt[harness]")
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=arguments.include_path)
    if unknown := [name for name in arguments.tasks if not manager.match_tasks([name])]:
        suggestion = did_you_mean(unknown[0], manager.all_tasks, ":")
        message = f"lm-eval has no task {unknown[0]!r}{suggestion} `lm_eval ls tasks` lists them; files of your own need include_path"
        raise UserError("unknown_task", message, task=unknown[0])
    found: dict[str, Any] | None = simple_evaluate(
        HFLM(folder, batch_size=arguments.batch_size, device=device_type()),
        tasks=manager.match_tasks(arguments.tasks),
        num_fewshot=arguments.num_fewshot,
        limit=arguments.limit,
        apply_chat_template=arguments.apply_chat_template,
        confirm_run_unsafe_code=arguments.confirm_run_unsafe_code,
        task_manager=manager,
    )
    return found


def members_of(task: str, groups: Mapping[str, Sequence[str]]) -> list[str]:
    """The tasks with items of a group, or the task itself."""
    if not groups.get(task):
        return [task]
    return [member for part in groups[task] for member in members_of(part, groups)]


def measured_tasks(found: Mapping[str, Any], asked: Sequence[str]) -> list[str]:
    """The tasks and groups that get a file: those asked for by name, and those that a pattern or a tag expands to."""
    members = {member for parts in found.get("group_subtasks", {}).values() for member in parts}
    return [name for name in found["results"] if name in asked or name not in members]


def task_metrics(found: Mapping[str, Any], task: str, seed: int) -> dict[str, Metric]:
    """What lm-eval found of a task: `TASK/MEASURE`, of a group's members also `TASK/MEMBER/MEASURE`.

    A measure's filter is part of its name, as in `gsm8k/exact_match_strict_match`. A number without an interval that
    its items give, or lm-eval, is left out and said.
    """
    groups = found.get("group_subtasks", {})
    metrics = {}
    for name in dict.fromkeys([task, *members_of(task, groups)]):
        prefix = task if name == task else f"{task}/{name}"
        for key, value in found["results"].get(name, {}).items():
            measure, _, filtered = key.partition(",")
            if not filtered or measure.endswith("_stderr") or not isinstance(value, int | float):
                continue
            samples = [
                sample
                for member in members_of(name, groups)
                for sample in found["samples"].get(member, ())
                if sample["filter"] == filtered and measure in sample
            ]
            error = found["results"][name].get(f"{measure}_stderr,{filtered}")
            metric = _metric(float(value), error, [sample[measure] for sample in samples], seed)
            title = measure if filtered == "none" else f"{measure}_{filtered.replace('-', '_')}"
            if metric is None:
                line = f"{prefix}/{title}: {value:.4g}, left out: lm-eval gives no interval, and its items do not add up to it"
                console.print(line, markup=False, soft_wrap=True)
                continue
            kinds = {
                found["configs"].get(member, {}).get("output_type") for member in members_of(name, groups)
            }
            if kinds == {"multiple_choice"} and measure in ("acc", "acc_norm", "acc_bytes"):
                metric = metric._replace(chance=_chance(samples))
            if found.get("higher_is_better", {}).get(name, {}).get(measure) is False:
                metric = metric._replace(less_is_better=True)
            metrics[f"{prefix}/{title}"] = metric
    return metrics


def _metric(value: float, error: Any, of_items: Sequence[Any], seed: int) -> Metric | None:
    for statistic, row in ROWS.items():
        try:
            rows = np.array([row(item) for item in of_items])
            computed = STATISTICS[statistic](rows.sum(axis=0), len(rows)) if len(rows) else math.nan
        except (TypeError, ValueError, IndexError, OverflowError, ZeroDivisionError):
            continue
        if abs(computed - value) <= SAME * max(1.0, abs(value)):
            if statistic == "mean":
                numbers = rows[:, 0].tolist()
                return mean_metric(numbers, seed, share=min(numbers) >= 0 and max(numbers) <= 1)
            count = len(rows)
            drawn = np.hstack([rows, np.ones((count, 1))])
            interval = bootstrap_ci(drawn, seed, partial(_of_sums, statistic))
            return Metric(value, interval, n=count, items=Items(statistic, tuple(map(tuple, rows.tolist()))))
    if isinstance(error, int | float) and math.isfinite(error):
        return Metric(value, (value - 1.96 * error, value + 1.96 * error), n=len(of_items) or None)
    return None


def _of_sums(statistic: str, sums: np.ndarray) -> float:
    return STATISTICS[statistic](sums[:-1], sums[-1])


def _chance(samples: Sequence[Mapping[str, Any]]) -> float:
    """What drawing one of the candidates gets on average."""
    return float(np.mean([1 / len(sample["arguments"]) for sample in samples]))


def items_digest(found: Mapping[str, Any], task: str) -> str:
    """A hash of what was asked and what is right, from lm-eval's hashes of each item."""
    hashes = [
        [sample[key] for key in ("doc_hash", "prompt_hash", "target_hash")]
        for member in members_of(task, found.get("group_subtasks", {}))
        for sample in found["samples"].get(member, ())
    ]
    return hashlib.blake2b(json.dumps(hashes).encode(), digest_size=16).hexdigest()
