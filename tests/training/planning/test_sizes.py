# SPDX-License-Identifier: Apache-2.0
"""The table of sizes is the one that the configurations give."""

from pathlib import Path

import pytest

from scratch_gpt.training.planning import sizes
from wording import user_error


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


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (None, "file_not_found"),
        (b"a page\n", "unreadable_file"),
        (f"{sizes.BEGIN}\nold\nand all that follows\n".encode(), "unreadable_file"),
        (f"{sizes.END}\n{sizes.BEGIN}\n".encode(), "unreadable_file"),
        (f"{sizes.BEGIN}{sizes.END} caf\xe9".encode("latin-1"), "unreadable_file"),
    ],
    ids=["missing", "no marks", "no end", "reversed", "not UTF-8"],
)
def test_a_file_without_the_marks_stays_as_it_is(tmp_path, monkeypatch, content, code) -> None:
    """Refused before the table is computed."""
    monkeypatch.setattr(sizes, "sizes_table", lambda: pytest.fail("the table was computed"))
    page = tmp_path / "page.md"
    if content is not None:
        page.write_bytes(content)
    with user_error(code, file=page):
        sizes.write_sizes(page)
    assert (page.read_bytes() if page.is_file() else None) == content


def test_the_ends_of_lines_stay(tmp_path, monkeypatch) -> None:
    """Those of Windows, too."""
    monkeypatch.setattr(sizes, "sizes_table", lambda: "| new |\n")
    page = tmp_path / "page.md"
    page.write_bytes(f"before\r\n{sizes.BEGIN}{sizes.END}\r\n".encode())
    sizes.write_sizes(page)
    assert page.read_bytes() == f"before\r\n{sizes.BEGIN}\n| new |\n{sizes.END}\r\n".encode()


@pytest.mark.slow
def test_guide_is_up_to_date() -> None:
    """`scratch-gpt sizes --output docs/reference/sizes.md` would change nothing."""
    table = f"{sizes.BEGIN}\n{sizes.sizes_table()}{sizes.END}"
    assert table in (PROJECT / "docs" / "reference" / "sizes.md").read_text(encoding="utf-8")
