# SPDX-License-Identifier: Apache-2.0
"""docs/reference/rows.md and preference-rows.md list what the code reads, all of it and nothing else."""

import re
from pathlib import Path

import pytest

from scratch_gpt.data.rows.conversations import INSTRUCTIONS
from scratch_gpt.data.rows.examples import LAYOUTS
from scratch_gpt.data.rows.messages import ROLES
from scratch_gpt.data.rows.preferences import LABEL_LAYOUTS, LABELS, PAIR_LAYOUTS, WINNERS


REFERENCE = Path(__file__).parents[3] / "docs" / "reference"
PAGES = "".join((REFERENCE / name).read_text(encoding="utf-8") for name in ("rows.md", "preference-rows.md"))


def rows(heading: str, begins: str) -> list[list[str]]:
    """Cells of the table below a heading whose first line begins so, without that line."""
    section = PAGES.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    table = section.partition(f"\n| {begins} |")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


@pytest.mark.parametrize(
    ("heading", "layouts"),
    [
        ("Conversations", INSTRUCTIONS.layouts),
        ("Pairs", PAIR_LAYOUTS),
        ("Judged answers", LABEL_LAYOUTS),
        ("Benchmarks", LAYOUTS),
    ],
)
def test_layouts_are_those_of_the_code(heading: str, layouts: tuple[dict[str, str], ...]) -> None:
    """In the order in which they are tried."""
    found = [
        dict(zip(roles.split(", "), re.findall("`(.*?)`", columns), strict=True))
        for columns, roles, _ in rows(heading, "columns")
    ]
    assert found == [{role: column for role, column in layout.items() if column} for layout in layouts]


def test_names_are_those_of_the_code() -> None:
    """Of roles, winners and labels."""
    for heading, begins, named, known in (
        ("Names of roles", "role", {role: role for role in ROLES.values()}, ROLES),
        ("Pairs", "better", {"first": "first", "second": "second", "none: a tie": None}, WINNERS),
        ("Judged answers", "judged", {"liked": True, "not liked": False}, LABELS),
    ):
        table = rows(heading, begins)
        assert {
            name: named[value] for value, names in table for name in re.findall("`(.*?)`", names)
        } == known
