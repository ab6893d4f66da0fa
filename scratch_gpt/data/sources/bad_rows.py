# SPDX-License-Identifier: Apache-2.0
"""Rows that cannot be used, and what else a reader has to report: counted per file, too many bad rows refused."""

import math
from collections.abc import Iterable
from typing import Any

from scratch_gpt.errors import UserError


# The share of bad rows in a file up to which they are skipped, where the source names no `max_bad_rows`.
BAD_ROW_LIMIT = 0.01
# From this many bad rows on, the share among the rows seen so far decides at once: a wrong column name in an endless
# stream must not be read to its end before it is reported.
EARLY_BAD_ROWS = 100


class BadRow(ValueError):
    """A row that cannot be used; the message is the reason."""


class UnusedRow(ValueError):
    """A sound row that holds nothing for the purpose, such as a pair without a preference: reported, and never too many."""


class FileCount:
    """Row counts of one pass over one file.

    Args:
        policy: see `BadRows`.
        limit: the share of bad rows up to which they are skipped.
    """

    def __init__(self, source: str, name: str, policy: str, limit: float = BAD_ROW_LIMIT) -> None:
        self.source, self.name, self.policy, self.limit = source, name, policy, limit
        self.rows = self.bad = 0
        self.first: tuple[int, str] | None = None
        self.unused = 0
        self.first_unused: tuple[int, str] | None = None
        # what was noticed -> how often, and where first
        self.notes: dict[str, tuple[int, str]] = {}
        self.ended = False

    def note(self, message: str, place: str) -> None:
        """Count something that is no fault and that the user should know; `report` adds up equal messages."""
        count, first = self.notes.get(message, (0, place))
        self.notes[message] = (count + 1, first)

    def leave_out(self, line: int, reason: str) -> None:
        """Count a row that is sound and of no use."""
        self.unused += 1
        self.first_unused = self.first_unused or (line, reason)

    def reject(self, line: int, reason: str) -> None:
        """Count a bad row; raise UserError where the policy says so."""
        self.bad += 1
        self.first = self.first or (line, reason)
        if self.policy == "fail":
            message = (
                f"{self.name}:{line}: {reason} (on_bad_row: skip leaves out such rows up to max_bad_rows)"
            )
            raise UserError("bad_row", message, place=f"{self.name}:{line}")
        if self.bad > EARLY_BAD_ROWS:
            self.check()

    def check(self) -> None:
        """Raise UserError where a larger share of the rows than the limit, and more than one, are bad, or all of them."""
        if self.first is None or self.limit >= 1:
            return
        if self.bad == self.rows or (self.bad > 1 and self.bad > self.limit * self.rows):
            line, reason = self.first
            enough = math.ceil(100 * self.bad / self.rows) / 100
            cure = (
                "" if self.bad == self.rows else f": max_bad_rows: {enough:g} in the source leaves these out"
            )
            message = (
                f"{self.name}:{line}: {reason} ({self.bad} of {self.rows} rows are bad; max_bad_rows allows a share of "
                f"{self.limit:g}{cure})"
            )
            raise UserError("too_many_bad_rows", message, place=f"{self.name}:{line}")


class BadRows:
    """Counts the rows that were left out, per file, and stops a stage where there are too many.

    Args:
        policy: `skip` leaves out bad rows while they are at most `max_bad_rows` of a file; `fail` stops at the first.
    """

    def __init__(self, policy: str = "skip") -> None:
        self.policy = policy
        self._files: dict[tuple[str, str], FileCount] = {}

    def open(self, source: str, name: str, limit: float = BAD_ROW_LIMIT) -> FileCount:
        """Begin a pass over a file, or continue one. Only a file's first pass is kept for the report."""
        kept = self._files.setdefault((source, name), FileCount(source, name, self.policy, limit))
        return FileCount(source, name, self.policy, limit) if kept.ended else kept

    def state(self) -> list[list[Any]]:
        """What `restore` needs, as plain values."""
        return [
            [file.source, file.name, file.limit, file.rows, file.bad, file.first, file.notes, file.ended]
            for file in self._files.values()
        ]

    def restore(self, state: list[list[Any]]) -> None:
        """Count on from an earlier `state`."""
        for source, name, limit, rows, bad, first, notes, ended in state:
            file = self._files[source, name] = FileCount(source, name, self.policy, limit)
            file.rows, file.bad, file.ended = rows, bad, ended
            file.first = tuple(first) if first else None
            file.notes = {message: (count, place) for message, (count, place) in notes.items()}

    def check(self) -> None:
        """Judge all files by the rows read so far: for a stage that stopped in the middle of one."""
        for file in self._files.values():
            file.check()

    def count(self, source: str) -> int:
        """Number of rows of this source that were left out."""
        return sum(file.bad for file in self._files.values() if file.source == source)

    def report(self, source: str | None = None) -> list[str]:
        """Lines for the terminal: of each file its bad rows and its unused ones, of each source what was noted.

        Args:
            source: only of the files of this one.
        """
        files = [file for file in self._files.values() if source in (None, file.source)]
        lines = [
            f"{file.name}: left out {count} of {file.rows} rows, the first at line {first[0]}: {first[1]}"
            for file in files
            for count, first in ((file.bad, file.first), (file.unused, file.first_unused))
            if first
        ]
        return lines + list(_added_up(files))


def _added_up(files: Iterable[FileCount]) -> Iterable[str]:
    """One line for each source and message, with how often and where first."""
    notes: dict[tuple[str, str], tuple[int, str]] = {}
    for file in files:
        for message, (count, place) in file.notes.items():
            before, first = notes.get((file.source, message), (0, place))
            notes[file.source, message] = (before + count, first)
    for (source, message), (count, place) in notes.items():
        yield f"source {source!r}: {message} ({count:,}, the first in {place})"
