# SPDX-License-Identifier: Apache-2.0
"""Output folders: whole or absent, and never at the price of somebody's files."""

import pytest

from scratch_gpt.data.folders import written_whole
from scratch_gpt.errors import UserError


def test_folder_appears_only_when_the_block_ends_well(tmp_path):
    """An exception leaves no folder under the final name; the next try succeeds and replaces an older result."""
    target = tmp_path / "deep" / "out"
    with pytest.raises(KeyboardInterrupt), written_whole(target, ("a",)) as folder:
        (folder / "a").write_text("half")
        raise KeyboardInterrupt
    assert not target.exists()
    for text in ("first", "second"):
        with written_whole(target, ("a",)) as folder:
            assert list(folder.iterdir()) == []
            (folder / "a").write_text(text)
        assert [(file.name, file.read_text()) for file in target.iterdir()] == [("a", text)]
    assert [entry.name for entry in target.parent.iterdir()] == ["out"]


def test_other_files_are_never_replaced(tmp_path):
    """A folder that holds anything not made by the stage is refused and stays as it is."""
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match=r"holds thesis.txt"), written_whole(tmp_path, ("a",)):
        pass
    with pytest.raises(UserError, match="is a file"), written_whole(tmp_path / "thesis.txt", ("a",)):
        pass
    assert (tmp_path / "thesis.txt").read_text() == "precious"
