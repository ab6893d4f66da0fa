# SPDX-License-Identifier: Apache-2.0
"""Rows that a training stage reads from a file, and rows of its log."""

import json
from pathlib import Path
from typing import Any

from scratch_gpt.runs.log import RunLog


def write_rows(path: Path, rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return [{"name": "mine", "path": str(path)}]


def rows_with(folder: Path, key: str) -> list[dict[str, Any]]:
    return [row for row in RunLog(folder / "log.jsonl").rows() if key in row]
