# SPDX-License-Identifier: Apache-2.0
"""What the user of `scratch-gpt new` asks for."""

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scratch_gpt.errors import UserError, wrong_value
from scratch_gpt.launching import shell_line
from scratch_gpt.new.text import RUNNING
from scratch_gpt.pipeline import command_prefix
from scratch_gpt.publishing.metadata import Metadata


# How text files are divided: see `text`, and `documents` of a source.
DOCUMENTS = (RUNNING, "block", "line", "file")
LEAST_MINUTES = 1.0


@dataclass(frozen=True)
class NewArguments:
    """What the user asks for; see the command's help."""

    texts: list[str]
    minutes: float
    instructions: str | None
    preferences: str | None
    language: str | None
    output_dir: Path
    size: float | None
    documents: str
    dry_run: bool
    yes: bool

    def __post_init__(self) -> None:
        if not math.isfinite(self.minutes):
            raise wrong_value("minutes", self.minutes, "a number of minutes", where="--")
        if self.minutes < LEAST_MINUTES:
            message = (
                f"--minutes {self.minutes:g}: the least is {LEAST_MINUTES:g}; a book is worth 15 or more"
            )
            raise UserError("too_little_time", message, missing=LEAST_MINUTES - self.minutes)
        if self.documents not in DOCUMENTS:
            raise wrong_value("documents", self.documents, f"one of {', '.join(DOCUMENTS)}", where="--")
        if self.language:
            Metadata(language=[self.language])  # refuses what the Hub would, before anything is trained
        if self.preferences and not self.instructions:
            message = "--preferences needs --instructions: pairs align a model that has learned to answer"
            raise UserError("setting_missing", message, setting="instructions")

    def inputs(self) -> dict[str, Any]:
        """What decides the plan, as plain values."""
        names = ("texts", "minutes", "instructions", "preferences", "language", "size", "documents")
        return {name: getattr(self, name) for name in names}

    def command(self, minutes: float | None = None) -> str:
        """The command line of this call; with other minutes, into a folder of their own."""
        output_dir = self.output_dir.as_posix() + (f"-{minutes:g}" if minutes else "")
        options = {"minutes": f"{minutes or self.minutes:g}", "output_dir": output_dir}
        for name in ("instructions", "preferences", "language"):
            options |= {name: getattr(self, name)} if getattr(self, name) else {}
        options |= {"size": f"{self.size:.0f}"} if self.size else {}
        options |= {"documents": self.documents} if self.documents != RUNNING else {}
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        return shell_line([command_prefix("scratch-gpt"), "new", *self.texts, *words])


def parse_size(text: str | None) -> float | None:
    """Parameters of "10m", "1.5M", "2b", "800k" or a number.

    Raises:
        UserError: anything else.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmb]?)", text.strip().lower())
    if match is None or float(match[1]) == 0:
        raise wrong_value("size", text, "a number of parameters such as 800k, 10m or 1b", where="--")
    return float(match[1]) * {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9}[match[2]]


def default_folder(texts: Sequence[str]) -> Path:
    """`runs/` and the name of the first text."""
    parts = [part for part in Path(texts[0]).parts if not set(part) & set("*?[")]
    name = unicodedata.normalize("NFC", Path(parts[-1]).name.partition(".")[0]) if parts else ""
    # letters, marks, numbers: the vowels of many scripts are marks, which \w leaves out
    kept = (each if each in "_-" or unicodedata.category(each)[0] in "LMN" else " " for each in name)
    return Path("runs") / ("-".join("".join(kept).split()).strip("-") or "new")
