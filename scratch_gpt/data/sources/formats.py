# SPDX-License-Identifier: Apache-2.0
"""File formats that text is read from: plain text, .jsonl and .parquet, each also .gz; all as numbered rows.

Nothing is held in memory whole, except one document and a zipped parquet file.
"""

import gzip
import io
import itertools
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from scratch_gpt.errors import UserError


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

# A line of .jsonl, not yet decoded; a row of .parquet; the text of a document.
Record = bytes | dict[str, Any] | str


def data_suffix(file: Path) -> str:
    """The suffix that tells the format: that before `.gz`, if there is one."""
    return Path(file.stem).suffix.lower() if file.suffix.lower() == ".gz" else file.suffix.lower()


def _lines(path: Path) -> Iterator[bytes]:
    """Lines of a plain or gzipped file, without a byte order mark."""
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file):
                yield line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError("unreadable_file", f"{path}: broken gzip file ({error})", file=path) from None
    except OSError as error:
        raise UserError("unreadable_file", f"{path}: cannot be read ({error.strerror})", file=path) from None


def numbered_rows(path: Path, documents: str, start: int = 0) -> Iterator[tuple[int, Record]]:
    """The rows of a file after row `start`, with their numbers, which begin at 1.

    Args:
        documents: a text file holds one document per blank-line `block`, or is one document as a `file`.

    Raises:
        UserError: the file cannot be read, or is text that is not UTF-8.
    """
    suffix = data_suffix(path)
    if suffix == ".parquet":
        return _parquet_rows(path, start)
    if suffix == ".jsonl":
        numbered = ((number, line) for number, line in enumerate(_lines(path), start=1) if line.strip())
        return itertools.dropwhile(lambda row: row[0] <= start, numbered)
    return itertools.islice(enumerate(_text_documents(path, documents), start=1), start, None)


def _parquet_rows(path: Path, start: int) -> Iterator[tuple[int, Record]]:
    zipped = path.suffix.lower() == ".gz"
    number = 0
    try:
        # Parquet is read from its end, which a gzip stream cannot do.
        with pyarrow.parquet.ParquetFile(io.BytesIO(b"".join(_lines(path))) if zipped else path) as file:
            for batch in file.iter_batches(batch_size=1024):
                skipped = min(max(start - number, 0), len(batch))
                yield from enumerate(batch.slice(skipped).to_pylist(), start=number + skipped + 1)
                number += len(batch)
    except (pyarrow.ArrowException, OSError) as error:
        message = f"{path}: cannot be read as parquet ({error})"
        raise UserError("unreadable_file", message, file=path) from None


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
    if b"\0" in line:
        message = f"{path}:{number}: a binary file: it holds a zero byte; name text files only"
        raise UserError("binary_file", message, place=f"{path}:{number}")
    try:
        return line.decode().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        message = (
            f"{path}:{number}: wrong encoding: byte 0x{line[error.start]:02x} is not UTF-8; convert the file"
        )
        raise UserError("not_utf8", message, place=f"{path}:{number}") from None
