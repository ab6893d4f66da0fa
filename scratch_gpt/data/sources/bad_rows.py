# SPDX-License-Identifier: Apache-2.0
"""Rows that cannot be used: counted per file, reported, and too many of them refused."""

from typing import Any

from scratch_gpt.errors import UserError


# The share of bad rows in a file up to which they are skipped.
BAD_ROW_LIMIT = 0.01
# From so many bad rows on, the share among the rows seen so far decides at once: a wrong column name in an endless
# stream must not be read to its end before it is reported.
EARLY_BAD_ROWS = 100


class BadRow(ValueError):
    """A row that cannot be used; the message is the reason."""


class UnusedRow(ValueError):
    """A sound row that holds nothing for the purpose, such as a pair without a preference: told, and never too many."""


class FileCount:
    """Row counts of one pass over one file."""

    def __init__(self, source: str, name: str, policy: str) -> None:
        self.source, self.name, self.policy = source, name, policy
        self.rows = self.bad = 0
        self.first: tuple[int, str] | None = None
        self.unused = 0
        self.first_unused: tuple[int, str] | None = None
        self.ended = False

    def leave_out(self, line: int, reason: str) -> None:
        """Count a row that is sound and of no use."""
        self.unused += 1
        self.first_unused = self.first_unused or (line, reason)

    def reject(self, line: int, reason: str) -> None:
        """Count a bad row; raise UserError where the policy says so."""
        self.bad += 1
        self.first = self.first or (line, reason)
        if self.policy == "fail":
            message = f"{self.name}:{line}: {reason} (on_bad_row: skip leaves out such rows while under 1%)"
            raise UserError("bad_row", message, place=f"{self.name}:{line}")
        if self.bad > EARLY_BAD_ROWS:
            self.check()

    def check(self) -> None:
        """Raise UserError where more than 1% of the rows, and more than one, are bad, or all of them."""
        if self.first and (self.bad == self.rows or (self.bad > 1 and self.bad > BAD_ROW_LIMIT * self.rows)):
            line, reason = self.first
            message = (
                f"{self.name}:{line}: {reason} ({self.bad} of {self.rows} rows are bad; 1% is the limit)"
            )
            raise UserError("too_many_bad_rows", message, place=f"{self.name}:{line}")


class BadRows:
    """Counts the rows that were left out, per file, and stops a stage where there are too many.

    Args:
        policy: `skip` leaves out bad rows while they are at most 1% of a file; `fail` stops at the first.
    """

    def __init__(self, policy: str = "skip") -> None:
        self.policy = policy
        self._files: dict[tuple[str, str], FileCount] = {}

    def open(self, source: str, name: str) -> FileCount:
        """Begin a pass over a file, or go on with one. Only a file's first pass is kept for the report."""
        kept = self._files.setdefault((source, name), FileCount(source, name, self.policy))
        return FileCount(source, name, self.policy) if kept.ended else kept

    def state(self) -> list[list[Any]]:
        """What `restore` needs, as plain values."""
        return [
            [file.source, file.name, file.rows, file.bad, file.first, file.ended]
            for file in self._files.values()
        ]

    def restore(self, state: list[list[Any]]) -> None:
        """Count on from an earlier `state`."""
        for source, name, rows, bad, first, ended in state:
            file = self._files[source, name] = FileCount(source, name, self.policy)
            file.rows, file.bad, file.ended = rows, bad, ended
            file.first = tuple(first) if first else None

    def check(self) -> None:
        """Judge all files by the rows read so far: for a stage that stopped in the middle of one."""
        for file in self._files.values():
            file.check()

    def count(self, source: str) -> int:
        """Number of rows of this source that were left out."""
        return sum(file.bad for file in self._files.values() if file.source == source)

    def report(self, source: str | None = None) -> list[str]:
        """One line for each file with bad rows, and with unused ones: how many, and the first one's place and reason.

        Args:
            source: only of the files of this one.
        """
        return [
            f"{file.name}: left out {count} of {file.rows} rows, the first at line {first[0]}: {first[1]}"
            for file in self._files.values()
            for count, first in ((file.bad, file.first), (file.unused, file.first_unused))
            if first and source in (None, file.source)
        ]
