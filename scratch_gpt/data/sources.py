# SPDX-License-Identifier: Apache-2.0
"""Sources of text and rows: declared in YAML, read as streams, with bad rows counted.

A source's path is `primer` (the embedded corpus), a file, a folder or a glob of text, .jsonl or .parquet files (each
also .gz), or else the name of a Hub dataset, which is streamed. Nothing is ever held in memory whole, except one
document and a zipped parquet file.
"""

import glob
import gzip
import io
import itertools
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import datasets
import pyarrow
import pyarrow.parquet

from scratch_gpt.data import primer
from scratch_gpt.errors import UserError


PRIMER = "primer"
TEXT_SUFFIXES = (".txt", ".md")
ROW_SUFFIXES = (".jsonl", ".parquet")
# Formats that people try, and that would be read as gibberish if they counted as text.
FOREIGN_SUFFIXES = (
    ".json",
    ".csv",
    ".tsv",
    ".zip",
    ".zst",
    ".bz2",
    ".xz",
    ".tar",
    ".arrow",
    ".pdf",
    ".html",
    ".docx",
)

# The share of bad rows in a file up to which they are skipped.
BAD_ROW_LIMIT = 0.01
# From so many bad rows on, the share among the rows seen so far decides at once: a wrong column name in an endless
# stream must not be read to its end before it is reported.
EARLY_BAD_ROWS = 100

Parsed = TypeVar("Parsed")


@dataclass
class Source:
    """One entry of `sources:` in a YAML.

    Args:
        name: how logs, manifests and results call it.
        path: `primer`, a file, folder or glob, or a Hub dataset's name.
        weight: share of this source in a mixture, relative to the other weights.
        subset: configuration name of a Hub dataset.
        split: split of a Hub dataset.
        text_column: column that holds the text of a document.
        columns: what a column is for -> how it is called here, for rows that are not plain documents.
        documents: a text file holds one document per blank-line `block` or is one document as a `file`.
    """

    name: str
    path: str
    weight: float = 1.0
    subset: str | None = None
    split: str = "train"
    text_column: str = "text"
    columns: dict[str, str] = field(default_factory=dict)
    documents: str = "block"

    @property
    def files(self) -> list[Path]:
        """The local files of this source, sorted; empty for the primer and for a Hub dataset."""
        if self.path == PRIMER:
            return []
        path = Path(self.path).expanduser()
        if path.is_dir():
            return sorted(
                file for file in path.rglob("*") if data_suffix(file) in TEXT_SUFFIXES + ROW_SUFFIXES
            )
        if path.is_file():
            return [path]
        return sorted(file for file in map(Path, glob.glob(str(path), recursive=True)) if file.is_file())

    @property
    def on_hub(self) -> bool:
        """Whether the path is read as the name of a Hub dataset: it is no file and does not look like one."""
        return (
            self.path != PRIMER
            and not self.files
            and not Path(self.path).is_dir()
            and re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", self.path) is not None
            and data_suffix(Path(self.path)) not in TEXT_SUFFIXES + ROW_SUFFIXES + FOREIGN_SUFFIXES
            and not self.path.endswith(".gz")
        )


def data_suffix(file: Path) -> str:
    """The suffix that tells the format: that before `.gz`, if there is one."""
    return Path(file.stem).suffix.lower() if file.suffix.lower() == ".gz" else file.suffix.lower()


def parse_sources(declared: list[dict[str, Any]]) -> list[Source]:
    """Turn the `sources:` of a YAML into checked sources.

    Raises:
        UserError: an unknown or missing key, a value of the wrong type, a name given twice, a negative weight, no
            weight above zero, a path where nothing is, a file format that is not read.
    """
    known = [entry.name for entry in fields(Source)]
    sources = []
    for number, entry in enumerate(declared, start=1):
        if not isinstance(entry, dict):
            raise UserError(
                f"sources: entry {number} must be a mapping such as {{name: x, path: y}}, got {entry!r}"
            )
        for key in entry:
            if key not in known:
                raise UserError(
                    f"sources: unknown key {key!r} in entry {number}; known keys: {', '.join(known)}"
                )
        for key in ("name", "path"):
            if not entry.get(key):
                raise UserError(f"sources: entry {number} needs a {key}")
        sources.append(Source(**entry))
    for source in sources:
        _check(source)
    names = [source.name for source in sources]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"sources: the name {name!r} is given twice; each source needs its own")
    if not any(source.weight for source in sources):
        raise UserError("sources: all weights are 0; at least one must be positive")
    return sources


def _check(source: Source) -> None:
    name = f"source {source.name!r}"
    for key in ("name", "path", "split", "text_column", "documents"):
        if not isinstance(getattr(source, key), str):
            raise UserError(f"{name}: {key} must be text, got {getattr(source, key)!r}")
    weight = source.weight
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
        raise UserError(f"{name}: weight must be a number of at least 0, got {weight!r}")
    if source.documents not in ("block", "file"):
        raise UserError(f"{name}: documents must be block or file, got {source.documents!r}")
    if not isinstance(source.columns, dict):
        raise UserError(f"{name}: columns must be a mapping of roles to column names, got {source.columns!r}")
    if source.path == PRIMER or source.on_hub:
        return
    if not source.files:
        if Path(source.path).is_dir():
            raise UserError(
                f"{name}: folder {source.path} holds no {', '.join(TEXT_SUFFIXES + ROW_SUFFIXES)} file"
            )
        if any(character in source.path for character in "*?["):
            raise UserError(f"{name}: no file matches {source.path}")
        raise UserError(f"{name}: file {source.path} not found")
    for file in source.files:
        if data_suffix(file) in FOREIGN_SUFFIXES:
            raise UserError(f"{name}: cannot read {file}; convert it to .txt, .jsonl or .parquet")


class BadRow(ValueError):
    """A row that cannot be used; the message is the reason."""


class FileCount:
    """Row counts of one pass over one file."""

    def __init__(self, source: str, name: str, policy: str) -> None:
        self.source, self.name, self.policy = source, name, policy
        self.rows = self.bad = 0
        self.first: tuple[int, str] | None = None

    def reject(self, line: int, reason: str) -> None:
        """Count a bad row; raise UserError where the policy says so."""
        self.bad += 1
        self.first = self.first or (line, reason)
        if self.policy == "fail":
            raise UserError(
                f"{self.name}:{line}: {reason} (on_bad_row: skip leaves out such rows while under 1%)"
            )
        if self.bad > EARLY_BAD_ROWS:
            self.check()

    def check(self) -> None:
        """Raise UserError where more than 1% of the rows, and more than one, are bad, or all of them."""
        if self.first and (self.bad == self.rows or (self.bad > 1 and self.bad > BAD_ROW_LIMIT * self.rows)):
            line, reason = self.first
            raise UserError(
                f"{self.name}:{line}: {reason} ({self.bad} of {self.rows} rows are bad; 1% is the limit)"
            )


class BadRows:
    """Counts the rows that were left out, per file, and stops a stage where there are too many.

    Args:
        policy: `skip` leaves out bad rows while they are at most 1% of a file; `fail` stops at the first.
    """

    def __init__(self, policy: str = "skip") -> None:
        self.policy = policy
        self._files: dict[tuple[str, str], FileCount] = {}

    def open(self, source: str, name: str) -> FileCount:
        """Begin a pass over a file. Only a file's first pass is kept for the report."""
        file = FileCount(source, name, self.policy)
        self._files.setdefault((source, name), file)
        return file

    def check(self) -> None:
        """Judge all files by the rows read so far: for a stage that stopped in the middle of one."""
        for file in self._files.values():
            file.check()

    def count(self, source: str) -> int:
        """Number of rows of this source that were left out."""
        return sum(file.bad for file in self._files.values() if file.source == source)

    def report(self) -> list[str]:
        """One line for each file with bad rows: how many, and the first one's place and reason."""
        return [
            f"{file.name}: left out {file.bad} of {file.rows} rows, the first at line {file.first[0]}: {file.first[1]}"
            for file in self._files.values()
            if file.first
        ]


def read_rows(
    source: Source, bad_rows: BadRows, parse: Callable[[dict[str, Any]], Parsed]
) -> Iterator[Parsed]:
    """Apply `parse` to each row of .jsonl and .parquet files or of a Hub dataset; rows it raises BadRow on are counted.

    Raises:
        UserError: a file that is no row file or that cannot be read, a dataset that cannot be reached, too many bad
            rows.
    """
    if source.on_hub:
        yield from _parsed(bad_rows.open(source.name, source.path), _hub_rows(source), parse)
    for path in source.files:
        if data_suffix(path) not in ROW_SUFFIXES:
            raise UserError(
                f"source {source.name!r}: {path} holds no rows; rows are read from .jsonl and .parquet"
            )
        yield from _parsed(bad_rows.open(source.name, str(path)), _file_rows(path), parse)


def _parsed(
    file: FileCount,
    rows: Iterator[tuple[int, bytes | dict[str, Any]]],
    parse: Callable[[dict[str, Any]], Parsed],
) -> Iterator[Parsed]:
    for line, row in rows:
        file.rows += 1
        try:
            parsed = parse(_decoded(row) if isinstance(row, bytes) else row)
        except BadRow as error:
            file.reject(line, str(error))
        else:
            yield parsed
    file.check()


def pick(row: dict[str, Any], column: str) -> Any:
    """The value of a column; a BadRow that names the columns there are, where it is missing."""
    if row.get(column) is None:
        raise BadRow(f"no column {column!r} (columns: {', '.join(map(str, row))})")
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


def _file_rows(path: Path) -> Iterator[tuple[int, bytes | dict[str, Any]]]:
    """Numbered rows of a file; those of .jsonl come undecoded."""
    return _jsonl_rows(path) if data_suffix(path) == ".jsonl" else _parquet_rows(path)


def _decoded(line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line.decode())
    except UnicodeDecodeError:
        raise BadRow("wrong encoding: not UTF-8") from None
    except (json.JSONDecodeError, RecursionError) as error:
        raise BadRow(f"broken JSON: {error}") from None
    if not isinstance(row, dict):
        raise BadRow(f"not a JSON object but {type(row).__name__}")
    return row


def _lines(path: Path) -> Iterator[bytes]:
    """Lines of a plain or gzipped file, without a byte order mark."""
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file):
                yield line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path}: broken gzip file ({error})") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def _jsonl_rows(path: Path) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(_lines(path), start=1):
        if line.strip():
            yield number, line


def _parquet_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    zipped = path.suffix.lower() == ".gz"
    try:
        # Parquet is read from its end, which a gzip stream cannot do.
        with pyarrow.parquet.ParquetFile(io.BytesIO(b"".join(_lines(path))) if zipped else path) as file:
            rows = (row for batch in file.iter_batches(batch_size=1024) for row in batch.to_pylist())
            yield from enumerate(rows, start=1)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path}: cannot be read as parquet ({error})") from None


def _hub_rows(source: Source) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        rows = datasets.load_dataset(source.path, source.subset, split=source.split, streaming=True)
        yield from enumerate(rows, start=1)
    except (OSError, ValueError) as error:
        raise UserError(
            f"source {source.name!r}: no file {source.path}, and no Hub dataset of that name can be read ({error}): "
            "is the name right, and the network there?"
        ) from None


def read_documents(source: Source, bad_rows: BadRows, seed: int) -> Iterator[str]:
    """The documents of a source, one by one: endless for the primer, a single pass for all others.

    Raises:
        UserError: a file that cannot be read or is not UTF-8, a dataset that cannot be reached, too many bad rows.
    """

    def text(row: dict[str, Any]) -> str:
        return pick_text(row, source.text_column)

    if source.path == PRIMER:
        yield from primer.documents(seed)
    if source.on_hub:
        yield from read_rows(source, bad_rows, text)
    for path in source.files:
        if data_suffix(path) in ROW_SUFFIXES:
            yield from _parsed(bad_rows.open(source.name, str(path)), _file_rows(path), text)
        else:
            yield from _text_documents(path, source.documents)


def _text_documents(path: Path, documents: str) -> Iterator[str]:
    lines = (_decoded_line(path, number, line) for number, line in enumerate(_lines(path), start=1))
    blocks: Iterable[Iterable[str]] = [lines]
    if documents == "block":
        blocks = (
            block for blank, block in itertools.groupby(lines, key=lambda line: not line.strip()) if not blank
        )
    for block in blocks:
        text = "".join(block).strip("\n")
        if text.strip():
            yield text


def _decoded_line(path: Path, number: int, line: bytes) -> str:
    try:
        return line.decode().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}:{number}: wrong encoding: byte 0x{line[error.start]:02x} is not UTF-8; convert the file"
        ) from None
