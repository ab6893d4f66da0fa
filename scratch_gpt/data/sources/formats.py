# SPDX-License-Identifier: Apache-2.0
"""File formats that text and rows are read from, all as numbered rows; each may be compressed.

Nothing is held in memory whole, except one document, one row, and a compressed parquet or Arrow file.
"""

import io
import itertools
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow
import pyarrow.ipc
import pyarrow.parquet

from scratch_gpt.data.sources.bad_rows import BadRow
from scratch_gpt.data.sources.delimited import delimited_rows
from scratch_gpt.data.sources.documents import (
    DOCUMENTS,
    find_marker,
    inline_marker,
    repeated_rule,
    split_documents,
)
from scratch_gpt.data.sources.encodings import COMPRESSIONS, TextFile, is_text_encoding, unpacked
from scratch_gpt.data.sources.token_files import TOKEN_SUFFIXES
from scratch_gpt.errors import UserError, wrong_value


MARKUP_SUFFIXES = (".html", ".htm")
TEXT_SUFFIXES = (".txt", ".text", ".md", *MARKUP_SUFFIXES)
JSON_SUFFIXES = (".jsonl", ".jsonlines", ".ndjson", ".json")
CSV_SUFFIXES = (".csv", ".tsv")
TABLE_SUFFIXES = (".parquet", ".arrow", ".feather")
WRITTEN_SUFFIXES = JSON_SUFFIXES + CSV_SUFFIXES
ROW_SUFFIXES = WRITTEN_SUFFIXES + TABLE_SUFFIXES
# Formats that people try, and that would be read as gibberish if they counted as text -> the cure.
FOREIGN_SUFFIXES = {
    **dict.fromkeys((".zip", ".tar", ".tgz", ".7z", ".rar", ".lz4"), "unpack it"),
    **dict.fromkeys((".pdf", ".docx", ".doc", ".odt", ".rtf", ".epub"), "save it as .txt"),
    **dict.fromkeys((".pptx", ".ppt", ".mobi", ".azw", ".azw3", ".djvu", ".ps", ".pages"), "save it as .txt"),
    **dict.fromkeys((".xlsx", ".xls", ".ods"), "save it as .csv"),
    **dict.fromkeys((".pkl", ".pickle", ".npz", ".db", ".sqlite", ".h5"), "save it as .jsonl or .parquet"),
}
BATCH_ROWS = 1024
# What is read at once of a JSON array.
CHUNK_CHARACTERS = 1 << 16
# Of a .json file that is one object, the list with one of these names is its rows.
ROW_LISTS = (
    *("data", "rows", "examples", "train", "items", "records", "samples", "entries", "instances"),
    "questions",
)
_BETWEEN_VALUES = re.compile(r"[\s,]*")


class JsonLine(str):
    """A line of JSON, not yet decoded: a slice decodes its own lines only."""

    __slots__ = ()


# A BadRow is in place of a row that cannot be read.
Record = JsonLine | dict[str, Any] | str | BadRow


class Part(NamedTuple):
    """A file of a source.

    Args:
        name: how messages call it.
        rows: its numbered rows after a given one.
        notes: what the user should know of how it is read.
    """

    name: str
    rows: Callable[[int], Iterator[tuple[int, Record]]]
    notes: Callable[[], list[str]] = list


@dataclass(frozen=True)
class Reader:
    """How the files of a source are read.

    Args:
        documents, separator: where documents of text files end, see `documents`.
        encoding: of text, JSON, .csv and .tsv files; None: by the byte order mark, else UTF-8.
    """

    documents: str = "block"
    separator: str | None = None
    encoding: str | None = None

    def check(self, name: str, files: list[Path]) -> None:
        """Refuse settings that cannot work, or that no file of the source called `name` heeds.

        Raises:
            UserError: an unknown way to divide, an unknown encoding, a separator missing or too many, no effect.
        """
        if self.documents not in DOCUMENTS:
            raise wrong_value(
                "documents", self.documents, f"one of {', '.join(DOCUMENTS)}", where=f"{name}: "
            )
        if self.documents == "separator" and not self.separator:
            message = f"{name}: documents: separator needs separator, the text between two documents"
            raise UserError("setting_missing", message, setting="separator")
        if self.encoding is not None and not is_text_encoding(self.encoding):
            raise wrong_value(
                "encoding", self.encoding, "a codec of Python such as cp1252", where=f"{name}: "
            )
        suffixes = {data_suffix(file) for file in files}
        without_effect = {
            f"separator has no effect with documents: {self.documents}": self.separator
            and self.documents != "separator",
            "documents has no effect: it divides text files, and there is none here": self.documents
            != "block"
            and suffixes <= {*ROW_SUFFIXES, *TOKEN_SUFFIXES},
            "encoding has no effect: it is of text, JSON, .csv and .tsv files": self.encoding
            and suffixes <= {*TABLE_SUFFIXES, *TOKEN_SUFFIXES},
        }
        for message, found in without_effect.items():
            if found:
                raise UserError("setting_without_effect", f"{name}: {message}", setting=message.split()[0])

    def part(self, path: Path) -> Part:
        """A file as a part of a source."""
        return Part(str(path), lambda start: self.rows(path, start), lambda: self.notes(path))

    def rows(self, path: Path, start: int = 0) -> Iterator[tuple[int, Record]]:
        """The rows of a file after row `start`, with their numbers, which begin at 1.

        Numbers are those of lines in files of JSON lines, .csv and .tsv, and of documents in text files.

        Raises:
            UserError: the file cannot be read.
        """
        suffix = data_suffix(path)
        if suffix in TOKEN_SUFFIXES:
            message = f"{path} holds token ids, no text: only the shards stage reads it, uncompressed and without num_slices"
            raise UserError("unsupported_format", message, file=path)
        if suffix in TABLE_SUFFIXES:
            return _table_rows(path, start)
        file = TextFile(path, self.encoding)
        if suffix in CSV_SUFFIXES:
            rows: Iterator[tuple[int, Record]] = delimited_rows(file, "\t" if suffix == ".tsv" else None)
        elif suffix in JSON_SUFFIXES:
            rows = _json_rows(file)
        else:
            rows = self._documents(file)
        return itertools.dropwhile(lambda row: row[0] <= start, rows)

    def _documents(self, file: TextFile) -> Iterator[tuple[int, Record]]:
        documents = split_documents(file.lines(), *self._boundaries(file.head))
        for number, (line, text) in enumerate(documents, start=1):
            fault = file.fault(text)
            yield number, BadRow(f"line {line + fault[0]}: {fault[1]}") if fault else text

    def _boundaries(self, head: str) -> tuple[str, str | None]:
        """Where documents end: as declared, but that end-of-text markers go before blank lines."""
        if self.documents == "block" and (marker := find_marker(head)):
            return "separator", marker
        return self.documents, self.separator

    def notes(self, path: Path) -> list[str]:
        """What the user should know of how a file is read, for `FileCount.note`."""
        suffix, notes = data_suffix(path), []
        if suffix in MARKUP_SUFFIXES:
            notes.append(f"{suffix} files are read as text, with their tags and entities")
        if suffix in TABLE_SUFFIXES:
            return notes
        file = TextFile(path, self.encoding)
        if file.recognized:
            notes.append(
                f"files read as {file.recognized}, by their bytes: set encoding if the text is wrong"
            )
        if not file.head.strip():
            notes.append("files that hold nothing")
        if suffix in ROW_SUFFIXES or self.separator:
            return notes
        if first := next((line for line in file.head.splitlines() if line.strip()), ""):
            if first.lstrip().startswith("{") and _is_json(first):
                notes.append(
                    "warning: files of JSON lines that are read as text: name them .jsonl to read rows"
                )
            elif suffix not in MARKUP_SUFFIXES and re.match(r"\s*<(!doctype html|html)\b", first, re.I):
                notes.append("warning: files of HTML that are read as text, with their tags and entities")
        _, marker = self._boundaries(file.head)
        if marker:
            notes.append(f"files whose documents end at {marker}, which is no text")
        elif rule := repeated_rule(file.head):
            cure = f'set separator: "\\n{rule}\\n" if it ends documents'
            notes.append(f"warning: files with many lines {rule}, which are read as text: {cure}")
        elif (inside := inline_marker(file.head)) and not (
            self.documents == "line" and find_marker(file.head)
        ):
            cure = f'set separator: "{inside}" if it ends documents'
            notes.append(f"warning: files with {inside} inside their lines, where it is read as text: {cure}")
        return notes


def data_suffix(path: Path) -> str:
    """The suffix that decides the format: that before `.gz` or another compression, and `.jsonl` in "rows.jsonl.txt"."""
    name = Path(path.stem) if path.suffix.lower() in COMPRESSIONS else path
    inner = Path(name.stem).suffix.lower()
    return inner if name.suffix.lower() == ".txt" and inner in WRITTEN_SUFFIXES else name.suffix.lower()


@contextmanager
def _table_errors(path: Path) -> Iterator[None]:
    try:
        yield
    # the last ones are of values that Python cannot hold: text that is no UTF-8, a time of the year 100,000
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError, LookupError) as error:
        message = f"{path}: cannot be read as {data_suffix(path)[1:]} ({error})"
        raise UserError("unreadable_file", message, file=path) from None


def _table_rows(path: Path, start: int) -> Iterator[tuple[int, Record]]:
    number = 0
    with _table_errors(path):
        for batch in _batches(path):
            skipped = min(max(start - number, 0), len(batch))
            for first in range(skipped, len(batch), BATCH_ROWS):
                rows = batch.slice(first, BATCH_ROWS).to_pylist()
                yield from enumerate(rows, start=number + first + 1)
            number += len(batch)


def _batches(path: Path) -> Iterator[Any]:
    """The record batches of a .parquet file, or of an .arrow file in either of Arrow's two formats."""
    source: Any = path
    if path.suffix.lower() in COMPRESSIONS:
        # Parquet is read from its end, which a compressed stream cannot do.
        with unpacked(path) as file:
            source = io.BytesIO(file.read())
    if data_suffix(path) == ".parquet":
        with pyarrow.parquet.ParquetFile(source) as file:
            yield from file.iter_batches(batch_size=BATCH_ROWS)
        return
    stream = pyarrow.memory_map(str(path)) if source is path else pyarrow.BufferReader(source.getvalue())
    with stream:
        if stream.read(6) == b"ARROW1":
            reader = pyarrow.ipc.open_file(stream)
            yield from map(reader.get_batch, range(reader.num_record_batches))
        else:  # what `datasets` writes
            stream.seek(0)
            yield from pyarrow.ipc.open_stream(stream)


def _json_rows(file: TextFile) -> Iterator[tuple[int, Record]]:
    first, _, rest = file.head.lstrip().partition("\n")
    many_lines = data_suffix(file.path) != ".json" or (rest.strip() and _is_json(first))
    # each line may be an array: a conversation
    array = first.startswith("[") and not (rest.lstrip().startswith("[") and _is_json(first))
    over_lines = first.strip() == "{" or first.rstrip().endswith("},") or _is_glued(first)
    if array or over_lines or not many_lines:
        yield from enumerate(_json_values(file), start=1)
        return
    for number, line in enumerate(file.lines(), start=1):
        if line.strip():
            fault = file.fault(line)
            yield number, BadRow(fault[1]) if fault else JsonLine(line)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return False
    return True


def _is_glued(text: str) -> bool:
    """Whether a line is several objects without line ends between them."""
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except (json.JSONDecodeError, RecursionError):
        return False
    return text[end:].lstrip().startswith("{")


def _json_values(file: TextFile) -> Iterator[Record]:
    """The values of a JSON array, or values one after the other that may have several lines each."""
    decoder, lines, text, place = json.JSONDecoder(), file.lines(), "", 0
    count, in_array = 0, False
    while True:
        place = _BETWEEN_VALUES.match(text, place).end()  # type: ignore[union-attr]  # matches anything
        if text[place : place + 1] == "[" and not (count or in_array):
            in_array, place = True, place + 1
            continue
        if text[place : place + 1] == "]" and in_array:
            return
        try:
            value, end = decoder.raw_decode(text, place)
        except (json.JSONDecodeError, RecursionError) as error:
            # The value may be incomplete: more of the file is read, as much again as there is.
            text, place = text[place:], 0
            if more := _read(lines, max(CHUNK_CHARACTERS, len(text))):
                text += more
                continue
            if not (text or in_array):
                return
            message = f"{file.path}: broken JSON behind row {count} ({error})"
            raise UserError("unreadable_file", message, file=file.path) from None
        count, fault, place = count + 1, file.fault(text[place:end]), end
        if count == 1 and not in_array and not text[place:].strip():
            text += _read(lines, CHUNK_CHARACTERS)
        alone = count == 1 and not in_array and not text[place:].strip()
        if fault:
            yield BadRow(fault[1])
        elif alone and (rows := _rows_of_table(value)):
            yield from rows
        elif alone and (listed := _row_list(value)):
            yield from itertools.chain.from_iterable(map(_questions, listed))
        else:
            yield value


def _row_list(value: Any) -> list[Any] | None:
    """The rows of a file that is one object, which holds them in a list beside what it says of them all."""
    if not isinstance(value, dict) or "text" in value:
        return None
    inner = [value[name] for name in ROW_LISTS if isinstance(value.get(name), list)]
    if len(inner) != 1 or (len(value) > 1 and any(isinstance(each, str) for each in inner[0])):
        return None
    return inner[0]


def _rows_of_table(value: Any) -> list[dict[str, Any]] | None:
    """The rows of a table as `DataFrame.to_json` or `to_dict` writes it; None of anything else.

    {column: {"0": value}}, {"0": row}, {column: [values]}, or {"columns": [names], "data": [[values]]}. Lists of objects
    are no columns: {"messages": [...], "tools": [...]} is one row.
    """
    if not isinstance(value, dict):
        return None
    names, table = value.get("columns"), value.get("data")
    if isinstance(names, list) and isinstance(table, list):
        if all(isinstance(row, list) and len(row) == len(names) for row in table):
            return [dict(zip(names, row, strict=True)) for row in table]
        return None
    columns = [inner for inner in value.values() if isinstance(inner, list)]
    alike = len(columns) == len(value) and len({len(column) for column in columns}) == 1
    if alike and (len(value) > 1 or not value.keys() & set(ROW_LISTS)):
        if any(isinstance(cell, dict) for column in columns for cell in column):
            return None
        return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]
    if not all(isinstance(inner, dict) and inner for inner in value.values()):
        return None
    if all(name.isdecimal() for name in value):
        return list(value.values())
    numbers = {tuple(inner) for inner in value.values()}
    if len(numbers) != 1 or not all(number.isdecimal() for number in next(iter(numbers))):
        return None
    return [{name: inner[number] for name, inner in value.items()} for number in numbers.pop()]


def _questions(value: Any) -> list[Any]:
    """The questions of an article in SQuAD's own files, each with its paragraph; any other row as it is."""
    if not (isinstance(value, dict) and isinstance(value.get("paragraphs"), list)):
        return [value]
    return [
        {**question, "context": paragraph.get("context")}
        for paragraph in value["paragraphs"]
        if isinstance(paragraph, dict)
        for question in paragraph.get("qas", ())
    ]


def _read(lines: Iterator[str], characters: int) -> str:
    found, size = [], 0
    while size < characters and (line := next(lines, "")):
        found.append(line)
        size += len(line)
    return "".join(found)
