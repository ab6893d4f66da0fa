# SPDX-License-Identifier: Apache-2.0
"""Where a run starts, and what of an earlier one stays."""

from pathlib import Path

import pytest

from scratch_gpt.errors import UserError
from scratch_gpt.training.checkpoints import find_start, prepare_folder
from scratch_gpt.training.telemetry import RunLog


LAST = "trainer_state.json"


def make_run(folder: Path, steps: list[int], finished: bool) -> None:
    for step in steps:
        (folder / f"checkpoint-{step}").mkdir(parents=True)
        (folder / f"checkpoint-{step}" / LAST).write_text("{}")
        RunLog(folder / "log.jsonl").write(step=step, elapsed_seconds=1.0)
    if finished:
        (folder / "run.yaml").write_text("{}")


def test_latest_is_the_newest_whole_checkpoint(tmp_path: Path) -> None:
    """Of an unfinished run, the newest checkpoint that was written to its end; of none and of a finished run, nothing."""
    assert find_start(tmp_path / "none", "latest", LAST) is None
    make_run(tmp_path / "half", [9, 10], finished=False)
    (tmp_path / "half" / "checkpoint-11").mkdir()
    assert find_start(tmp_path / "half", "latest", LAST) == tmp_path / "half" / "checkpoint-10"
    assert not (tmp_path / "half" / "checkpoint-11").exists()
    make_run(tmp_path / "whole", [9], finished=True)
    assert find_start(tmp_path / "whole", "latest", LAST) is None


def test_wrong_starts_are_refused(tmp_path: Path) -> None:
    """Overwriting an unfinished run, resuming from nothing or from a model folder: one clear line each."""
    make_run(tmp_path / "half", [9], finished=False)
    with pytest.raises(UserError, match="holds an unfinished run"):
        find_start(tmp_path / "half", None, LAST)
    with pytest.raises(UserError, match="no folder"):
        find_start(tmp_path, str(tmp_path / "checkpoint-3"), LAST)
    (tmp_path / "model").mkdir()
    with pytest.raises(UserError, match="not a checkpoint of this stage"):
        find_start(tmp_path, str(tmp_path / "model"), LAST)


def test_the_folder_is_cut_back_to_the_start(tmp_path: Path) -> None:
    """From a named checkpoint, later checkpoints, later rows and run.yaml go; afresh, all of them."""
    make_run(tmp_path, [5, 10], finished=True)
    checkpoint = tmp_path / "checkpoint-5"
    assert prepare_folder(tmp_path, str(checkpoint), LAST) == checkpoint
    assert [row["step"] for row in RunLog(tmp_path / "log.jsonl").rows()] == [5]
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-5", "log.jsonl"}
    (tmp_path / "run.yaml").write_text("{}")
    assert prepare_folder(tmp_path, None, LAST) is None
    assert {path.name for path in tmp_path.iterdir()} == {"log.jsonl"}
    assert RunLog(tmp_path / "log.jsonl").rows() == []
