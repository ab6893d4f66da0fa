# SPDX-License-Identifier: Apache-2.0
"""The reference of errors, docs/reference/errors.md: each line that a mistake can end a command with, from the source."""

import ast
import itertools
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path


ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reference" / "errors.md"
INTRODUCTION = """# Errors

<!-- written by docs/error_pages.py; `make refresh` renews it -->

A mistake in a setting, a file or a command ends with one line, `error: ...`, and exit status 2; nothing half-written stays.
The line names the value and the cure. Each line is listed here by the code that `UserError.code` has in Python, with `…`
for the values in it. Search for a few words of yours.
"""
# Folder below scratch_gpt -> heading, in the order of the pipeline.
PARTS = {
    "settings": "Settings and files",
    "data": "Text and rows",
    "new": "One command from text to model",
    "training": "Training",
    "evaluation": "Benchmarks",
    "inference": "Loading and generating",
    "serving": "Chat, web page and server",
    "export": "Export and import",
    "publishing": "Publishing and report",
}
ALIASES = {"report": "publishing", "primer": "evaluation", "tasks": "evaluation"}


def lines_of(node: ast.expr) -> list[str]:
    """A message as the source has it, with … for each value; each alternative of a conditional one."""
    if isinstance(node, ast.IfExp):
        return [*lines_of(node.body), *lines_of(node.orelse)]
    if isinstance(node, ast.BinOp):
        return [left + right for left in lines_of(node.left) for right in lines_of(node.right)]
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    return ["".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in parts)]


def errors_of(file: Path) -> Iterator[tuple[str, str]]:
    """Code and line of each mistake that a file reports."""
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    assigned = {node.lineno: node for node in nodes if isinstance(node, ast.Assign)}
    for call in nodes:
        match call:
            case ast.Call(ast.Name("UserError"), [ast.Constant(str(code)), ast.Name()]):
                # the message is the text that was assigned last
                message = assigned[max(line for line in assigned if line < call.lineno)].value
                yield from ((code, line) for line in lines_of(message))
            case ast.Call(ast.Name("UserError"), [ast.Constant(str(code)), message]):
                yield from ((code, line) for line in lines_of(message))
            case ast.Call(ast.Name("wrong_value"), [setting, _, wanted]):
                for name, values in itertools.product(lines_of(setting), lines_of(wanted)):
                    yield "wrong_value", f"{name} must be {values}, got …"


def pages() -> dict[Path, str]:
    """The text of the page."""
    found: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for folder in ("scratch_gpt", "train", "eval"):
        for file in (ROOT / folder).rglob("*.py"):
            part = file.relative_to(ROOT / folder).parts[0]
            part = {"train": "training", "eval": "evaluation"}.get(folder, ALIASES.get(part, part))
            found[part if part in PARTS else "settings"] |= set(errors_of(file))
    text = INTRODUCTION
    for part, heading in PARTS.items():
        rows = [
            f"| `{code}` | {line.replace('|', chr(92) + '|')} |"
            for code, line in sorted(found[part])
            if line.strip("… ")
        ]
        text += f"\n## {heading}\n\n| code | line |\n|---|---|\n" + "\n".join(rows) + "\n"
    return {PAGE: text}
