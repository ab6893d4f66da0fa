# SPDX-License-Identifier: Apache-2.0
"""The demo: its commands and its tables."""

import io
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from scratch_gpt import demo
from scratch_gpt.pipeline import Step
from scratch_gpt.settings.parsing import scripts_folder
from wording import user_error


def test_another_folder_moves_every_input_and_output() -> None:
    """No step of a demo elsewhere reads or writes below runs/demo."""
    for step in demo.STEPS:
        words = step.arguments(Path("else where"))
        assert not [word for word in words if word.startswith("runs/demo")]
        assert [f"else where/{name}" for names in step.folders.values() for name in names] == [
            word for word in words if word.startswith("else where/")
        ]


@pytest.mark.parametrize("step", demo.STEPS, ids=lambda step: step.name)
def test_configs_agree_with_the_table_of_folders(step: Step) -> None:
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


def test_the_line_that_resumes_names_the_folder_and_the_seed(tmp_path, monkeypatch) -> None:
    """A demo that is stopped goes on with the same seed."""
    again = []
    monkeypatch.setattr(demo, "run_steps", lambda steps, folder, console, line, seed: again.append(line) or 1)
    assert demo.run_demo(tmp_path, seed=3) == demo.run_demo(demo.DEFAULT_FOLDER) == 1
    assert again[0].endswith(f"demo --output_dir {tmp_path.as_posix()} --seed 3")
    assert again[1].endswith("demo")


def test_the_folder_of_another_seed_is_refused(tmp_path, monkeypatch) -> None:
    """Its stages would be overwritten one by one; the same seed goes on."""
    monkeypatch.setattr(demo, "run_steps", lambda *_, **__: 1)
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "run.yaml").write_text("seed: 0\n", encoding="utf-8")
    with user_error("another_seed", folder=tmp_path, seed=3):
        demo.run_demo(tmp_path, seed=3)
    assert demo.run_demo(tmp_path) == 1
