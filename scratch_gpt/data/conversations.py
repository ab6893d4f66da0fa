# SPDX-License-Identifier: Apache-2.0
"""Rows for post-training: instructions and preferences.

Each reader accepts the layouts that public data sets have, and returns one. Which column is what is found out row by
row, unless the source says it in `columns` (role -> column name).
"""

import hashlib
import random
import re
from collections.abc import Callable
from typing import Any, TypeVar

from scratch_gpt.data import primer
from scratch_gpt.data.bad_rows import BadRow, BadRows
from scratch_gpt.data.sources import PRIMER, Source, checked_text, pick, read_rows
from scratch_gpt.errors import UserError


Message = dict[str, str]
Row = dict[str, Any]
Parsed = TypeVar("Parsed")

ROLES = ("system", "user", "assistant")
# Role -> usual column, in the order in which they are tried: TRL, Alpaca and Dolly, question sets.
INSTRUCTION_LAYOUTS = (
    {"messages": "messages"},
    {"prompt": "prompt", "response": "completion"},
    {"prompt": "instruction", "context": "input", "response": "output"},
    {"prompt": "instruction", "context": "context", "response": "response"},
    {"prompt": "question", "response": "answer"},
)
PREFERENCE_LAYOUTS = (
    {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"},
    {"prompt": "instruction", "context": "input", "chosen": "chosen", "rejected": "rejected"},
    {"prompt": "question", "chosen": "chosen", "rejected": "rejected"},
    {"chosen": "chosen", "rejected": "rejected"},
)
OPTIONAL_ROLES = ("context", "kind")


def instruction_rows(sources: list[Source], split: str, bad_rows: BadRows, seed: int) -> list[Row]:
    """Conversations that end with the assistant's answer.

    Args:
        sources: read in full; a weight of 2 uses each row of its source twice, of 0.5 a random half of them.
        split: split of the primer. Rows of files know no split: divide them with `split_rows`.
        bad_rows: counts the rows left out.
        seed: of the primer, and of the choice where a weight is not whole.

    Returns:
        Rows {"messages": [{"role", "content"} ...], "source": name, "kind": group for reports}.

    Raises:
        UserError: a source that cannot be read or holds no rows, too many bad rows, an unknown role in `columns`.
    """

    def from_primer() -> list[Row]:
        return [
            {"messages": row["messages"], "kind": row["kind"]} for row in primer.instructions(split, seed)
        ]

    return _all_rows(sources, from_primer, INSTRUCTION_LAYOUTS, _instruction, bad_rows, seed)


def preference_rows(sources: list[Source], split: str, bad_rows: BadRows, seed: int) -> list[Row]:
    """Pairs of answers to the same prompt, one preferred; arguments and errors as for `instruction_rows`.

    Returns:
        Rows {"prompt": messages, "chosen": [answer], "rejected": [answer], "source": name, "kind": group}.
    """

    def from_primer() -> list[Row]:
        keys = ("prompt", "chosen", "rejected", "kind")
        return [{key: row[key] for key in keys} for row in primer.preferences(split, seed)]

    return _all_rows(sources, from_primer, PREFERENCE_LAYOUTS, _preference, bad_rows, seed)


def split_rows(rows: list[Row], fraction: float, seed: int) -> tuple[list[Row], list[Row]]:
    """Divide rows into (train, held out) by the hash of their opening question.

    Rows that begin with the same message of the user always come to the same side, whatever follows it.
    """
    sides: tuple[list[Row], list[Row]] = ([], [])
    for row in rows:
        messages = row["prompt"] if "prompt" in row else row["messages"]
        opening = next(message["content"] for message in messages if message["role"] == "user")
        digest = hashlib.blake2b(f"{seed}\n{opening}".encode(), digest_size=8).digest()
        sides[int.from_bytes(digest, "big") < fraction * 2**64].append(row)
    return sides


def _all_rows(
    sources: list[Source],
    from_primer: Callable[[], list[Row]],
    layouts: tuple[dict[str, str], ...],
    parse: Callable[[dict[str, Any], str], Row],
    bad_rows: BadRows,
    seed: int,
) -> list[Row]:
    rows: list[Row] = []
    for source in sources:
        if not source.weight:
            continue
        own = from_primer() if source.path == PRIMER else rows_by_role(source, layouts, parse, bad_rows)
        repeats, share = divmod(source.weight, 1)
        extra = random.Random(f"{seed} {source.name}").sample(own, round(share * len(own)))
        rows += [{**row, "source": source.name} for row in own * int(repeats) + extra]
    return rows


def rows_by_role(
    source: Source,
    layouts: tuple[dict[str, str], ...],
    parse: Callable[[dict[str, Any], str], Parsed],
    bad_rows: BadRows,
) -> list[Parsed]:
    """All rows of a source: its columns are renamed to their roles, then `parse(values by role, kind)` is applied."""
    known = sorted({*OPTIONAL_ROLES, *(role for layout in layouts for role in layout)})
    for role in source.columns:
        if role not in known:
            raise UserError(
                f"source {source.name!r}: unknown role {role!r} in columns; known: {', '.join(known)}"
            )

    def by_role(row: dict[str, Any]) -> Parsed:
        values = _roles(row, layouts, source.columns)
        return parse(values, str(values.get("kind", source.name)))

    rows = list(read_rows(source, bad_rows, by_role))
    if not rows:
        raise UserError(f"source {source.name!r}: no rows in {source.path}")
    return rows


def _roles(
    row: dict[str, Any], layouts: tuple[dict[str, str], ...], columns: dict[str, str]
) -> dict[str, Any]:
    """Role -> value by the first layout whose columns the row has; `columns` of the source come before the layout's."""
    for layout in layouts:
        names = {**layout, **columns}
        required = {
            role: name for role, name in names.items() if role not in OPTIONAL_ROLES or role in columns
        }
        if all(row.get(name) is not None for name in required.values()):
            return {role: row[name] for role, name in names.items() if row.get(name) is not None}
    for name in columns.values():
        pick(row, name)
    wanted = " or ".join("+".join(layout.values()) for layout in layouts)
    raise BadRow(f"no columns {wanted} (columns: {', '.join(map(str, row))}); name them in `columns`")


def _instruction(values: dict[str, Any], kind: str) -> Row:
    if "messages" in values:
        messages = _messages(values["messages"], "messages")
    else:
        messages = _prompt(values) + _answer(values["response"], "response")
    if messages[-1]["role"] != "assistant" or not any(message["role"] == "user" for message in messages):
        raise BadRow("a conversation needs a message of the user and must end with one of the assistant")
    return {"messages": messages, "kind": kind}


def _preference(values: dict[str, Any], kind: str) -> Row:
    sides = []
    for side in ("chosen", "rejected"):
        value = values[side]
        if isinstance(value, str) and value.lstrip().startswith("Human:"):
            value = _transcript(value)
        sides.append(
            _messages(value, side) if isinstance(value, list) else _prompt(values) + _answer(value, side)
        )
    chosen, rejected = sides
    if len(chosen) == len(rejected) == 1 and "prompt" in values:
        # TRL's explicit layout: the lists hold the answer alone.
        chosen, rejected = _prompt(values) + chosen, _prompt(values) + rejected
    if chosen[:-1] != rejected[:-1] or not any(message["role"] == "user" for message in chosen[:-1]):
        raise BadRow("chosen and rejected do not answer the same prompt")
    if chosen[-1]["role"] != "assistant" or rejected[-1]["role"] != "assistant":
        raise BadRow("chosen and rejected must end with a message of the assistant")
    if chosen[-1] == rejected[-1]:
        raise BadRow("chosen and rejected are equal")
    return {"prompt": chosen[:-1], "chosen": chosen[-1:], "rejected": rejected[-1:], "kind": kind}


def _prompt(values: dict[str, Any]) -> list[Message]:
    """The prompt as messages; a context follows it after a blank line."""
    prompt = pick(values, "prompt")
    if isinstance(prompt, list):
        return _messages(prompt, "prompt")
    text = checked_text(prompt, "prompt").strip()
    context = values.get("context") or ""
    if context:
        text = f"{text}\n\n{checked_text(context, 'context').strip()}"
    return [{"role": "user", "content": text}]


def _answer(value: Any, column: str) -> list[Message]:
    if isinstance(value, list):
        return _messages(value, column)
    return [{"role": "assistant", "content": checked_text(value, column).strip()}]


def _messages(value: Any, column: str) -> list[Message]:
    if not isinstance(value, list) or not value:
        raise BadRow(f"column {column!r} holds no list of messages")
    messages = []
    for message in value:
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise BadRow(
                f"column {column!r}: a message needs a role of {', '.join(ROLES)}, got {message!r:.60}"
            )
        content = checked_text(message.get("content"), f"{column}.content").strip()
        messages.append({"role": message["role"], "content": content})
    return messages


def _transcript(text: str) -> list[Message]:
    """Messages of an Anthropic HH transcript: turns that begin with "\\n\\nHuman:" or "\\n\\nAssistant:"."""
    parts = re.split(r"(?:^|\n\n)(Human|Assistant):", text.lstrip())
    roles = {"Human": "user", "Assistant": "assistant"}
    return [
        {"role": roles[speaker], "content": said}
        for speaker, said in zip(parts[1::2], parts[2::2], strict=True)
    ]
