# SPDX-License-Identifier: Apache-2.0
"""What must be as before for the same bits, and how a difference is told."""

from pathlib import Path

import pytest

from scratch_gpt.runs.checkpoints import write_progress
from scratch_gpt.training.planning import resume
from scratch_gpt.training.planning.resume import (
    check_settings,
    is_finished,
    restore_settings,
    settings_of,
    share_step,
)
from scratch_gpt.training.pretrain.arguments import PretrainArguments
from wording import user_error


FOLDERS = {"shards": "s", "tokenizer": "t", "output_dir": "o"}


def settings(num_processes: int = 1, **changes) -> dict:
    given = {
        "learning_rate": 7e-3,
        "gradient_accumulation_steps": 1,
        "num_threads": 2,
        "mixed_precision": "bf16",
    }
    return settings_of(PretrainArguments(**FOLDERS, **{**given, **changes}), num_processes)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (
            settings(learning_rate=1e-2),
            user_error("settings_changed", 0.007, 0.01, settings=["learning_rate"]),
        ),
        (settings(num_processes=2), user_error("settings_changed", 1, 2, settings=["num_processes"])),
        (
            settings(mixed_precision="no"),
            user_error("settings_changed", "bf16", "no", settings=["mixed_precision"]),
        ),
        (
            settings(gradient_accumulation_steps=2, seed=1),
            user_error("settings_changed", 2, 0, settings=["gradient_accumulation_steps", "seed"]),
        ),
    ],
)
def test_differences_are_listed_and_refused(now, expected, capsys) -> None:
    """All of them, with both values; allowed, they are printed."""
    with expected:
        check_settings({"settings": settings()}, now, Path("c"), allow_changed_settings=False)
    check_settings({"settings": settings()}, now, Path("c"), allow_changed_settings=True)
    assert "changed settings" in capsys.readouterr().out


def test_what_only_changes_the_output_is_no_difference() -> None:
    """Folders, rows, evaluations, checkpoints, uploads."""
    now = settings(logging_steps=1, eval_steps=3, save_steps=4, save_total_limit=9, sample_prompts=["x"])
    check_settings({"settings": settings()}, now, Path("c"), allow_changed_settings=False)


@pytest.mark.parametrize(
    "other", [{"model_config": {"hidden_size": 64}}, {"optim": "adamw"}, {"objective": "masked"}]
)
def test_another_model_or_optimizer_is_refused_even_if_changes_are_allowed(other) -> None:
    """Its weights or its state would not fit."""
    (name,) = other
    with user_error("cannot_resume", settings=[name]):
        check_settings({"settings": settings()}, settings(**other), Path("c"), allow_changed_settings=True)


def test_a_length_that_was_set_by_the_clock_stays() -> None:
    """`max_minutes` has done its work by then: another one would have no effect."""
    before, now = {"settings": settings()}, settings(max_minutes=60.0)
    check_settings(before, now, Path("c"), allow_changed_settings=True)
    with user_error("cannot_resume", settings=["max_minutes"]):
        check_settings({**before, "replanned": 500}, now, Path("c"), allow_changed_settings=True)


def test_a_setting_younger_than_the_run_had_its_default(tmp_path, capsys) -> None:
    """A run of before there was a cosine is gone on with, and complete already; with a cosine it is another."""
    before = {name: value for name, value in settings().items() if name != "lr_scheduler_type"}
    before["gradient_checkpointing"] = before.pop("activation_checkpointing")  # its name then
    check_settings({"settings": before}, settings(), Path("c"), allow_changed_settings=False)
    with user_error("settings_changed", "warmup_stable_decay", "cosine", settings=["lr_scheduler_type"]):
        check_settings({"settings": before}, settings(lr_scheduler_type="cosine"), Path("c"), False)
    write_progress({"settings": before, "content_hash": "h", "step": 9}, tmp_path)
    (tmp_path / "run.yaml").write_text("{}")
    given = {**FOLDERS, "output_dir": str(tmp_path), "gradient_accumulation_steps": 1}
    assert is_finished(PretrainArguments(**given, resume_from_checkpoint="latest"), "h")
    assert "complete already" in capsys.readouterr().out


def test_another_number_of_threads_is_reported_and_no_reason_to_stop(capsys, monkeypatch) -> None:
    """One line that names the exact way; on a GPU nothing depends on it."""
    now = settings(num_threads=1)
    check_settings({"settings": settings()}, now, Path("c"), allow_changed_settings=False)
    assert "--num_threads 2" in " ".join(capsys.readouterr().out.split())
    check_settings({"settings": now}, now, Path("c"), allow_changed_settings=False)
    monkeypatch.setattr(resume, "gpu_name", lambda: "NVIDIA H100")
    check_settings({"settings": settings()}, settings(num_threads=1), Path("c"), allow_changed_settings=False)
    assert capsys.readouterr().out == ""


def test_a_resumed_run_keeps_what_its_first_start_resolved() -> None:
    """On a machine with other memory too; what is given is not overwritten."""
    before = {
        "max_steps": 11,
        "learning_rate": 0.5,
        "warmup_steps": 2,
        "per_device_train_batch_size": 5,
        "gradient_accumulation_steps": 9,
        "tokens": None,
        "num_train_epochs": None,
        "mixed_precision": "bf16",
    }
    again = restore_settings(PretrainArguments(**FOLDERS), before)
    assert {name: getattr(again, name) for name in before} == before
    named = {"learning_rate": 0.1, "tokens": 1000, "mixed_precision": "no"}
    given = restore_settings(PretrainArguments(**FOLDERS, **named), before)
    assert (given.learning_rate, given.max_steps, given.warmup_steps) == (0.1, -1, 2)
    assert given.mixed_precision == "no"


@pytest.mark.parametrize(
    ("began", "processes", "now"),
    [
        ((4, 2, 1), 2, (4, 1)),
        ((4, 1, 1), 2, (2, 1)),
        ((4, 1, 2), 1, (4, 2)),
        ((4, 3, 2), 3, (4, 2)),
        ((6, 1, 2), 3, (4, 1)),
        ((4, 2, 1), 8, (1, 1)),
    ],
)
def test_another_number_of_processes_shares_the_same_step(began, processes, now) -> None:
    """The largest micro-batch up to that of before; what the run began with is kept, so any number can follow."""
    names = ("per_device_train_batch_size", "gradient_accumulation_steps")
    before = settings(began[2], **dict(zip(names, began)))
    arguments = PretrainArguments(**FOLDERS, **dict(zip(names, began)))
    shared, kept = share_step(arguments, before, processes)
    assert tuple(getattr(shared, name) for name in names) == now
    assert now[0] * now[1] * processes == began[0] * began[1] * began[2]
    assert tuple(kept.values()) == began
    check_settings(
        {"settings": before}, settings(processes, **dict(zip(names, now))) | kept, Path("c"), False
    )
    assert share_step(shared, before, processes) == (shared, kept)  # named on the command line


def test_a_step_that_does_not_divide_is_refused_with_the_numbers_that_do() -> None:
    """More processes than blocks too; another batch that is asked for is another setting, as ever."""
    before = settings(2, per_device_train_batch_size=3)
    arguments = PretrainArguments(**FOLDERS, per_device_train_batch_size=3, gradient_accumulation_steps=1)
    for processes in (4, 7):
        with user_error("step_not_divisible", "1, 2, 3, 6", blocks=6, num_processes=processes):
            share_step(arguments, before, processes)
    assert share_step(arguments, before, 2) == (arguments, {})
    other = PretrainArguments(**FOLDERS, per_device_train_batch_size=5, gradient_accumulation_steps=1)
    assert share_step(other, before, 4) == (other, {})
