# SPDX-License-Identifier: Apache-2.0
"""Where a run starts, and what of an earlier one stays."""

import os
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from scratch_gpt.runs.checkpoints import (
    MANIFEST_FILE,
    STATE_FOLDER,
    find_checkpoint,
    list_checkpoints,
    remove_checkpoint,
    rollback,
    verify_checkpoint,
    write_manifest,
    writing_checkpoint,
    writing_model,
)
from scratch_gpt.runs.log import RunLog
from wording import user_error


LAST = "trainer_state.json"


def make_run(folder: Path, steps: list[int], finished: bool) -> None:
    for step in steps:
        (folder / f"checkpoint-{step}").mkdir(parents=True)
        (folder / f"checkpoint-{step}" / LAST).write_text("{}")
        RunLog(folder / "log.jsonl").write(step=step, elapsed_seconds=1.0)
    if finished:
        (folder / "run.yaml").write_text("{}")


def test_latest_is_the_newest_whole_checkpoint(tmp_path: Path) -> None:
    """Of an unfinished run, the newest checkpoint that was written to its end; of none, nothing.

    What was not written to its end stays until the folder is claimed: another run may be writing it.
    """
    assert find_checkpoint(tmp_path / "none", "latest", LAST) is None
    make_run(tmp_path / "half", [9, 10], finished=False)
    (tmp_path / "half" / "checkpoint-11").mkdir()
    assert find_checkpoint(tmp_path / "half", "latest", LAST) == tmp_path / "half" / "checkpoint-10"
    assert (tmp_path / "half" / "checkpoint-11").exists()
    rollback(tmp_path / "half", tmp_path / "half" / "checkpoint-10")
    assert not (tmp_path / "half" / "checkpoint-11").exists()


@pytest.mark.parametrize("how", ["latest", None, "named"])
def test_nothing_starts_where_a_finished_run_or_a_model_is(tmp_path: Path, how) -> None:
    """Whatever is asked for; a model beside which no stage has logged is someone else's."""
    make_run(tmp_path / "whole", [9], finished=True)
    how = str(tmp_path / "whole" / "checkpoint-9") if how == "named" else how
    with user_error("finished_run", folder=tmp_path / "whole"):
        find_checkpoint(tmp_path / "whole", how, LAST)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    with user_error("output_occupied", folder=tmp_path / "model", file="config.json"):
        find_checkpoint(tmp_path / "model", how, LAST)


def test_wrong_starts_are_refused(tmp_path: Path) -> None:
    """Overwriting an unfinished run, resuming from nothing or from a model folder: one clear line each."""
    make_run(tmp_path / "half", [9], finished=False)
    with user_error("unfinished_run", folder=tmp_path / "half"):
        find_checkpoint(tmp_path / "half", None, LAST)
    with user_error("checkpoint_not_found", folder=tmp_path / "checkpoint-3"):
        find_checkpoint(tmp_path, str(tmp_path / "checkpoint-3"), LAST)
    (tmp_path / "model").mkdir()
    with user_error("not_a_checkpoint", folder=tmp_path / "model"):
        find_checkpoint(tmp_path, str(tmp_path / "model"), LAST)


def test_the_folder_is_cut_back_to_the_start(tmp_path: Path) -> None:
    """From a named checkpoint, later checkpoints, later rows and a half-written model go; afresh, all of them."""
    make_run(tmp_path, [5, 10], finished=False)
    for name in ("config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json"):
        (tmp_path / name).write_text("{}")
    checkpoint = tmp_path / "checkpoint-5"
    rollback(tmp_path, checkpoint)
    assert [row["step"] for row in RunLog(tmp_path / "log.jsonl").rows()] == [5]
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-5", "log.jsonl"}
    rollback(tmp_path, None)
    assert {path.name for path in tmp_path.iterdir()} == {"log.jsonl"}
    assert RunLog(tmp_path / "log.jsonl").rows() == []


def make_checkpoint(output_dir: Path, step: int) -> Path:
    folder = output_dir / f"checkpoint-{step}"
    (folder / STATE_FOLDER).mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(range(100)))
    (folder / STATE_FOLDER / "optimizer.bin").write_bytes(b"momentum")
    write_manifest(folder)
    return folder


def change(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"t", b"T"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda folder: change(folder / STATE_FOLDER / "optimizer.bin"),
            "optimizer.bin is not as it was written",
        ),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(b""),
            "model.safetensors is not as it was",
        ),
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors is missing"),
        (lambda folder: (folder / MANIFEST_FILE).write_text('{"mod'), "manifest.json is not readable"),
    ],
)
def test_damage_is_found(tmp_path: Path, spoil, message) -> None:
    """A changed byte, a cut-off file, a missing one, a torn manifest."""
    folder = make_checkpoint(tmp_path, 1)
    assert verify_checkpoint(folder) is None
    spoil(folder)
    assert message in verify_checkpoint(folder)


def test_damaged_checkpoints_are_passed_over(tmp_path: Path, capsys) -> None:
    """The newest whole one is taken; a damaged one that is named is refused; if all are damaged, so is a fresh start."""
    folders = [make_checkpoint(tmp_path, step) for step in (1, 2, 10)]
    for folder in folders[1:]:
        change(folder / STATE_FOLDER / "optimizer.bin")
    assert find_checkpoint(tmp_path, "latest", MANIFEST_FILE) == folders[0]
    told = capsys.readouterr().out
    assert told.index("checkpoint-10 is damaged") < told.index("checkpoint-2 is damaged")
    with user_error("checkpoints_damaged", folder=folders[2]):
        find_checkpoint(tmp_path, str(folders[2]), MANIFEST_FILE)
    change(folders[0] / STATE_FOLDER / "optimizer.bin")
    with user_error("checkpoints_damaged", folder=tmp_path):
        find_checkpoint(tmp_path, "latest", MANIFEST_FILE)


def test_a_checkpoint_appears_whole_and_old_ones_go(tmp_path: Path) -> None:
    """Written under another name, renamed at the end, with a manifest; two are kept; a killed removal is cleared."""
    accelerator = Accelerator(cpu=True)
    for step in (1, 2, 3):
        with writing_checkpoint(accelerator, tmp_path, step, save_total_limit=2) as folder:
            (folder / "model.safetensors").write_text("weights")
            assert f"checkpoint-{step}" not in [path.name for path in list_checkpoints(tmp_path)]
    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint-2", "checkpoint-3"]
    assert verify_checkpoint(tmp_path / "checkpoint-3") is None
    (tmp_path / "checkpoint-2").rename(tmp_path / "checkpoint-2.tmp")
    rollback(tmp_path, tmp_path / "checkpoint-3")
    assert not (tmp_path / "checkpoint-2.tmp").exists()
    remove_checkpoint(tmp_path / "checkpoint-3")
    assert list(tmp_path.glob("checkpoint*")) == []


def test_a_checkpoint_is_never_written_over(tmp_path: Path) -> None:
    """The one that is there stays as it is."""

    def write(content: str) -> None:
        with writing_checkpoint(Accelerator(cpu=True), tmp_path, 1, save_total_limit=2) as folder:
            (folder / "model.safetensors").write_text(content)

    write("first")
    with user_error("cannot_write", path=tmp_path / "checkpoint-1"):
        write("second")
    assert (tmp_path / "checkpoint-1" / "model.safetensors").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    """An error of the disk becomes one line, and the half-written folder goes."""
    with (
        user_error("cannot_write", "read-only", path=tmp_path / "checkpoint-1"),
        writing_checkpoint(Accelerator(cpu=True), tmp_path, 1, 2) as folder,
    ):
        (folder / "model.safetensors").write_text("half")
        raise OSError("read-only file system")
    assert list(tmp_path.iterdir()) == []


def test_memory_that_runs_out_is_not_the_disk(tmp_path: Path) -> None:
    """Its own error, and nothing is left of the checkpoint or the model."""
    with (
        pytest.raises(torch.OutOfMemoryError),
        writing_checkpoint(Accelerator(cpu=True), tmp_path, 1, 2) as folder,
    ):
        (folder / "model.safetensors").write_text("half")
        raise torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(torch.OutOfMemoryError), writing_model(tmp_path):
        (tmp_path / "model.safetensors").write_text("half")
        raise torch.OutOfMemoryError("CUDA out of memory")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_another_run_writes_is_left_alone(tmp_path) -> None:
    """The lock is on the folder itself; log, model and what is being written stay."""
    fcntl = pytest.importorskip("fcntl")
    make_run(tmp_path, [1], finished=False)
    (tmp_path / "checkpoint-2.tmp").mkdir()
    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    before = sorted(tmp_path.rglob("*"))
    with user_error("folder_in_use", folder=tmp_path):
        rollback(tmp_path, None)
    assert sorted(tmp_path.rglob("*")) == before
    os.close(handle)
    rollback(tmp_path, None)
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]
