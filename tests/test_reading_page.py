# SPDX-License-Identifier: Apache-2.0
"""The page of formats names what the code reads."""

import re
from dataclasses import fields
from pathlib import Path

from scratch_gpt.data.sources.bad_rows import BAD_ROW_LIMIT
from scratch_gpt.data.sources.documents import DOCUMENTS, END_MARKERS
from scratch_gpt.data.sources.encodings import COMPRESSIONS, is_text_encoding
from scratch_gpt.data.sources.files import ABOUT, DATA_SUFFIXES
from scratch_gpt.data.sources.formats import FOREIGN_SUFFIXES, ROW_LISTS
from scratch_gpt.data.sources.source import MANY_LINES, Source
from scratch_gpt.data.sources.token_files import LLM_C_TYPES, TOKEN_SUFFIXES


PAGE = (Path(__file__).parents[1] / "docs" / "reference" / "formats.md").read_text(encoding="utf-8")


def section(heading: str) -> str:
    return PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]


def on_one_line(text: str) -> str:
    return " ".join(text.split())


def first_cells(text: str) -> list[str]:
    """What the first column of the tables has in code."""
    return [
        name
        for cell in re.findall(r"^\|(.*?)\|", text, re.MULTILINE)
        for name in re.findall(r"`(\S+?)`", cell)
    ]


def test_formats_and_compressions() -> None:
    """Every suffix is in the table, in the order of the code; lists of rows and refused formats are named."""
    text = section("Formats")
    assert [name for name in first_cells(text) if name.startswith(".")] == sorted(
        DATA_SUFFIXES, key=first_cells(text).index
    )
    compressed = re.search(r"further suffix: (.*?)\. A", on_one_line(text))
    assert compressed and set(re.findall(r"`(.*?)`", compressed[1])) == set(COMPRESSIONS)
    assert all(f"`{name}`" in text for name in ROW_LISTS)
    refused = re.search(r"as text\. (`\.pdf`.*?) and similar", on_one_line(text))
    assert refused and set(re.findall(r"`(.*?)`", refused[1])) <= set(FOREIGN_SUFFIXES)
    assert all(name.upper() in text for name in ABOUT if name != "licence")


def test_tokenized_files() -> None:
    """Every suffix, and every number of llm.c."""
    text = section("Tokenized files")
    assert [name for name in first_cells(text) if name != ".ds.index"] == list(TOKEN_SUFFIXES)
    assert all(str(magic) in text for magic in LLM_C_TYPES)


def test_boundaries() -> None:
    """Every way to divide a file, and every marker."""
    text = section("Document boundaries")
    assert first_cells(text)[1:] == list(DOCUMENTS)
    assert set(re.findall(r"`(.*?)`", text.split("<!-- markers -->\n")[1].split("\n\n")[0])) == END_MARKERS
    assert f"of {MANY_LINES} lines" in text


def test_keys_and_encodings() -> None:
    """The keys that the page speaks of are those of a source; its examples of encodings are some."""
    keys = {field.name for field in fields(Source)}
    assert keys >= {"documents", "separator", "encoding", "max_bad_rows", "split", "subset", "text_column"}
    assert f"| `max_bad_rows` (of a source) | {BAD_ROW_LIMIT} |" in section("Bad rows")
    examples = re.search(r"codec of Python \((.*?) \.\.\.\)", on_one_line(section("Encodings")))
    assert examples and all(map(is_text_encoding, re.findall(r"`(.*?)`", examples[1])))
