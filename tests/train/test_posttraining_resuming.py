# SPDX-License-Identifier: Apache-2.0
"""sft, reward, dpo, kto, distill and rlhf: interrupted, broken off and started again on a tiny model."""

import errno
import logging
import math
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trl
from safetensors import SafetensorError

from scratch_gpt.runs.checkpoints import list_checkpoints
from scratch_gpt.training.posttrain import posttraining
from scratch_gpt.training.posttrain.callbacks import StageLog
from stage_rows import rows_with
from wording import shows, user_error


@pytest.mark.parametrize(
    ("stage", "more"),
    [
        ("sft", {"train_sampling_strategy": "batch_rebalance", "gradient_accumulation_steps": 2}),
        ("reward", {}),
        ("dpo", {}),
        pytest.param("kto", {}, marks=pytest.mark.slow),
        pytest.param("distill", {}, marks=pytest.mark.slow),
        ("rlhf", {"eval_steps": 4}),
        ("rlhf", {"eval_steps": 4, "algorithm": "grpo"}),
    ],
)
def test_resuming_gives_the_same_run(
    stage: str,
    more: dict[str, Any],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A run that was stopped after step 4 of 6 goes on from there, to the losses and weights of a straight run."""
    logging.getLogger("transformers").addHandler(caplog.handler)
    call = request.getfixturevalue(stage)
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    more = {"save_steps": 4, **more}
    call(output_dir=str(straight), max_steps=6, **more)
    shutil.copytree(straight, resumed)
    shutil.rmtree(resumed / "checkpoint-6")
    (resumed / "checkpoint-5").mkdir()  # a checkpoint that was being written
    (resumed / "run.yaml").unlink()
    (resumed / "model.safetensors").unlink()
    call(output_dir=str(resumed), max_steps=6, resume_from_checkpoint="latest", **more)
    before, after = rows_with(straight, "loss"), rows_with(resumed, "loss")
    assert after[:4] == before[:4]  # with their times: these steps were not taken again
    assert after[4]["elapsed_seconds"] > after[3]["elapsed_seconds"]
    for key in ("step", "loss", "grad_norm", "tokens", "learning_rate"):
        assert [row[key] for row in after] == [row[key] for row in before]
    assert (resumed / "model.safetensors").read_bytes() == (straight / "model.safetensors").read_bytes()
    assert not (resumed / "checkpoint-5").exists()
    logging.getLogger("transformers").removeHandler(caplog.handler)
    assert "missing keys" not in caplog.text


@pytest.mark.parametrize(
    ("stage", "more"),
    [("sft", {}), ("dpo", {}), ("rlhf", {"eval_steps": 2})],
)
def test_an_interrupted_run_saves_the_step_it_is_in(
    stage: str,
    more: dict[str, Any],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    """Ctrl-C in step 3: status 130, a checkpoint of that step, nothing finished; resumed, the weights of a straight run."""
    call = request.getfixturevalue(stage)
    straight, output = tmp_path / "straight", tmp_path / "out"
    call(output_dir=str(straight), max_steps=4, **more)
    begin_step = StageLog.on_step_begin

    def interrupt(callback: StageLog, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        begin_step(callback, args, state, control, **kwargs)
        if state.global_step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as left:
        patch.setattr(StageLog, "on_step_begin", interrupt)
        call(output_dir=str(output), max_steps=4, **more)
    assert left.value.code == 130
    assert shows(capsys.readouterr().out, "checkpoint-3", "--resume_from_checkpoint latest")
    assert list_checkpoints(output)[-1] == output / "checkpoint-3"
    assert not (output / "run.yaml").exists() and not (output / "model.safetensors").exists()
    call(output_dir=str(output), max_steps=4, resume_from_checkpoint="latest", **more)
    assert (output / "model.safetensors").read_bytes() == (straight / "model.safetensors").read_bytes()


@pytest.mark.parametrize("stage", ["sft", "rlhf"])
def test_a_run_stopped_behind_its_last_step_takes_no_other(
    stage: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Stopped while it measured or wrote the folder: the last checkpoint is all of the training, amid an epoch too."""
    call, output = request.getfixturevalue(stage), tmp_path / "out"
    settings = {"output_dir": str(output), "max_steps": 2, "save_steps": 2}
    call(**settings)
    log, weights = (output / "log.jsonl").read_text(), (output / "model.safetensors").read_bytes()
    (output / "run.yaml").unlink()
    (output / "model.safetensors").unlink()
    call(**settings, resume_from_checkpoint="latest")
    assert (output / "log.jsonl").read_text() == log
    assert (output / "model.safetensors").read_bytes() == weights


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(
    sft: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a checkpoint is written, the one before it is kept; while the finished model is, the last one."""
    output, settings = tmp_path / "out", {"max_steps": 2, "save_steps": 1, "eval_strategy": "no"}
    save_state = trl.SFTTrainer._save_rng_state

    def fail(trainer: trl.SFTTrainer, folder: str) -> None:
        save_state(trainer, folder)
        if folder.endswith("checkpoint-2"):
            raise OSError(errno.ENOSPC, "No space left on device")

    def fail_at_the_end(model: Any, tokenizer: Any, folder: Path) -> None:
        model.config.save_pretrained(folder)
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr(trl.SFTTrainer, "_save_rng_state", fail)
        with user_error("cannot_write", "No space left", path=output / "checkpoint-2"):
            sft(output_dir=str(output), **settings)
    assert [path.name for path in output.glob("checkpoint-*")] == ["checkpoint-1"]
    with monkeypatch.context() as patch:
        patch.setattr(posttraining, "save_model_folder", fail_at_the_end)
        with user_error("cannot_write", "No space left", path=output):
            sft(output_dir=str(output), resume_from_checkpoint="latest", **settings)
    assert {path.name for path in output.glob("checkpoint-*")} == {"checkpoint-1", "checkpoint-2"}
    assert not {"config.json", "model.safetensors", "run.yaml"} & {path.name for path in output.iterdir()}


def test_no_start_overwrites_a_run(
    sft: Callable[..., None], base_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """A finished one is complete, or refused where a setting or the base model is another; so is an unfinished one."""
    output = tmp_path / "out"
    sft(output_dir=str(output), max_steps=2)
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    sft(output_dir=str(output), max_steps=2, resume_from_checkpoint="latest", num_threads=2)
    assert "complete already" in capsys.readouterr().out
    for expected, changes in (
        (
            user_error("finished_run_differs", 2, 9, settings=["max_steps"]),
            {"max_steps": 9, "resume_from_checkpoint": "latest"},
        ),
        (user_error("finished_run", folder=output), {"max_steps": 9}),
        (
            user_error("finished_run", folder=output),
            {"resume_from_checkpoint": str(output / "checkpoint-2")},
        ),
    ):
        with expected:
            sft(output_dir=str(output), **{"max_steps": 2, **changes})
    (base_folder / "provenance.json").write_text('{"stages": [{"stage": "pretrain", "finished": "later"}]}')
    with user_error("finished_run_differs", base_folder, settings=["model_name_or_path"]):
        sft(output_dir=str(output), max_steps=2, resume_from_checkpoint="latest")
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before
    (output / "run.yaml").unlink()
    with user_error("unfinished_run", "--resume_from_checkpoint latest", folder=output):
        sft(output_dir=str(output), max_steps=2)


@pytest.mark.parametrize("stage", ["sft", "reward", "dpo", "kto", "rlhf", "distill"])
def test_a_finished_run_is_found_by_its_own_command(
    stage: str, request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Whatever the stage has filled in by itself; a setting that was given then and is not now makes another run."""
    call, output = request.getfixturevalue(stage), str(tmp_path / "out")
    call(output_dir=output, max_steps=1, max_train_samples=16)
    call(output_dir=output, max_steps=1, max_train_samples=16, resume_from_checkpoint="latest")
    assert "complete already" in capsys.readouterr().out
    with user_error("finished_run_differs", 16, None, settings=["max_train_samples"]):
        call(output_dir=output, max_steps=1, resume_from_checkpoint="latest")


def test_a_checkpoint_is_resumed_by_its_own_settings(
    sft: Callable[..., None], base_folder: Path, tmp_path: Path
) -> None:
    """Others would have no effect, since optimizer and schedule are the checkpoint's; when it is saved may change."""
    output = tmp_path / "out"
    settings = {"output_dir": str(output), "max_steps": 4, "save_steps": 2}
    sft(**settings)
    (output / "run.yaml").unlink()
    shutil.rmtree(output / "checkpoint-4")
    resuming = {**settings, "resume_from_checkpoint": "latest"}
    with user_error("settings_changed", 1e-5, settings=["learning_rate"]):
        sft(**resuming, learning_rate=1e-5)
    records = base_folder / "provenance.json"
    records.write_text('{"stages": [{"stage": "pretrain", "finished": "later"}]}')
    with user_error("settings_changed", base_folder, settings=["model_name_or_path"]):
        sft(**resuming)
    records.unlink()
    sft(**{**resuming, "save_steps": 3}, num_threads=2)
    assert (output / "run.yaml").is_file()


def test_lora_goes_on_from_its_checkpoint(sft: Callable[..., None], tmp_path: Path) -> None:
    """An interrupted run with adapters ends in the weights of a straight one."""
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    lora = {"use_peft": "true", "max_steps": 4, "save_steps": 2}
    sft(output_dir=str(straight), **lora)
    shutil.copytree(straight, resumed)
    shutil.rmtree(resumed / "checkpoint-4")
    (resumed / "run.yaml").unlink()
    sft(output_dir=str(resumed), resume_from_checkpoint="latest", **lora)
    assert (resumed / "model.safetensors").read_bytes() == (straight / "model.safetensors").read_bytes()


@pytest.mark.parametrize("stage", ["sft", "reward", "dpo", pytest.param("kto", marks=pytest.mark.slow)])
def test_a_broken_gradient_leaves_the_last_checkpoint(
    stage: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A loss that is NaN at step 2 ends each stage there: nothing is written behind the checkpoint that the line names."""
    trainer = {
        "sft": trl.SFTTrainer,
        "reward": trl.RewardTrainer,
        "dpo": trl.DPOTrainer,
        "kto": trl.KTOTrainer,
    }[stage]
    compute = trainer.compute_loss

    def broken(self: Any, *args: Any, **more: Any) -> Any:
        return compute(self, *args, **more) * (math.nan if self.state.global_step else 1.0)

    monkeypatch.setattr(trainer, "compute_loss", broken)
    output = tmp_path / "out"
    with user_error("gradient_not_finite", "step 2", output / "checkpoint-1", value=math.nan):
        request.getfixturevalue(stage)(output_dir=str(output), max_steps=4, save_steps=1, eval_strategy="no")
    assert not (output / "model.safetensors").exists() and not (output / "checkpoint-2").exists()
