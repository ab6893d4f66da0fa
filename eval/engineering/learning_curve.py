# SPDX-License-Identifier: Apache-2.0
"""Train a reward model (or DPO) on growing numbers of pairs, and measure each on the same held-out ones.

    python eval/engineering/learning_curve.py --stage_config train/configs/real/reward_polite.yaml --output_dir runs/real/reward_curve
    python eval/engineering/learning_curve.py --stage dpo --stage_config train/configs/demo/dpo.yaml --sizes 100 400 1600

A smaller number's pairs are among a larger one's. Runs that are finished are not repeated; with another stage_config
another output_dir is needed. Writes results/learning_curve.json and results/learning_curve.png into output_dir.
"""

import scratch_gpt.native_libraries  # noqa: F401  # before torch

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import yaml

from scratch_gpt.errors import UserError
from scratch_gpt.evaluation.metrics.intervals import print_table
from scratch_gpt.launching import launch
from scratch_gpt.report.figures import draw_learning_curve
from scratch_gpt.runs.folders import atomic_write, read_yaml
from scratch_gpt.runs.log import console
from scratch_gpt.runs.results import Metric, read_result, write_result
from scratch_gpt.settings.checking import check_values
from scratch_gpt.settings.parsing import run_stage


# Settings of a stage that are not those of its YAML in a learning curve's runs.
OWN = ("max_train_samples", "seed", "output_dir", "resume_from_checkpoint")


def keep_settings(stage: str, config: str | Path, folder: str | Path) -> None:
    """Keep the YAML's settings as `folder/STAGE.yaml`, before the first run that is made with them.

    Raises:
        UserError: the folder holds runs of other settings, which would be points of another curve; a damaged YAML.
    """
    settings = {name: value for name, value in read_yaml(config).items() if name not in OWN}
    path = Path(folder) / f"{stage}.yaml"
    has_runs = any(Path(folder).glob("*-seed*"))  # without one, these settings come after a mistake in others
    if has_runs and path.is_file():
        kept = read_yaml(path)
        changed = sorted(
            name for name in {*kept, *settings} if kept.get(name, path) != settings.get(name, path)
        )
        if changed:
            message = f"{folder} holds runs with another {', '.join(changed)} than {config}: give another --output_dir"
            raise UserError("settings_changed", message, settings=list(changed))
    elif has_runs:
        message = f"{folder} holds runs, but not their {path.name}: give another --output_dir"
        raise UserError("unknown_runs", message, folder=folder)
    with atomic_write(path) as temporary:
        temporary.write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")


def read_curve(results: Iterable[Sequence[Path]], metric: str = "accuracy") -> dict[int, Metric]:
    """Rows trained on -> the metric's mean over the result files of as many seeds.

    The rows are those that the results say, the mean where a seed had fewer. The interval is the mean of the seeds' own
    intervals (the held-out rows are few), widened to hold each seed's value (training is random too).

    Raises:
        UserError: a result file that is damaged or lacks the metric.
    """
    curve = {}
    for files in results:
        found, rows = [], []
        for file in files:
            result = read_result(file)
            metrics = result["metrics"]
            if metric not in metrics:
                message = f"{file} has no metric {metric!r}; it has {', '.join(metrics)}"
                raise UserError("unknown_metric", message, metric=metric)
            found.append(metrics[metric])
            rows.append(result["settings"]["training_pairs"])
        values = [entry["value"] for entry in found]
        low, high = np.mean([entry["ci95"] for entry in found], axis=0).tolist()
        interval = (min(low, *values), max(high, *values))
        curve[round(float(np.mean(rows)))] = Metric(float(np.mean(values)), interval, found[0]["chance"])
    return curve


@dataclass
class LearningCurveArguments:
    """Settings of `eval/engineering/learning_curve.py`."""

    stage_config: str = field(metadata={"help": "YAML of the stage."})
    stage: Literal["reward", "dpo"] = field(default="reward", metadata={"help": "What is trained."})
    sizes: list[int] = field(
        default_factory=lambda: [50, 100, 200, 400, 800], metadata={"help": "Numbers of pairs to train on."}
    )
    seeds: list[int] = field(
        default_factory=lambda: [0], metadata={"help": "Each number is trained on with each of these seeds."}
    )
    output_dir: str = field(default="runs/learning_curve", metadata={"help": "Holds a folder for each run."})

    def __post_init__(self) -> None:
        check_values(self)
        if not Path(self.stage_config).is_file():
            message = f"--stage_config: no file {self.stage_config}"
            raise UserError("file_not_found", message, file=self.stage_config)


def main(arguments: LearningCurveArguments) -> None:
    """Train all that is not yet trained, collect, print, draw."""
    folder = Path(arguments.output_dir)
    keep_settings(arguments.stage, arguments.stage_config, folder)
    results: list[list[Path]] = []
    for size in sorted(arguments.sizes):
        results.append([])
        for seed in arguments.seeds:
            run = folder / f"{size}-seed{seed}"
            results[-1].append(run / "results" / f"{arguments.stage}.json")
            if (run / "run.yaml").is_file():
                continue
            options = {"max_train_samples": size, "seed": seed, "output_dir": run}
            words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
            words += ["--config", arguments.stage_config, "--resume_from_checkpoint", "latest"]
            if status := launch(f"train/{arguments.stage}.py", words):
                raise SystemExit(status)
        (pairs,) = read_curve(results[-1:])
        if pairs < size:
            console.print(f"no more than {pairs:,} pairs are there to train on: the curve ends with them")
            break
    curve = read_curve(results)
    metrics = {f"{size} pairs": metric for size, metric in curve.items()}
    write_result(
        folder / "results" / "learning_curve.json",
        task="learning_curve",
        model=str(folder),
        n=len(curve),
        metrics=metrics,
        settings={
            "stage": arguments.stage,
            "stage_config": arguments.stage_config,
            "seeds": arguments.seeds,
        },
        seed=arguments.seeds[0],
    )
    draw_learning_curve(curve, Path(arguments.stage_config).stem, folder / "results" / "learning_curve.png")
    print_table("held-out pairs ranked right", {arguments.stage: metrics})


if __name__ == "__main__":
    run_stage(main, LearningCurveArguments)
