# SPDX-License-Identifier: Apache-2.0
"""What must be as before for the same bits, and how a difference is told."""

from pathlib import Path

import pytest

from scratch_gpt.runs.checkpoints import write_progress
from scratch_gpt.settings.hardware import ComputeSettings
from scratch_gpt.training.pretrain.arguments import PretrainArguments
from scratch_gpt.training.pretrain.resume import (
    check_settings,
    is_finished,
    restore_compute_settings,
    settings_of,
)
from wording import user_error


HARDWARE = ComputeSettings(2, "bf16")


def settings(num_processes: int = 1, hardware: ComputeSettings = HARDWARE, **changes) -> dict:
    given = {"learning_rate": 7e-3, "gradient_accumulation_steps": 1, **changes}
    arguments = PretrainArguments(shards="s", tokenizer="t", output_dir="o", **given)
    return settings_of(arguments, hardware, num_processes)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (
            settings(learning_rate=1e-2),
            user_error("settings_changed", 0.007, 0.01, settings=["learning_rate"]),
        ),
        (settings(num_processes=2), user_error("settings_changed", 1, 2, settings=["num_processes"])),
        (
            settings(hardware=ComputeSettings(2, "no")),
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


def test_a_setting_younger_than_the_run_had_its_default(tmp_path, capsys) -> None:
    """A run of before there was a cosine is gone on with, and complete already; with a cosine it is another."""
    before = {name: value for name, value in settings().items() if name != "lr_scheduler_type"}
    check_settings({"settings": before}, settings(), Path("c"), allow_changed_settings=False)
    with user_error("settings_changed", "warmup_stable_decay", "cosine", settings=["lr_scheduler_type"]):
        check_settings({"settings": before}, settings(lr_scheduler_type="cosine"), Path("c"), False)
    write_progress({"settings": before, "content_hash": "h", "step": 9}, tmp_path)
    (tmp_path / "run.yaml").write_text("{}")
    given = {"shards": "s", "tokenizer": "t", "output_dir": "o", "gradient_accumulation_steps": 1}
    again = PretrainArguments(**given, resume_from_checkpoint="latest")
    assert is_finished(tmp_path, again, "h")
    assert "complete already" in capsys.readouterr().out


def test_precision_is_that_of_before_and_threads_are_those_of_the_machine(monkeypatch) -> None:
    """Unless they are named."""
    progress = {"settings": settings()}
    folders = {"shards": "s", "tokenizer": "t", "output_dir": "o"}
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert restore_compute_settings(progress, PretrainArguments(**folders)) == ComputeSettings(3, "bf16")
    named = PretrainArguments(**folders, num_threads=1, mixed_precision="no")
    assert restore_compute_settings(progress, named) == ComputeSettings(1, "no")


def test_another_number_of_threads_is_reported_and_no_reason_to_stop(capsys, monkeypatch) -> None:
    """One line that names the exact way; on a GPU nothing depends on it."""
    now = settings(hardware=ComputeSettings(1, "bf16"))
    check_settings({"settings": settings()}, now, Path("c"), allow_changed_settings=False)
    assert "--num_threads 2" in " ".join(capsys.readouterr().out.split())
    check_settings({"settings": now}, now, Path("c"), allow_changed_settings=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    check_settings({"settings": settings()}, now, Path("c"), allow_changed_settings=False)
    assert capsys.readouterr().out == ""
