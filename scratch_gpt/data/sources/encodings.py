# SPDX-License-Identifier: Apache-2.0
"""The bytes of a file as lines of text: unpacked, and decoded as declared, by a byte order mark, as UTF-8, or as recognized."""

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import IO, Any

import pyarrow

from scratch_gpt.data.sources.legacy_encodings import (
    LOOKED_AT,
    differing,
    find_encodings,
    find_escaped,
    is_plausible,
    odd_share,
)
from scratch_gpt.errors import UserError


def _open_zst(path: Path) -> IO[bytes]:
    return io.BufferedReader(pyarrow.input_stream(str(path), compression="zstd"))


COMPRESSIONS: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.open,
    ".zst": _open_zst,
    ".xz": lzma.open,
    ".bz2": bz2.open,
}
# UTF-32 first: its mark begins with that of UTF-16.
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# How files begin that are no text -> what they are.
FIRST_BYTES = {
    b"\x1f\x8b": "a .gz file",
    b"\x28\xb5\x2f\xfd": "a .zst file",
    b"\xfd7zXZ": "a .xz file",
    b"BZh": "a .bz2 file",
    b"PAR1": "a .parquet file",
    b"ARROW1": "an .arrow file",
    b"%PDF": "a .pdf file",
    b"{\\rtf": "an .rtf file",
    b"PK\x03\x04": "a .zip file, or one of an office program",
    b"version https://git-lfs": "a pointer to a file, which `git lfs pull` fetches",
}
UTF_8 = "utf-8"
# Read ahead to recognize the encoding, and to find marks of document boundaries.
HEAD_BYTES = 1 << 20
# A larger share of zero bytes is no damaged text but a binary file, or UTF-16 without its mark.
BINARY_SHARE = 0.01
# Bytes that text in other encodings than UTF-16 and UTF-32 hardly has, and the share of them above which it may be in
# those two: of bytes that are no UTF-8, and of UTF-8, as which Thai in UTF-16 can be read.
CONTROL_BYTES = bytes(set(range(32)) - set(b"\b\t\n\f\r\x1b"))
CONTROL_SHARE, UTF_8_CONTROL_SHARE = 0.01, 0.1
# The share of characters that no text has above which bytes are no UTF-16.
ODD_SHARE = 0.001
# What a file that is not UTF-8 may be is guessed by this many lines with other letters than ASCII's, among the first ones.
GUESSED_ODD_LINES, GUESSED_LINES = 500, 1_000_000
# A byte that is no text becomes half a surrogate pair, which no encoding can write: it is found by encoding the text.
MARKED = "scratch_gpt.marked"
BAD_BYTE = 0xDC00


def _mark(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "".join(chr(BAD_BYTE + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error(MARKED, _mark)


def is_text_encoding(name: str) -> bool:
    """Whether Python has a codec of this name that decodes bytes to text."""
    try:
        io.TextIOWrapper(io.BytesIO(), encoding=name)
    except (LookupError, ValueError):
        return False
    return True


@contextmanager
def unpacked(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of a file, decompressed as its suffix says.

    Raises:
        UserError: it cannot be read, or is damaged.
    """
    suffix = path.suffix.lower()
    try:
        with COMPRESSIONS[suffix](path) if suffix in COMPRESSIONS else path.open("rb") as file:
            yield file
    except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError) as error:
        raise _damaged(path, error) from None
    except OSError as error:
        if error.errno is None:  # of a decompressor, not of the system
            raise _damaged(path, error) from None
        raise UserError("unreadable_file", f"{path}: cannot be read ({error.strerror})", file=path) from None


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError("unreadable_file", f"{path}: broken {path.suffix[1:]} file ({error})", file=path)


class TextFile:
    """A file of text in one encoding.

    Args:
        encoding: as declared; None: by the byte order mark, as UTF-16 or UTF-32 where it is text in them, by the
            letters of a text that is not UTF-8 where they leave no doubt, else UTF-8.

    Attributes:
        head: the text of the first bytes.
        recognized: the encoding, where neither a setting nor a byte order mark says it and it is not UTF-8.

    Raises:
        UserError: the file cannot be read, is of another format, or holds many zero bytes, as binary files do.
    """

    def __init__(self, path: Path, encoding: str | None) -> None:
        self.path = path
        with unpacked(path) as file:
            head = file.read(HEAD_BYTES)
        for first_bytes, kind in FIRST_BYTES.items():
            if head.startswith(first_bytes):
                message = f"{path}: no text, but by its first bytes {kind}: name it so, or convert it"
                raise UserError("unsupported_format", message, file=path)
        by_mark = next((name for mark, name in BYTE_ORDER_MARKS if head.startswith(mark)), None)
        self.recognized = None if encoding or by_mark else _wide_encoding(head)
        known = encoding or by_mark or self.recognized
        if not known and head.count(0) > BINARY_SHARE * len(head):
            line = head.count(b"\n", 0, head.index(0)) + 1
            message = f"{path}:{line}: a binary file: it holds zero bytes; name text files only"
            raise UserError("binary_file", message, place=f"{path}:{line}")
        if not known:
            self.recognized = find_escaped(head) if head.isascii() else _legacy_encoding(path, head)
        self.encoding = known or self.recognized or UTF_8
        self.head = head.decode(self.encoding, "ignore").removeprefix("\ufeff")

    def lines(self) -> Iterator[str]:
        """The lines with their ends, as "\\n"; bytes that are no text are marked, see `fault`."""
        # In old files of the Macintosh "\r" alone ends a line.
        newline = None if "\r" in self.head and "\n" not in self.head else "\n"
        with (
            unpacked(self.path) as file,
            io.TextIOWrapper(file, self.encoding, MARKED, newline) as lines,
        ):
            for number, line in enumerate(lines):
                line = line if number else line.removeprefix("\ufeff")
                yield line.replace("\r\n", "\n")

    def fault(self, text: str) -> tuple[int, str] | None:
        """Why a text of this file cannot be used: how many lines before the place, and the reason; None if it can."""
        if (zero := text.find("\0")) >= 0:
            return text.count("\n", 0, zero), "a zero byte"
        try:
            text.encode()
        except UnicodeEncodeError as error:
            byte = ord(text[error.start]) - BAD_BYTE
            guess = encoding_hint(self.path) if self.encoding == UTF_8 else ""
            reason = f"byte 0x{byte:02x} is not {self.encoding.upper()}{', ' * bool(guess)}{guess}"
            return text.count("\n", 0, error.start), reason
        return None


def _wide_encoding(head: bytes) -> str | None:
    """UTF-16 or UTF-32 without a byte order mark: the one in which the bytes are text."""
    controls = len(head) - len(head.translate(None, CONTROL_BYTES))
    if controls <= (UTF_8_CONTROL_SHARE if _is_utf_8(head) else CONTROL_SHARE) * len(head):
        return None
    odd: dict[str, float] = {}
    for name in ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be"):
        try:
            # it may end in the middle of a character
            text = codecs.getincrementaldecoder(name)().decode(head)
        except UnicodeDecodeError:
            continue
        if is_plausible(text):
            odd[name] = odd_share(text)
    best = min(odd, key=lambda name: odd[name], default=None)
    return best if best and odd[best] <= ODD_SHARE else None


def _is_utf_8(head: bytes) -> bool:
    try:
        # what was read may end in the middle of a character
        codecs.getincrementaldecoder(UTF_8)().decode(head, final=len(head) < HEAD_BYTES)
    except UnicodeDecodeError:
        return False
    return True


def _legacy_encoding(path: Path, head: bytes) -> str | None:
    """The encoding of a file that is not UTF-8, where there is no doubt."""
    if _is_utf_8(head):
        return None
    likely = likely_encodings(path)
    return next(iter(likely)) if len(likely) == 1 and UTF_8 not in likely else None


def likely_encodings(path: Path) -> dict[str, str]:
    """The encodings that a file may have, each with its text; UTF-8 alone for UTF-8 with some bad bytes."""
    status = path.stat()
    return _likely_encodings(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=16)
def _likely_encodings(path: Path, size: int, changed: int) -> dict[str, str]:
    with unpacked(path) as file:
        # a file with "\r" alone at its line ends is one line of any size
        lines = iter(partial(file.readline, HEAD_BYTES), b"")
        odd = (line for line in islice(lines, GUESSED_LINES) if not line.isascii())
        data = b"".join(islice(odd, GUESSED_ODD_LINES))[:LOOKED_AT]
    text = [character for character in data.decode(UTF_8, MARKED) if not character.isascii()]
    bad = sum(BAD_BYTE <= ord(character) < BAD_BYTE + 256 for character in text)
    return {UTF_8: ""} if 2 * bad < len(text) else find_encodings(data)


def encoding_hint(path: Path) -> str:
    """What a file that is not UTF-8 seems to be, with the key that reads it; empty for UTF-8 with some bad bytes."""
    likely = likely_encodings(path)
    if UTF_8 in likely:
        return ""
    if not likely:
        return "nor any encoding that is recognized: set encoding to the file's own"
    if len(likely) == 1:
        return "".join(f"looks like {name}: set encoding: {name}" for name in likely)
    shown = zip(likely, differing(list(likely.values())), strict=True)
    choices = " or ".join(f"{name} ({text!r})" for name, text in shown)
    return f"could be {choices}: set encoding to the one whose letters are right"
