# SPDX-License-Identifier: Apache-2.0
"""Numbers as a person reads them."""

from pathlib import Path

import pytest

from scratch_gpt.evaluation.compare import Comparison, Difference
from scratch_gpt.publishing.facts import beginning, cost_table, duration, known_failures, lineage
from scratch_gpt.publishing.labels import number
from wording import shows


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "not known"),
        (3.4, "3 seconds"),
        (119, "119 seconds"),
        (150, "2.5 minutes"),
        (9000, "2.5 hours"),
        (216000, "2.5 days"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    """The largest unit of which there are two."""
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "not known"), (1234567, "1,234,567"), (0.123456, "0.123"), (1234.56, "1,234.6"), (0.0, "0")],
)
def test_numbers(value: float | None, text: str) -> None:
    """Integers whole, fractions to three digits."""
    assert number(value) == text


def test_a_sum_with_an_unknown_part_is_unknown() -> None:
    """One stage whose tokens nobody counted: the sum of the others would be wrong."""
    hardware = {"device": "H100", "gpu": True, "processes": 8, "cpus": 64, "threads": 1}
    known = {
        "folder": "base",
        "steps": 1,
        "tokens": 10,
        "flops": 100,
        "seconds": 3600.0,
        "hardware": hardware,
    }
    unknown = {**known, "folder": "chat", "tokens": None, "flops": None, "seconds": None}
    rows, assumption = cost_table([known, unknown])
    assert [row["tokens"] for row in rows] == ["10", "not known", "not known"]
    assert [row["energy"] for row in rows] == ["5.6 kWh", "not known", "not known"]
    assert rows[0]["hardware"] == "8 x H100"
    assert shows(assumption, "700 W", "GPU")
    assert cost_table([known])[0] == [rows[0]]


def test_the_road_ends_where_a_folder_names_itself(tmp_path: Path) -> None:
    """A copy whose predecessor is not here, and had the same name, would be its own predecessor for ever."""
    for name, previous in (("chat", "elsewhere/base"), ("base", "elsewhere/base")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.yaml").write_text(f"model_name_or_path: {previous}\n")
    assert lineage(tmp_path / "chat") == [tmp_path / "base", tmp_path / "chat"]


def test_only_a_significant_loss_is_a_failure() -> None:
    """By the paired test, in the direction that is the worse one; overlapping intervals do not hide it."""
    metrics = ("exact_match", "accuracy", "repetition", "bits_per_byte", "length")
    value = {"value": 0.4, "ci95": [0.0, 1.0], "chance": None}
    scores = [Comparison("qa", f"facts/{metric}", {"base": value, "chat": value}) for metric in metrics]

    def failing(difference: float, p_value: float) -> list[str]:
        found = Difference(difference, (0.0, 0.0), p_value)
        differences = {("qa", score.metric): found for score in scores}
        lines = known_failures(scores, "chat", "base", differences)
        return [line.partition(":")[0].removeprefix("facts/") for line in lines]

    assert failing(-0.1, 0.003) == ["exact_match", "accuracy"]
    assert failing(0.1, 0.003) == ["repetition", "bits_per_byte"]
    assert failing(-0.1, 0.06) == []
    assert known_failures(scores, "chat", "base") == []


def test_from_nothing_is_said_only_where_it_was(tmp_path: Path) -> None:
    """By the first record, else by the first run.yaml; nothing is claimed where neither says so."""
    assert beginning([tmp_path], [], None) == "trained"
    assert beginning([tmp_path], [{"stage": "pretrain"}], None) == "trained from nothing"
    assert beginning([tmp_path], [{"stage": "sft"}], None) == "trained"
    assert beginning([tmp_path], [{"stage": "pretrain"}], {"name": "gpt2"}) == "tuned from gpt2"
    (tmp_path / "run.yaml").write_text("shards: s\n")
    assert beginning([tmp_path], [], None) == "trained from nothing"
    (tmp_path / "run.yaml").write_text("shards: s\nmodel_name_or_path: other\n")
    assert beginning([tmp_path], [], None) == "trained"
