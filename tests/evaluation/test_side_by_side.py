# SPDX-License-Identifier: Apache-2.0
"""`scratch-gpt compare` on result files written here."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from scratch_gpt import cli
from scratch_gpt.evaluation.benchmark import write_items
from scratch_gpt.evaluation.runner import Metric, mean_metric, write_result
from scratch_gpt.evaluation.side_by_side import compare_folders
from wording import user_error


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    """Three models: the second is better at facts, the third answered other questions; kinds are there too."""
    for name, values, digest in (
        ("a", [0.0, 0.0, 1.0] * 20, "x"),
        ("b", [0.0, 1.0, 1.0] * 20, "x"),
        ("c", [1.0, 1.0, 1.0] * 20, "y"),
    ):
        metric = mean_metric(values, 0, chance=0.25)
        metrics = {"facts/f1": metric, "facts/new/f1": metric, "facts/asks_on": Metric(0.0, (0.0, 0.0))}
        write_result(tmp_path / name / "results" / "qa.json", "qa", name, 60, metrics, {}, 0)
        write_items(tmp_path / name / "results" / "qa.items.jsonl", metrics, {"facts": digest})
    return [str(tmp_path / name) for name in "abc"]


def test_each_model_is_tested_against_the_first(folders: list[str]) -> None:
    """Where the items are the same and stored; each kind of example only where it is asked for."""
    scores, differences = compare_folders(folders)
    assert [score.metric for score in scores] == ["facts/f1", "facts/asks_on"]
    assert list(differences) == [("qa", "facts/f1", folders[1])]
    difference = differences["qa", "facts/f1", folders[1]]
    assert difference.value == pytest.approx(1 / 3)
    assert difference.is_significant
    scores, _ = compare_folders(folders, all_kinds=True)
    assert [score.metric for score in scores] == ["facts/f1", "facts/new/f1", "facts/asks_on"]


def test_the_command_prints_and_draws(folders: list[str], tmp_path: Path) -> None:
    """The table with a star, what was not tested, and a PNG."""
    picture = tmp_path / "pictures" / "compare.png"
    result = CliRunner().invoke(cli.app, ["compare", *folders, "--output", str(picture)])
    assert result.exit_code == 0, result.output
    row = next(line for line in result.output.splitlines() if "facts/f1" in line)
    assert "0.333 [" in row
    assert "+0.333* (p=" in row
    assert row.count("*") == 1
    assert "Tests: 1;" in result.output
    assert "Not tested: 3" in result.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert [file.name for file in picture.parent.iterdir()] == ["compare.png"]


def test_what_cannot_be_compared_is_one_line(folders: list[str], tmp_path: Path) -> None:
    """One folder, the same twice, a folder without results, results without a common number."""
    with user_error("too_few_folders", folders=folders[:1]):
        compare_folders(folders[:1])
    with user_error("too_few_folders", folders=[folders[0], folders[0]]):
        compare_folders([folders[0], folders[0]])
    with user_error("no_results", "nowhere/results", folder="nowhere"):
        compare_folders([folders[0], "nowhere"])
    items = Path(folders[1]) / "results" / "qa.items.jsonl"
    whole = items.read_text()
    items.write_text(whole[: len(whole) // 2])
    with user_error("unreadable_file", file=items):
        compare_folders(folders)
    other = tmp_path / "other"
    write_result(other / "results" / "qa.json", "qa", "o", 1, {"x/y": Metric(0.0, (0.0, 0.0))}, {}, 0)
    with user_error("no_common_metric"):
        compare_folders([folders[0], str(other)])
