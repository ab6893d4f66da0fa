# SPDX-License-Identifier: Apache-2.0
"""The columns of a row: by their names, or by the path to what is inside one."""

from collections.abc import Iterable
from typing import Any

from scratch_gpt.data.sources.bad_rows import BadRow


# An object may have a key for each word of a language.
SHOWN_COLUMNS = 40


def with_inner_values(row: dict[str, Any], paths: Iterable[str]) -> dict[str, Any]:
    """The row with columns of paths: "translation.en" is `en` in the object `translation`, "sides.0" the first of a list."""
    found = {}
    for path in paths:
        first, *keys = path.split(".")
        if not keys or path in row or row.get(first) is None:
            continue
        value: Any = row[first]
        for key in keys:
            if isinstance(value, list) and key.isdecimal() and int(key) < len(value):
                value = value[int(key)]
            else:
                value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            found[path] = value
    return row | found if found else row


def missing(row: dict[str, Any], column: str) -> str:
    """That a row has no such column, and which it has."""
    return f"no column {column!r} {shown_columns(row)}"


def shown_columns(row: dict[str, Any]) -> str:
    """The columns that a row has, for messages; those inside an object by their paths."""
    columns = [
        path
        for name, value in row.items()
        for path in ([f"{name}.{key}" for key in value] if isinstance(value, dict) and value else [str(name)])
    ]
    return f"(columns: {', '.join(columns[:SHOWN_COLUMNS])})"


def pick(row: dict[str, Any], column: str) -> Any:
    """The value of a column; a BadRow that names the columns there are, where it is missing, or says that it is null."""
    if column not in row:
        raise BadRow(missing(row, column))
    if row[column] is None:
        raise BadRow(f"column {column!r} is null")
    return row[column]


def pick_text(row: dict[str, Any], column: str) -> str:
    """The value of a column that must be text; BadRow for anything else, and for text that is empty."""
    return checked_text(pick(row, column), column)


def checked_text(value: Any, column: str) -> str:
    """`value` if it is usable text, else BadRow."""
    if not isinstance(value, str):
        raise BadRow(f"column {column!r} holds no text but {type(value).__name__}")
    if not value.strip():
        raise BadRow(f"column {column!r} is empty")
    try:
        value.encode()
    except UnicodeEncodeError:
        # JSON can spell half of a surrogate pair ("\ud83d"), which no encoding can write.
        raise BadRow(f"column {column!r} holds half a surrogate pair") from None
    return value
