# SPDX-License-Identifier: Apache-2.0
"""The demo: its commands, what it skips, where it stops."""

import io
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from scratch_gpt import demo
from scratch_gpt.settings.parsing import scripts_folder
from wording import shows


class Launcher:
    """Stands in for the launcher: creates what a step produces, or fails at one of them."""

    def __init__(self, run_dir: Path, failing: str | None = None) -> None:
        self.run_dir, self.failing = run_dir, failing
        self.started: list[str] = []

    def __call__(self, script: str, arguments: list[str]) -> int:
        step = next(step for step in demo.STEPS if step.script == script)
        self.started.append(step.name)
        if step.name == self.failing:
            return 3
        for product in step.products:
            (self.run_dir / product).parent.mkdir(parents=True, exist_ok=True)
            (self.run_dir / product).touch()
        return 0


@pytest.fixture
def console() -> Console:
    """A terminal that remembers."""
    return Console(file=io.StringIO(), highlight=False, width=200)


def test_all_steps_run_in_order_and_none_twice(tmp_path: Path, console: Console) -> None:
    """The road is run once; a second call finds every step complete."""
    launcher = Launcher(tmp_path)
    assert demo.run_steps(demo.STEPS, tmp_path, console, launcher) == 0
    road = ["tokenizer", "shards", "pretrain", "sft", "reward", "rlhf", "qa", "translation", "generation"]
    assert launcher.started == road
    assert demo.run_steps(demo.STEPS, tmp_path, console, launcher) == 0
    assert launcher.started == road


def test_failing_step_ends_the_road_and_the_next_call_goes_on_there(tmp_path: Path, console: Console) -> None:
    """The exit code is that of the step, the command to go on is shown, and finished steps are not run again."""
    assert demo.run_steps(demo.STEPS, tmp_path, console, Launcher(tmp_path, failing="sft")) == 3
    text = console.file.getvalue()
    assert shows(text, "sft", "exit code 3")
    assert f"demo --output_dir {tmp_path}" in text
    second = Launcher(tmp_path)
    assert demo.run_steps(demo.STEPS, tmp_path, console, second) == 0
    assert second.started[0] == "sft"


def test_each_command_is_printed_before_it_runs(tmp_path: Path, console: Console) -> None:
    """The line shown is the very command: launcher, script and arguments."""
    shown: list[str] = []

    def start(script: str, arguments: list[str]) -> int:
        shown.append(console.file.getvalue().splitlines()[-1])
        assert shown[-1].endswith(" ".join(arguments))
        return 0

    demo.run_steps(demo.STEPS[:2], tmp_path, console, start)
    assert "accelerate launch" in shown[0] and "train/tokenizer.py --config" in shown[0]
    assert "train/shards.py --config" in shown[1]


def test_another_folder_moves_every_input_and_output() -> None:
    """No step of a demo elsewhere reads or writes below runs/demo."""
    for step in demo.STEPS:
        words = step.arguments(Path("else where"))
        assert not [word for word in words if word.startswith("runs/demo")]
        assert [f"else where/{name}" for names in step.folders.values() for name in names] == [
            word for word in words if word.startswith("else where/")
        ]


@pytest.mark.parametrize("step", demo.STEPS, ids=lambda step: step.name)
def test_configs_agree_with_the_table_of_folders(step: demo.Step) -> None:
    """The YAML of each step names below runs/demo exactly the folders that the table says."""
    config = yaml.safe_load((scripts_folder() / step.config).read_text(encoding="utf-8"))
    expected = {key: f"runs/demo/{names[0]}" for key, names in step.folders.items() if key != "model"}
    named = {key: value for key, value in config.items() if str(value).startswith("runs/demo/")}
    assert named == expected


def test_table_shows_measures_of_whole_tasks() -> None:
    """One row a headline measure, with intervals; a model without a result shows a dash."""
    metric = {"value": 0.5, "ci95": [0.4, 0.6], "chance": 0.25}
    scores = [
        demo.Comparison("qa", "facts/exact_match", {"chat": metric}),
        demo.Comparison("qa", "facts/capital/exact_match", {"chat": metric}),
    ]
    console = Console(file=io.StringIO(), width=120)
    console.print(demo.scores_table(scores))
    (row,) = (line for line in console.file.getvalue().splitlines() if "facts" in line)
    assert [cell.strip() for cell in row.strip("\u2502").split("\u2502")] == [
        "facts/exact_match",
        "-",
        "0.50 [0.40, 0.60]",
        "-",
        "0.25",
    ]


def test_another_seed_reaches_every_stage_and_benchmark(tmp_path: Path) -> None:
    """Seed 3 is on each command line; the default seed is left to the YAML."""
    assert all(step.arguments(tmp_path, seed=3)[-2:] == ["--seed", "3"] for step in demo.STEPS)
    assert not any("--seed" in step.arguments(tmp_path) for step in demo.STEPS)
