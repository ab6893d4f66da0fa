# SPDX-License-Identifier: Apache-2.0
"""Which measurement is kept, and when a run should end, on histories made by hand."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from scratch_gpt.runs.log import RunLog
from scratch_gpt.training.rl.rlhf import Measured, best_row, stop_reason
from wording import shows, user_error


def row(step: int, score: float, kl: float = 0.1, **more: float) -> dict[str, float]:
    return {"step": step, "eval_score": score, "eval_kl": kl, **more}


def test_the_highest_score_is_kept() -> None:
    """The start is a candidate; of equal ones the first, which moved least, is kept."""
    assert best_row([row(0, 0.5), row(2, 0.7), row(4, 0.7), row(6, 0.6)], None)["step"] == 2
    assert best_row([row(0, 0.5), row(2, 0.4)], None)["step"] == 0


def test_what_is_too_far_away_or_greedily_worse_is_not_kept() -> None:
    """A measurement over max_kl, or whose greedy gold score is clearly below the start's, has no part in it."""
    history = [row(0, 0.5, 0.0), row(2, 0.7, 1.0), row(4, 0.9, 3.0)]
    assert best_row(history, 2.0)["step"] == 2
    assert best_row(history, None)["step"] == 4
    greedy = [
        row(0, 0.60, eval_greedy_gold=0.75),
        row(2, 0.70, eval_greedy_gold=0.72),
        row(4, 0.65, eval_greedy_gold=0.74),
    ]
    assert best_row(greedy, None)["step"] == 4


def test_reasons_to_stop() -> None:
    """KL over the limit, or no better score for so many measurements; without limits a run goes to its end."""
    falling = [row(0, 0.5), row(2, 0.7), row(4, 0.6), row(6, 0.65)]
    assert shows(str(stop_reason(falling, None, 2)), "step 2", "2 measurements")
    assert stop_reason(falling, None, 3) is None
    assert stop_reason(falling[:3], None, 2) is None
    assert shows(str(stop_reason([row(0, 0.5), row(2, 0.7, 1.234)], 1.0, None)), "KL 1.234", "max_kl 1.0")
    assert stop_reason([row(0, 0.5), row(2, 0.1, 99.0)], None, None) is None


class Evaluated(Measured):
    """What a trainer of TRL's has of an evaluation, without one."""

    def __init__(self, folder: Path, scores: list[float], **changes: float) -> None:
        scripted = iter(scores)
        good = {
            "reward": 1.0,
            "length": 10.0,
            "repetition": 0.0,
            "distinct_2": 0.5,
            "entropy": 0.5,
            "kl": 0.1,
        }
        measures = {f"eval_{name}": value for name, value in {**good, "finished": 1.0}.items()}
        self.watch = lambda: {
            **measures,
            **(changes if self.state.global_step else {}),
            "eval_score": next(scripted),
        }
        self.args = SimpleNamespace(output_dir=str(folder))
        self.state = SimpleNamespace(global_step=0, best_metric=None)
        self.control = SimpleNamespace(should_training_stop=False)
        self.model = torch.nn.Linear(1, 1)
        self.file = RunLog(folder / "log.jsonl")
        self.history = []

    def log(self, measures: dict[str, Any]) -> None:
        self.file.write(step=self.state.global_step, **measures)

    def at(self, step: int) -> dict[str, float]:
        self.state.global_step = step
        return self.evaluate()


def test_a_failure_is_printed_once_and_logged_each_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line with the step and the numbers comes once; the log has a mark at every measurement."""
    trainer = Evaluated(tmp_path, [0.5, 0.6, 0.7], eval_length=30.0)
    for step in (0, 2, 4):
        trainer.at(step)
    told = " ".join(capsys.readouterr().out.split())
    assert told.count("10.0 to 30.0 tokens") == 1
    assert told.startswith("step 2: ")
    assert ["monitor/length_drift" in row for row in trainer.file.rows()] == [False, True, True]


def test_a_resumed_run_does_not_measure_its_first_step_again(tmp_path: Path) -> None:
    """Asked at the step of the log's last measurement, it answers from the log."""
    trainer = Evaluated(tmp_path, [0.5, 0.6])
    trainer.at(0)
    trainer.at(2)
    assert trainer.at(2)["eval_score"] == 0.6
    assert [row["step"] for row in trainer.file.rows()] == [0, 2]


def test_the_start_is_what_is_to_be_beaten(tmp_path: Path) -> None:
    """transformers is told the start's score; one too far away can never be the best."""
    trainer = Evaluated(tmp_path, [0.5, 0.9], eval_kl=2.0)
    trainer.limits = (1.0, None)
    trainer.at(0)
    assert trainer.state.best_metric == 0.5
    assert trainer.at(2)["eval_score"] == -math.inf
    assert trainer.file.rows()[1]["eval_score"] == 0.9
    assert trainer.control.should_training_stop


def test_a_score_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    """A model that can no longer be measured is broken."""
    with user_error("score_not_finite", value=math.nan):
        Evaluated(tmp_path, [math.nan]).at(0)
