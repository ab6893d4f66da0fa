# SPDX-License-Identifier: Apache-2.0
"""Packing: tokenized documents, put into rows of equal length.

Documents are packed whole into rows of `sequence_length` tokens by best fit, so that no document loses its beginning
to the row before (Ding et al. 2024, "Fewer Truncations Improve Language Modeling", arXiv 2404.10830); only a document
longer than a row is cut, into full rows and a rest. What stays free in a row is filled with padding.
"""

import bisect
import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scratch_gpt.errors import UserError


# Tokens, and rows, that wait to be packed: the more, the better they fit, and they bound the memory.
BUFFER_TOKENS = 1 << 20
BUFFER_ROWS = 1 << 10
# Rows that are packed at once where the order of the documents is kept: within them it is not.
ORDERED_ROWS = 64


def pack(pieces: list[np.ndarray], sequence_length: int) -> list[list[np.ndarray]]:
    """Distribute pieces over rows by best-fit decreasing: each goes where it leaves the least room.

    Args:
        pieces: arrays of at most `sequence_length` tokens.

    Returns:
        The rows, each a list of whole pieces of together at most `sequence_length` tokens.
    """
    rows: list[list[np.ndarray]] = []
    free: list[tuple[int, int]] = []  # (room left, row), sorted; full rows are not in it
    for piece in sorted(pieces, key=len, reverse=True):
        place = bisect.bisect_left(free, (len(piece), -1))
        if place == len(free):
            room, row = sequence_length, len(rows)
            rows.append([])
        else:
            room, row = free.pop(place)
        rows[row].append(piece)
        if room > len(piece):
            bisect.insort(free, (room - len(piece), row))
    return rows


def join(files: list[Path], target: Path) -> str:
    """Write the files one after the other to `target`; return the SHA-256 of the whole."""
    target.parent.mkdir(exist_ok=True)
    digest = hashlib.sha256()
    with target.open("wb") as file:
        for path in files:
            with path.open("rb") as part:
                while chunk := part.read(1 << 24):
                    digest.update(chunk)
                    file.write(chunk)
        file.flush()
        os.fsync(file.fileno())  # only now is it sure that there was room
    return digest.hexdigest()


@dataclass
class SourceCounts:
    """What one source gave to one split."""

    documents: int = 0
    tokens: int = 0
    bytes: int = 0


@dataclass
class Packer:
    """Packs the documents of one split and appends them to its file.

    Args:
        file: where the rows are written.
        sequence_length: tokens in a row.
        dtype: type of the tokens on disk.
        pad_token_id: fills up the rows.
        random: puts the rows in random order: packing puts the longest first.
        counts: by name of the source.
        shuffle: whether the rows may come in another order than their documents; if not, they do so within
            `ORDERED_ROWS` alone.
    """

    file: Path
    sequence_length: int
    dtype: str
    pad_token_id: int
    random: np.random.Generator
    counts: dict[str, SourceCounts]
    shuffle: bool = True
    buffer: list[np.ndarray] = field(default_factory=list)
    buffered: int = 0
    tokens: int = 0
    blocks: int = 0
    padding: int = 0

    def __post_init__(self) -> None:
        self.file.parent.mkdir(exist_ok=True)
        self.hash = hashlib.sha256()
        self.file.touch()

    def add(self, source: str, size: int, ids: np.ndarray) -> None:
        """Take one document of `size` bytes with the tokens `ids`."""
        counts = self.counts[source]
        counts.documents += 1
        counts.tokens += len(ids)
        counts.bytes += size
        self.tokens += len(ids)
        for start in range(0, len(ids), self.sequence_length):
            self.buffer.append(ids[start : start + self.sequence_length])
        self.buffered += len(ids)
        if self.buffered >= self._buffer_tokens():
            self.flush()

    def _buffer_tokens(self) -> int:
        if self.shuffle:
            return max(BUFFER_TOKENS, BUFFER_ROWS * self.sequence_length)
        return ORDERED_ROWS * self.sequence_length

    def flush(self) -> None:
        """Write the waiting pieces as rows."""
        rows = pack(self.buffer, self.sequence_length)
        block = np.full((len(rows), self.sequence_length), self.pad_token_id, dtype=self.dtype)
        for row, place in zip(rows, self.random.permutation(len(rows)), strict=True):
            tokens = np.concatenate(row)
            block[place, : len(tokens)] = tokens
        data = block.tobytes()
        with self.file.open("ab") as file:
            file.write(data)
        self.hash.update(data)
        self.blocks += len(rows)
        self.padding += block.size - self.buffered
        self.buffer, self.buffered = [], 0

    def sync(self) -> None:
        """Bring what was written to the disk: only now is it sure that there was room."""
        with self.file.open("r+b") as file:  # Windows syncs no file that is open for reading alone
            os.fsync(file.fileno())

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What `restore` needs: plain values, and the waiting pieces as `ids` and `lengths`."""
        values = {
            "tokens": self.tokens,
            "blocks": self.blocks,
            "padding": self.padding,
            "digest": self.hash.hexdigest(),
            "random": self.random.bit_generator.state,
            "counts": {name: dict(vars(counts)) for name, counts in self.counts.items()},
        }
        ids = np.concatenate([np.zeros(0, self.dtype), *self.buffer])
        return values, {"ids": ids, "lengths": np.array([len(piece) for piece in self.buffer], np.int64)}

    def restore(self, values: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Resume from an earlier `state`; rows that were written later are removed.

        Raises:
            UserError: the file does not hold the rows that it held then.
        """
        size = values["blocks"] * self.sequence_length * np.dtype(self.dtype).itemsize
        with self.file.open("r+b") as file:
            file.truncate(size)
            while chunk := file.read(1 << 24):
                self.hash.update(chunk)
        if self.hash.hexdigest() != values["digest"]:
            message = f"{self.file} was damaged since the interruption: remove {self.file.parents[1]}"
            raise UserError("damaged_file", message, file=self.file)
        self.tokens, self.blocks, self.padding = (values[name] for name in ("tokens", "blocks", "padding"))
        self.random.bit_generator.state = values["random"]
        self.counts = {name: SourceCounts(**counts) for name, counts in values["counts"].items()}
        self.buffer = np.split(arrays["ids"], np.cumsum(arrays["lengths"])[:-1]) if len(arrays["ids"]) else []
        self.buffered = len(arrays["ids"])
