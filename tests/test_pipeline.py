# SPDX-License-Identifier: Apache-2.0
"""The steps of a pipeline: what is printed, what is skipped, where it stops."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from scratch_gpt import demo
from scratch_gpt.pipeline import run_steps
from wording import shows


AGAIN = "scratch-gpt demo --output_dir elsewhere"


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
    """The pipeline is run once; a second call finds every step complete."""
    launcher = Launcher(tmp_path)
    assert run_steps(demo.STEPS, tmp_path, console, AGAIN, launcher) == 0
    road = ["tokenizer", "shards", "pretrain", "sft", "reward", "rlhf", "qa", "translation", "generation"]
    assert launcher.started == road
    assert run_steps(demo.STEPS, tmp_path, console, AGAIN, launcher) == 0
    assert launcher.started == road


def test_failing_step_ends_the_road_and_the_next_call_goes_on_there(tmp_path: Path, console: Console) -> None:
    """The exit code is that of the step, the command to go on is shown, and finished steps are not run again."""
    assert run_steps(demo.STEPS, tmp_path, console, AGAIN, Launcher(tmp_path, failing="sft")) == 3
    text = console.file.getvalue()
    assert shows(text, "sft", "exit code 3")
    assert AGAIN in text
    second = Launcher(tmp_path)
    assert run_steps(demo.STEPS, tmp_path, console, AGAIN, second) == 0
    assert second.started[0] == "sft"


def test_what_comes_after_a_step_that_ran_is_asked_again(tmp_path: Path, console: Console) -> None:
    """A folder that was deleted is made anew, and what was made of the old one decides by itself whether it still holds."""
    assert run_steps(demo.STEPS, tmp_path, console, AGAIN, Launcher(tmp_path)) == 0
    (tmp_path / "base" / "run.yaml").unlink()
    second = Launcher(tmp_path)
    assert run_steps(demo.STEPS, tmp_path, console, AGAIN, second) == 0
    assert second.started[:2] == ["pretrain", "sft"]


def test_each_command_is_printed_before_it_runs(tmp_path: Path, console: Console) -> None:
    """The line shown is the very command: launcher, script and arguments."""
    shown: list[str] = []

    def start(script: str, arguments: list[str]) -> int:
        shown.append(console.file.getvalue().splitlines()[-1])
        assert shown[-1].endswith(" ".join(arguments))
        return 0

    run_steps(demo.STEPS[:2], tmp_path, console, AGAIN, start)
    assert "accelerate launch" in shown[0] and "train/tokenizer.py --config" in shown[0]
    assert "train/shards.py --config" in shown[1]
