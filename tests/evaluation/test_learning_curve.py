# SPDX-License-Identifier: Apache-2.0
"""A curve is read from result files and drawn."""

import json
from pathlib import Path

import pytest

from scratch_gpt.evaluation.learning_curve import keep_settings, plot_curve, read_curve
from wording import user_error


def result(path: Path, value: float, rows: int) -> Path:
    metric = {"value": value, "ci95": [value - 0.1, value + 0.1], "chance": 0.5}
    path.write_text(json.dumps({"metrics": {"accuracy": metric}, "settings": {"training_pairs": rows}}))
    return path


def test_curve_is_the_mean_over_seeds(tmp_path: Path) -> None:
    """The interval holds every seed's value and is no narrower than the seeds' own; the rows are the results'."""
    files = [
        [result(tmp_path / "a.json", 0.5, rows=49), result(tmp_path / "b.json", 0.9, rows=51)],
        [result(tmp_path / "c.json", 0.8, rows=200)],
    ]
    curve = read_curve(files)
    assert curve[50].value == pytest.approx(0.7) and curve[50].ci95 == pytest.approx((0.5, 0.9))
    assert curve[200].value == 0.8 and curve[200].ci95 == pytest.approx((0.7, 0.9))
    plot_curve(curve, "title", tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    with user_error("unknown_metric", "a.json", "accuracy", metric="bleu"):
        read_curve(files, "bleu")


def test_a_folder_is_of_one_curve(tmp_path: Path) -> None:
    """The settings may come again; changed, new and left out ones are named, and so is a folder of unknown runs."""
    config, folder = tmp_path / "config.yaml", tmp_path / "curve"

    def keep(text: str, stage: str = "reward") -> None:
        config.write_text(text)
        keep_settings(stage, config, folder)

    keep("learnin_rate: 0.1\n")  # refused by the stage, so no run is made of it
    keep("learning_rate: 0.1\nsources: [{name: a, path: a.jsonl}]\noutput_dir: x\n")
    (folder / "50-seed0").mkdir()
    keep("# the same\nsources: [{path: a.jsonl, name: a}]\nlearning_rate: 0.1\noutput_dir: y\n")
    with user_error("settings_changed", folder, config, settings=["learning_rate", "sources"]):
        keep("learning_rate: 0.2\nsources: [{name: a, path: b.jsonl}]\n")
    with user_error("settings_changed", settings=["optim", "sources"]):
        keep("learning_rate: 0.1\noptim: adamw\n")
    with user_error("unknown_runs", "dpo.yaml", "--output_dir", folder=folder):
        keep("learning_rate: 0.1\n", stage="dpo")
    with user_error("unreadable_file", file=config):
        keep("a: [\n")
