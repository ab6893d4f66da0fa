# SPDX-License-Identifier: Apache-2.0
"""Tasks of lm-eval (MMLU, GSM8K, HumanEval, TruthfulQA ... and your own task files), with results like those of the other benchmarks.

    accelerate launch eval/harness.py --model runs/real/base --tasks gsm8k winogrande
    accelerate launch eval/harness.py --model runs/real/base runs/real/chat --tasks fruit --include_path tasks

Each task has a file of its own, MODEL/results/lm_eval_TASK.json, which `compare`, the report and the card read.
"""

import scratch_gpt.native_libraries  # noqa: F401  # before torch

from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from scratch_gpt.evaluation.benchmarks.lm_eval_tasks import (
    HarnessArguments,
    items_digest,
    measured_tasks,
    run_tasks,
    task_metrics,
)
from scratch_gpt.evaluation.compare import LM_EVAL
from scratch_gpt.evaluation.metrics.intervals import print_table
from scratch_gpt.inference.loading import check_folder
from scratch_gpt.runs.results import Metric, write_items, write_result
from scratch_gpt.settings.parsing import run_stage


def main(arguments: HarnessArguments) -> None:
    """Measure each model, write a file for each task, print the table."""
    for folder in arguments.model:
        check_folder(folder)
    settings = {name: value for name, value in asdict(arguments).items() if name not in ("model", "seed")}
    results: dict[str, dict[str, Metric]] = {}
    for folder in arguments.model:
        found = run_tasks(folder, arguments)
        if found is None:  # not the main process
            continue
        results[folder] = {}
        for task in measured_tasks(found, arguments.tasks):
            metrics = task_metrics(found, task, arguments.seed)
            results[folder] |= metrics
            path = Path(folder) / "results" / f"{LM_EVAL}{task}.json"
            count = max((metric.n or 0 for metric in metrics.values()), default=0)
            notes = settings | {"lm_eval": version("lm_eval"), "num_fewshot": found["n-shot"].get(task)}
            write_items(path.with_suffix(".items.jsonl"), metrics, {task: items_digest(found, task)})
            write_result(path, path.stem, folder, count, metrics, notes, arguments.seed)
    if results:
        print_table("lm-eval", results)


if __name__ == "__main__":
    run_stage(main, HarnessArguments)
