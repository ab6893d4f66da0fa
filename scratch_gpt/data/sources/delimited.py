# SPDX-License-Identifier: Apache-2.0
"""Rows of .csv and .tsv files."""

import csv
import io
import itertools
from collections.abc import Iterator
from typing import Any

from scratch_gpt.data.sources.bad_rows import BadRow
from scratch_gpt.data.sources.encodings import TextFile
from scratch_gpt.errors import UserError


DELIMITERS = ",;\t|"
# Behind the lines of a file: where it is in a field, a quote is open.
END = "\x04"


def delimited_rows(file: TextFile, delimiter: str | None) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
    """The rows with the numbers of the lines that they end in; the first line with text names the columns.

    Args:
        delimiter: None: the one of `DELIMITERS` that the first line has most of.

    Raises:
        UserError: two columns of one name, a field that cannot be read.
    """
    head = file.head.lstrip()
    header = head.partition("\n")[0].strip()
    skipped = file.head[: len(file.head) - len(head)].count("\n")
    delimiter = delimiter or max(DELIMITERS, key=header.count)
    if delimiter not in header:
        delimiter = "\x1f"  # one column: its commas part nothing
    csv.field_size_limit(1 << 30)
    if header == f"sep={delimiter}":  # a line for Excel, before the names of the columns
        skipped += 1
    plain = delimiter == "\t" and _quotes_are_text(file.head)
    reader = csv.DictReader(
        itertools.chain(itertools.islice(file.lines(), skipped, None), [END]),
        delimiter=delimiter,
        quoting=csv.QUOTE_NONE if plain else csv.QUOTE_MINIMAL,
    )
    names = [name for name in reader.fieldnames or () if name]
    if twice := next((name for name in names if names.count(name) > 1), None):
        message = f"{file.path}: two columns are called {twice!r}: rename one in the first line"
        raise UserError("duplicate_name", message, name=twice)
    while True:
        before = max(reader.line_num, 1) + skipped
        try:
            row = next(reader, None)
        except csv.Error as error:
            message = f"{file.path}:{reader.line_num + skipped}: cannot be read as rows ({error})"
            raise UserError("unreadable_file", message, file=file.path) from None
        if row is None or END in itertools.islice(row.values(), 1):
            return
        texts = [value for value in row.values() if isinstance(value, str)]
        if not "".join(texts).strip():
            continue  # Excel writes such rows below the table
        fault = file.fault("".join(texts))
        if None in row:
            expected = len(reader.fieldnames or ())
            fault = 0, f"more fields than the {expected} columns of the header: is a quote missing?"
        elif any(text.endswith(END) for text in texts):
            fault = 0, f"a quote that is never closed, behind line {before}: all that follows is one field"
        elif delimiter == "\t" and any("\n" in text and "\t" in text for text in texts):
            fault = 0, f"a quote that is never closed, behind line {before}: it takes in the rows that follow"
        yield reader.line_num + skipped, BadRow(fault[1]) if fault else row


def _quotes_are_text(head: str) -> bool:
    """Whether quotes in a .tsv file are letters like any other, as many programs write them: "Yes", he said."""
    lines = head.split("\n")
    reader = csv.reader(io.StringIO(head), delimiter="\t", strict=True)
    try:
        return any("\n" in field and "\t" in field for row in reader for field in row)
    except csv.Error:
        # a quote amid a field; or the end of the head is amid a quoted field, whose lines have no tabs
        return "\t" in lines[reader.line_num - 1]
