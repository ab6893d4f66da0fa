# SPDX-License-Identifier: Apache-2.0
"""A run that is to end in time: its length is set once, its decay stays, and a resumed run does not measure again."""

import pytest
import yaml

from scratch_gpt.publishing.facts import stage_facts
from scratch_gpt.runs.checkpoints import list_checkpoints
from scratch_gpt.runs.log import RunLog
from scratch_gpt.training.pretrain import pretraining, time_budget
from scratch_gpt.training.pretrain.continued import read_base_run
from scratch_gpt.training.pretrain.time_budget import affordable_steps
from wording import user_error


PLANNED = {"max_steps": 20, "warmup_steps": 1, "decay_ratio": 0.5, "learning_rate": 1.0, "save_steps": 100}


@pytest.mark.parametrize(
    ("seconds_left", "steps"),
    [(90.0, 100), (45.0, 55), (9.5, 50), (-20.0, 50), (900.0, 910)],
    ids=["as planned", "twice as slow", "no time left", "late already", "ten times as fast"],
)
def test_the_decay_is_never_shortened(seconds_left: float, steps: int) -> None:
    """Ten steps are done, a second each from here on, and forty steps of decay."""
    assert affordable_steps(10, 40, seconds_left, 1.0) == steps


@pytest.mark.parametrize(("steps", "stable"), [(12, 2), (16, 6), (24, 14)])
def test_the_constant_part_gives_way(steps, stable, stage, arguments_for, tmp_path, monkeypatch) -> None:
    """A tenth into 20 planned steps: the rate falls over ten steps to a hundredth at the last, from wherever it begins."""
    monkeypatch.setattr(time_budget, "affordable_steps", lambda *measured: steps)
    stage.main(arguments_for(tmp_path / "base", **PLANNED, max_minutes=1))
    rows = RunLog(tmp_path / "base" / "log.jsonl").rows()
    rates = [row["learning_rate"] for row in rows if "loss" in row]
    decay = [0.01 + 0.99 * left / 10 for left in range(9, -1, -1)]
    assert rates == pytest.approx([1.0] * stable + decay)
    (length,) = (row for row in rows if "planned_steps" in row)
    assert (length["step"], length["planned_steps"], length["max_steps"]) == (2, 20, steps)
    # as those who begin with the model, and its card, see it
    assert read_base_run(tmp_path / "base" / "checkpoint-2").is_stable == (stable > 2)
    settings = yaml.safe_load(stage_facts(tmp_path / "base")["settings"])
    assert (settings["max_steps"], settings["decay_ratio"]) == (steps, pytest.approx(10 / steps, abs=1e-4))


def test_a_resumed_run_does_not_measure_again(stage, arguments_for, tmp_path, monkeypatch) -> None:
    """Killed behind the tenth, it goes on from there with the length that was set."""
    lengths = iter([14])
    monkeypatch.setattr(time_budget, "affordable_steps", lambda *measured: next(lengths))
    settings = {**PLANNED, "max_minutes": 1, "resume_from_checkpoint": "latest"}
    read_step = pretraining.Pretraining.read_step

    def killed(self):
        if self.step == 5:
            raise KeyboardInterrupt
        return read_step(self)

    with monkeypatch.context() as patch:
        patch.setattr(pretraining.Pretraining, "read_step", killed)
        with pytest.raises(KeyboardInterrupt):
            stage.main(arguments_for(tmp_path / "base", **settings))
    assert [folder.name for folder in list_checkpoints(tmp_path / "base")] == ["checkpoint-2"]
    stage.main(arguments_for(tmp_path / "base", **settings))
    rows = RunLog(tmp_path / "base" / "log.jsonl").rows()
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, 15))


@pytest.mark.parametrize(
    ("other", "value"),
    [
        ("lr_scheduler_type", "cosine"),
        ("decay_ratio", 0.9),
        ("shards", [{"path": "a"}, {"path": "b"}]),
    ],
)
def test_what_depends_on_the_length_is_refused(other, value, arguments_for, tmp_path) -> None:
    """A cosine, a decay from the start, phases of shards: none of them can be lengthened."""
    with user_error("settings_conflict", setting="max_minutes", other=other):
        arguments_for(tmp_path, max_minutes=5, **{other: value})
