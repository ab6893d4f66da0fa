# SPDX-License-Identifier: Apache-2.0
"""Train a reward model (or DPO) on growing numbers of pairs, and measure each on the same held-out ones.

    python eval/engineering/learning_curve.py --stage_config train/configs/real/reward_polite.yaml --output_dir runs/real/reward_curve
    python eval/engineering/learning_curve.py --stage dpo --stage_config train/configs/demo/dpo.yaml --sizes 100 400 1600

A smaller number's pairs are among a larger one's. Runs that are finished are not repeated; with another stage_config
another output_dir is needed. Writes results/learning_curve.json and results/learning_curve.png into output_dir.
"""

import scratch_gpt.openmp  # noqa: F401  # before torch

from dataclasses import dataclass, field
from pathlib import Path

from scratch_gpt.errors import UserError
from scratch_gpt.evaluation.learning_curve import keep_settings, plot_curve, read_curve
from scratch_gpt.inference.generation import print_table, write_result
from scratch_gpt.launching import launch
from scratch_gpt.runs.log import console
from scratch_gpt.settings.arguments import run_stage


@dataclass
class LearningCurveArguments:
    """Settings of `eval/engineering/learning_curve.py`."""

    stage_config: str = field(metadata={"help": "YAML of the stage."})
    stage: str = field(default="reward", metadata={"help": "reward or dpo."})
    sizes: list[int] = field(
        default_factory=lambda: [50, 100, 200, 400, 800], metadata={"help": "Numbers of pairs to train on."}
    )
    seeds: list[int] = field(
        default_factory=lambda: [0], metadata={"help": "Each number is trained on with each of these seeds."}
    )
    output_dir: str = field(default="runs/learning_curve", metadata={"help": "Holds a folder for each run."})

    def __post_init__(self) -> None:
        if self.stage not in ("reward", "dpo"):
            raise UserError(f"stage must be reward or dpo, got {self.stage!r}")
        if not Path(self.stage_config).is_file():
            raise UserError(f"--stage_config: no file {self.stage_config}")


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
    plot_curve(curve, Path(arguments.stage_config).stem, folder / "results" / "learning_curve.png")
    print_table("held-out pairs ranked right", {arguments.stage: metrics})


if __name__ == "__main__":
    run_stage(main, LearningCurveArguments)
