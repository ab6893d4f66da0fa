# SPDX-License-Identifier: Apache-2.0
"""`eval/engineering/scaling_fit.py`: texts that would share a folder, and the time of a second call."""

import dataclasses
import json

import pytest
import scaling_fit as script

from scratch_gpt.new.shapes import Shape
from wording import user_error


def test_texts_of_the_same_name_are_refused() -> None:
    """They would share a corpus and runs."""
    with user_error("settings_conflict", "a/book.txt", "b/book.jsonl", setting="texts"):
        script.ScalingFitArguments(texts=["a/book.txt", "b/book.jsonl", "c/other.txt"])


def test_a_second_call_knows_the_speed_from_the_runs_that_are_there(tmp_path, monkeypatch) -> None:
    """Six runs of a second each; one of 100 times the operations does not fit into a minute and is not begun."""
    text = script.Text(tmp_path, 1024, [], None)
    done = [script.Trial(text, Shape(64, 1, 1024), 1e6 + number) for number in range(6)]
    for trial in done:
        (trial.folder / "base").mkdir(parents=True, exist_ok=True)
        rows = [{"step": 9, "elapsed_seconds": 1.0}, {"step": 9, "eval_loss": 2.0}]
        log = "".join(json.dumps(row) + "\n" for row in rows)
        (trial.folder / "base" / "log.jsonl").write_text(log)
    assert done[0].seconds_per_operation() == pytest.approx(1 / done[0].cost)
    large = dataclasses.replace(done[0], tokens=1e8)
    fitted = []
    monkeypatch.setattr(script, "prepare", lambda path, output_dir: text)
    monkeypatch.setattr(script, "trials", lambda texts: [*done, large])
    monkeypatch.setattr(script.Trial, "result", lambda trial: None if trial is large else {})
    monkeypatch.setattr(script.Trial, "run", lambda trial: pytest.fail("begun without the time for it"))
    monkeypatch.setattr(script, "write_fit", lambda first, results, command, output: fitted.extend(results))
    script.main(script.ScalingFitArguments(texts=["book.txt"], minutes=1, output_dir=str(tmp_path)))
    assert [trial for trial, _ in fitted] == done


def test_a_fit_needs_runs(tmp_path, monkeypatch) -> None:
    """The time is over before the first begins: one line, and nothing is written."""
    text = script.Text(tmp_path / "book", 1024, [], None)
    monkeypatch.setattr(script, "prepare", lambda path, output_dir: text)
    monkeypatch.setattr(script, "trials", lambda texts: [script.Trial(text, Shape(64, 1, 1024), 1e6)])
    monkeypatch.setattr(script.Trial, "run", lambda trial: pytest.fail("begun without the time for it"))
    with user_error("too_few_runs", script.LEAST_RUNS, "minutes", runs=0):
        script.main(script.ScalingFitArguments(texts=["book.txt"], minutes=0.01, output_dir=str(tmp_path)))
    assert not any(tmp_path.iterdir())
