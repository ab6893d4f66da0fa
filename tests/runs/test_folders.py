# SPDX-License-Identifier: Apache-2.0
"""Output folders: whole or absent, and never at the price of somebody's files."""

import os

import numpy as np
import pytest

from scratch_gpt.runs.folders import (
    PROGRESS,
    SETTINGS_FILE,
    STATE,
    atomic_directory,
    atomic_write,
    has_settings,
    load_progress,
    lock,
    read_json,
    save_progress,
)
from wording import user_error


@pytest.fixture
def another_run():
    """`another_run(folder)` holds the lock on a folder as another process would, until the number it gives is closed."""
    fcntl = pytest.importorskip("fcntl")

    def hold(folder):
        handle = os.open(folder, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return handle

    return hold


def test_a_folder_is_written_by_one_run(another_run, tmp_path):
    """While another run holds it, it is refused and stays as it is; afterwards, and again by the same process, it is not."""
    (tmp_path / "out.tmp").mkdir()
    (tmp_path / "out.tmp" / "theirs").write_text("half")
    handle = another_run(tmp_path / "out.tmp")
    with (
        user_error("folder_in_use", folder=tmp_path / "out.tmp"),
        atomic_directory(tmp_path / "out", ("a",)),
    ):
        pytest.fail("written by two")
    assert (tmp_path / "out.tmp" / "theirs").is_file()
    os.close(handle)
    with atomic_directory(tmp_path / "out", ("a",)) as folder, pytest.raises(BlockingIOError):
        assert list(folder.iterdir()) == []
        another_run(tmp_path / "out.tmp")
    lock(tmp_path)
    lock(tmp_path)
    os.close(another_run(tmp_path / "out"))


def test_folder_appears_only_when_the_block_ends_well(tmp_path):
    """An exception leaves no folder under the final name; the next try succeeds and replaces an older result."""
    target = tmp_path / "deep" / "out"
    with pytest.raises(KeyboardInterrupt), atomic_directory(target, ("a",)) as folder:
        (folder / "a").write_text("half")
        raise KeyboardInterrupt
    assert not target.exists()
    for text in ("first", "second"):
        with atomic_directory(target, ("a",)) as folder:
            assert list(folder.iterdir()) == []
            (folder / "a").write_text(text)
        assert [(file.name, file.read_text()) for file in target.iterdir()] == [("a", text)]
    assert [entry.name for entry in target.parent.iterdir()] == ["out"]


def test_other_files_are_never_replaced(tmp_path):
    """A folder that holds anything not made by the stage is refused and stays as it is."""
    (tmp_path / "thesis.txt").write_text("precious")
    with (
        user_error("output_occupied", folder=tmp_path, file="thesis.txt"),
        atomic_directory(tmp_path, ("a",)),
    ):
        pass
    with (
        user_error("output_is_file", path=tmp_path / "thesis.txt"),
        atomic_directory(tmp_path / "thesis.txt", ("a",)),
    ):
        pass
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_unfinished_folder_is_given_again_for_the_same_settings_only(tmp_path):
    """With the same settings what was written and recorded is still there; with others the folder is empty."""

    def interrupted(settings):
        with pytest.raises(KeyboardInterrupt), atomic_directory(tmp_path / "out", ("a",), settings) as folder:
            found = [path.name for path in folder.iterdir() if path.name == "a"], load_progress(folder)
            (folder / "a").write_text("half")
            save_progress(folder, {"row": 2**70}, {"ids": np.arange(3, dtype=np.uint16)})
            raise KeyboardInterrupt
        return found

    assert interrupted({"seed": 1}) == ([], None)
    names, (values, arrays) = interrupted({"seed": 1})
    assert names == ["a"]
    assert values == {"row": 2**70}
    assert arrays["ids"].tolist() == [0, 1, 2]
    assert arrays["ids"].dtype == np.uint16
    assert interrupted({"seed": 2}) == ([], None)
    (tmp_path / "out.tmp" / PROGRESS / STATE).unlink()
    assert interrupted({"seed": 2}) == ([], None), "what was never recorded is not gone on with"
    with atomic_directory(tmp_path / "out", ("a",), {"seed": 2}):
        pass
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", SETTINGS_FILE]
    assert [has_settings(tmp_path / "out", {"seed": seed}) for seed in (1, 2)] == [False, True]


def test_damaged_record_is_named(tmp_path):
    """A record of progress that cannot be read is no silent fresh start."""
    (tmp_path / PROGRESS).mkdir()
    save_progress(tmp_path, 1, {})
    path = tmp_path / PROGRESS / STATE
    path.write_bytes(path.read_bytes()[:-5])
    with user_error("damaged_file", file=path):
        load_progress(tmp_path)


def test_a_file_appears_whole_or_stays_as_it_was(tmp_path):
    """An exception in the block leaves the old content and nothing beside it; a folder in the way is one line."""
    target = tmp_path / "deep" / "out.json"
    with atomic_write(target) as temporary:
        temporary.write_text("[1]")
    with pytest.raises(KeyboardInterrupt), atomic_write(target) as temporary:
        temporary.write_text("[2")
        raise KeyboardInterrupt
    assert read_json(target) == [1]
    assert list(target.parent.iterdir()) == [target]
    with user_error("cannot_write", path=target.parent), atomic_write(target.parent) as temporary:
        temporary.write_text("[3]")
    assert [entry.name for entry in tmp_path.iterdir()] == ["deep"]


@pytest.mark.parametrize("content", [b"[1", b"\xff"])
def test_damaged_json_is_one_line(tmp_path, content: bytes):
    """The file is named, whatever is wrong with it."""
    (tmp_path / "a.json").write_bytes(content)
    with user_error("unreadable_file", file=tmp_path / "a.json"):
        read_json(tmp_path / "a.json")
    with user_error("unreadable_file", file=tmp_path / "b.json"):
        read_json(tmp_path / "b.json")
