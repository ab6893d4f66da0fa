# SPDX-License-Identifier: Apache-2.0
"""The table of sizes is the one that the configurations give."""

from pathlib import Path

import pytest

from scratch_gpt.training.planning import sizes


PROJECT = Path(__file__).parents[3]


def test_only_what_is_between_the_marks_is_replaced(tmp_path, monkeypatch) -> None:
    """Text before and after the table stays; writing again changes nothing."""
    monkeypatch.setattr(sizes, "sizes_table", lambda: "| new |\n")
    page = tmp_path / "page.md"
    page.write_text(f"before\n{sizes.BEGIN}\nold\n{sizes.END}\nafter\n")
    sizes.write_sizes(page)
    assert page.read_text() == f"before\n{sizes.BEGIN}\n| new |\n{sizes.END}\nafter\n"
    sizes.write_sizes(page)
    assert page.read_text().count("| new |") == 1


@pytest.mark.slow
def test_guide_is_up_to_date() -> None:
    """`scratch-gpt sizes --output docs/reference/sizes.md` would change nothing."""
    table = f"{sizes.BEGIN}\n{sizes.sizes_table()}{sizes.END}"
    assert table in (PROJECT / "docs" / "reference" / "sizes.md").read_text(encoding="utf-8")
