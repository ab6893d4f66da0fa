# SPDX-License-Identifier: Apache-2.0
"""What a running stage reports: `log.jsonl` for programs, a progress bar for people."""

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from scratch_gpt.errors import UserError
from scratch_gpt.runs.folders import atomic_write


console = Console()

# Marks a row at which something was found to go wrong, by its name.
MONITOR = "monitor/"


class RunLog:
    """`log.jsonl`: one JSON object a line, each step once, also over resumed runs."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def rows(self) -> list[dict[str, Any]]:
        """All complete rows; a last line that a killed process left unfinished is not one."""
        if not self.path.exists():
            return []
        rows = []
        # not by splitlines, which also parts at U+2028, as a sample may hold it
        for line in self.path.read_text(encoding="utf-8").rstrip("\n").split("\n"):
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return rows

    def truncate_after(self, step: int) -> None:
        """Forget the rows after `step`: a run that resumes there writes them again."""
        if not self.path.exists():
            return
        kept = [row for row in self.rows() if row["step"] <= step]
        with atomic_write(self.path) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")

    def write(self, **row: Any) -> None:
        """Append one row; floats keep the nine digits from which the same float32 can be read."""
        rounded = {
            name: float(f"{value:.9g}") if isinstance(value, float) else value for name, value in row.items()
        }
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(rounded) + "\n")


def check_trackers(names: list[str]) -> None:
    """Whether each tracker can be used.

    Raises:
        UserError: one that Accelerate does not know, or that is not installed.
    """
    # imported late: whoever only reads a log should not wait for it
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
    from accelerate.utils import LoggerType

    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            message = f"report_to: no tracker {name!r}; trackio, tensorboard and wandb are some"
            raise UserError("wrong_value", message, setting="report_to", value=name)
        if name in LoggerType.list() and name not in get_available_trackers():
            message = f"report_to: {name} is not installed: pip install {name}"
            raise UserError("missing_package", message, package=name)


def progress_bar(enabled: bool = True) -> Progress:
    """A bar with steps, loss, tokens a second and the time left; `fields` of a task: `status`."""
    return Progress(
        TextColumn("[progress.description]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[status]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not enabled,
    )
