# SPDX-License-Identifier: Apache-2.0
"""Rows for post-training: instructions and preferences.

Each reader accepts the layouts that public data sets have, and returns one. Which column is what is found out row by
row, unless the source says it in `columns` (role -> column name). A source's `template` writes the prompt from roles:
"Translate into German: {source}". Its `system` opens every conversation.
"""

import hashlib
import math
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from scratch_gpt import primer
from scratch_gpt.data.rows.messages import (
    Message,
    best_and_worst,
    read_answer,
    read_messages,
    read_transcript,
)
from scratch_gpt.data.sources.bad_rows import BadRow, BadRows, UnusedRow
from scratch_gpt.data.sources.source import Source, checked_text, pick, pick_text, read_rows
from scratch_gpt.errors import UserError
from scratch_gpt.settings.sources import PRIMER
from scratch_gpt.tasks.example import Example


Row = dict[str, Any]
Parsed = TypeVar("Parsed")

# A role in braces, in the `template` of a source.
PLACEHOLDER = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Schema(Generic[Parsed]):
    """What rows of a purpose look like.

    Args:
        layouts: role -> usual column, in the order in which they are tried.
        parse: makes one row of the values by role.
        optional: roles that a row may lack, unless the source names their column.
    """

    layouts: tuple[dict[str, str], ...]
    parse: Callable[[dict[str, Any]], Parsed]
    optional: tuple[str, ...] = ("context", "kind", "system")

    @property
    def roles(self) -> list[str]:
        """All roles that a source may name in `columns`."""
        return sorted({*self.optional, *(role for layout in self.layouts for role in layout)})


def instruction_rows(sources: list[Source], split: str, bad_rows: BadRows, seed: int) -> list[Row]:
    """Conversations that end with the assistant's answer.

    Args:
        sources: read in full; a weight of 2 uses each row of its source twice, of 0.5 a random half of them.
        split: split of the primer. Rows of files know no split: divide them with `split_rows`.
        bad_rows: counts the rows left out.
        seed: of the primer, and of the choice where a weight is not whole.

    Returns:
        Rows {"messages": [{"role", "content"} ...], "source": name, "kind": group for reports, "place": "file:row"}.

    Raises:
        UserError: a source that cannot be read or holds no rows, too many bad rows, an unknown role in `columns` or
            `template`.
    """

    def from_primer() -> list[Row]:
        return [
            {"messages": row["messages"], "kind": row["kind"]} for row in primer.instructions(split, seed)
        ]

    return _all_rows(sources, from_primer, INSTRUCTIONS, bad_rows, seed)


def preference_rows(sources: list[Source], split: str, bad_rows: BadRows, seed: int) -> list[Row]:
    """Pairs of answers to the same prompt, one preferred; arguments and errors as for `instruction_rows`.

    Returns:
        Rows {"prompt": messages, "chosen": [answer], "rejected": [answer], "margin": by how much the chosen one is
        better (0 where nothing says so), "source": name, "kind": group, "place": "file:row"}.
    """

    def from_primer() -> list[Row]:
        keys = ("prompt", "chosen", "rejected", "kind")
        return [{**{key: row[key] for key in keys}, "margin": 0.0} for row in primer.preferences(split, seed)]

    return _all_rows(sources, from_primer, PREFERENCES, bad_rows, seed)


def split_rows(rows: list[Row], fraction: float, seed: int | str) -> tuple[list[Row], list[Row]]:
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
    schema: Schema[Row],
    bad_rows: BadRows,
    seed: int,
) -> list[Row]:
    rows: list[Row] = []
    for source in sources:
        if not source.weight:
            continue
        if source.path == PRIMER:
            placed = [(f"{PRIMER}:{number}", row) for number, row in enumerate(from_primer(), start=1)]
        else:
            placed = file_rows(source, schema, bad_rows)
        own = [{**row, "source": source.name, "place": place} for place, row in placed]
        rows += weighted_rows(own, source, seed)
    return rows


def weighted_rows(rows: list[Row], source: Source, seed: int) -> list[Row]:
    """The source's rows as often as its weight says: all for each whole, a random share for the rest."""
    repeats, share = divmod(source.weight, 1)
    drawn = random.Random(f"{seed} {source.name}").sample(rows, round(share * len(rows)))
    return rows * int(repeats) + drawn


def file_rows(source: Source, schema: Schema[Parsed], bad_rows: BadRows) -> list[tuple[str, Parsed]]:
    """Place and value of all rows of a source: columns are renamed to their roles, then parsed."""
    written_by = {"columns": list(source.columns), "template": PLACEHOLDER.findall(source.template or "")}
    for setting, roles in written_by.items():
        for role in roles:
            if role not in schema.roles:
                message = f"source {source.name!r}: unknown role {role!r} in {setting}; known: {', '.join(schema.roles)}"
                raise UserError("unknown_role", message, role=role)
    if source.template is not None and not written_by["template"]:
        message = (
            f"source {source.name!r}: the template names no role in braces: all prompts would be the same"
        )
        raise UserError("placeholder_missing", message, setting="template")
    # those that have every role that the source names a column for
    named = source.columns.keys() - set(schema.optional)
    layouts = [layout for layout in schema.layouts if named <= layout.keys()]
    if not layouts:
        message = f"source {source.name!r}: the roles {' and '.join(sorted(named))} do not belong together"
        raise UserError("roles_mixed", message, roles=sorted(named))

    def by_role(row: dict[str, Any]) -> Parsed:
        values = _roles(row, layouts, source.columns, schema.optional)
        values.setdefault("kind", source.name)
        if source.system:
            values["system"] = source.system
        if source.template:
            values["filled"] = checked_text(_filled(source.template, values), "template")
        return schema.parse(values)

    rows = list(read_rows(source, bad_rows, by_role))
    if not rows:
        message = f"source {source.name!r}: no rows in {source.path}"
        raise UserError("source_empty", message, source=source.name)
    return rows


def _roles(
    row: dict[str, Any], layouts: list[dict[str, str]], columns: dict[str, str], optional: tuple[str, ...]
) -> dict[str, Any]:
    """Role -> value by the first layout whose columns the row has; `columns` of the source come before the layout's."""
    for layout in layouts:
        names = {"system": "system", **layout, **columns}
        required = {role: name for role, name in names.items() if role not in optional or role in columns}
        if all(row.get(name) is not None for name in required.values()):
            return {role: row[name] for role, name in names.items() if row.get(name) is not None}
    for name in columns.values():
        pick(row, name)
    wanted = " or ".join("+".join(layout.values()) for layout in layouts)
    raise BadRow(f"no columns {wanted} (columns: {', '.join(map(str, row))}); name them in `columns`")


def _filled(template: str, values: dict[str, Any]) -> str:
    """The template with each role in braces replaced by its text; a role that the row lacks leaves nothing."""

    def text(match: re.Match[str]) -> str:
        value = values.get(match[1])
        return checked_text(value, match[1]).strip() if value else ""

    return PLACEHOLDER.sub(text, template).strip()


def _instruction(values: dict[str, Any]) -> Row:
    if "messages" in values:
        _refuse_template(values)
        messages = read_messages(values["messages"], "messages")
        # in ShareGPT many end with a question that nobody answered: nothing is learned from it
        while messages and messages[-1]["role"] == "user":
            messages.pop()
    elif "response" in values:
        messages = _prompt(values) + read_answer(values["response"], "response")
    else:
        example = _question(values) if "answers" in values else _translation(values)
        messages = [
            {"role": "user", "content": example.prompt},
            {"role": "assistant", "content": example.references[0]},
        ]
    if (
        not messages
        or messages[-1]["role"] != "assistant"
        or not any(message["role"] == "user" for message in messages)
    ):
        raise BadRow("a conversation needs a message of the user and must end with one of the assistant")
    return {"messages": _system(values, messages) + messages, "kind": str(values["kind"])}


def _preference(values: dict[str, Any]) -> Row:
    if "completions" in values:
        pair = best_and_worst(values["completions"], "completions")
        if pair is None:
            raise UnusedRow("the best and the worst completion have the same score")
        values = {**values, "chosen": pair[0], "rejected": pair[1]}
    sides = []
    for side in ("chosen", "rejected"):
        value = values[side]
        if isinstance(value, str) and value.lstrip().startswith("Human:"):
            value = read_transcript(value)
        sides.append(read_answer(value, side))
    chosen, rejected = sides
    if len(chosen) == len(rejected) == 1:
        # The answers alone, as texts or as TRL's explicit layout has them.
        chosen, rejected = _prompt(values) + chosen, _prompt(values) + rejected
    else:
        _refuse_template(values)
    if chosen[:-1] != rejected[:-1] or not any(message["role"] == "user" for message in chosen[:-1]):
        raise BadRow("chosen and rejected do not answer the same prompt")
    if chosen[-1]["role"] != "assistant" or rejected[-1]["role"] != "assistant":
        raise BadRow("chosen and rejected must end with a message of the assistant")
    if chosen[-1] == rejected[-1]:
        raise BadRow("chosen and rejected are equal")
    margin = values.get("margin", 0.0)
    if isinstance(margin, bool) or not isinstance(margin, int | float) or not math.isfinite(margin):
        raise BadRow(f"column 'margin' holds no finite number but {margin!r}")
    return {
        "prompt": _system(values, chosen) + chosen[:-1],
        "chosen": chosen[-1:],
        "rejected": rejected[-1:],
        "margin": float(margin),
        "kind": str(values["kind"]),
    }


def _question(values: dict[str, Any]) -> Example:
    question = pick_text(values, "question").strip()
    context = values.get("context") or ""
    prompt = f"{checked_text(context, 'context').strip()}\n\n{question}" if context else question
    prompt = values.get("filled", prompt)
    answers = values["answers"]
    if isinstance(answers, dict):
        answers = answers.get("text")
    if not isinstance(answers, list):
        answers = [answers]
    references = tuple(dict.fromkeys(checked_text(answer, "answers").strip() for answer in answers))
    if not references:
        raise BadRow("column 'answers' is empty")
    return Example(prompt=prompt, references=references, kind=str(values["kind"]), key=prompt)


def _translation(values: dict[str, Any]) -> Example:
    text = pick_text(values, "source").strip()
    references = (pick_text(values, "target").strip(),)
    return Example(
        prompt=values.get("filled", text), references=references, kind=str(values["kind"]), key=text
    )


def _prompt(values: dict[str, Any]) -> list[Message]:
    """The prompt as messages: as the template writes it, else with a context after it and a blank line between."""
    if "filled" in values:
        return [{"role": "user", "content": values["filled"]}]
    prompt = pick(values, "prompt")
    if isinstance(prompt, list):
        return read_messages(prompt, "prompt")
    text = checked_text(prompt, "prompt").strip()
    context = values.get("context") or ""
    if context:
        text = f"{text}\n\n{checked_text(context, 'context').strip()}"
    return [{"role": "user", "content": text}]


def _refuse_template(values: dict[str, Any]) -> None:
    """Whole conversations bring their prompts: a template would be passed over without a word."""
    if "filled" in values:
        raise BadRow("a template writes the prompt of an answer, and here are whole conversations")


def _system(values: dict[str, Any], messages: list[Message]) -> list[Message]:
    """The system message that the source or the row brings, unless the conversation has one."""
    if not values.get("system") or messages[0]["role"] == "system":
        return []
    return [{"role": "system", "content": checked_text(values["system"], "system").strip()}]


QUESTION_LAYOUTS = (
    {"question": "question", "context": "context", "answers": "answers"},
    {"question": "question", "context": "context", "answers": "answer"},
)
TRANSLATION_LAYOUTS = ({"source": "source", "target": "target"},)

QUESTIONS = Schema(QUESTION_LAYOUTS, _question)
TRANSLATIONS = Schema(TRANSLATION_LAYOUTS, _translation)
# TRL, Alpaca and Dolly, ShareGPT, question and translation sets.
INSTRUCTIONS = Schema(
    (
        {"messages": "messages"},
        {"prompt": "prompt", "response": "completion"},
        {"prompt": "instruction", "context": "input", "response": "output"},
        {"prompt": "instruction", "context": "context", "response": "response"},
        {"messages": "conversations"},
        *QUESTION_LAYOUTS,
        *TRANSLATION_LAYOUTS,
    ),
    _instruction,
)
# Texts, lists of messages and transcripts with or without a prompt; UltraFeedback's scored completions.
PREFERENCES = Schema(
    (
        {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"},
        {"prompt": "instruction", "context": "input", "chosen": "chosen", "rejected": "rejected"},
        {"prompt": "question", "chosen": "chosen", "rejected": "rejected"},
        {"prompt": "instruction", "completions": "completions"},
        {"prompt": "prompt", "completions": "completions"},
        {"chosen": "chosen", "rejected": "rejected"},
    ),
    _preference,
    optional=("context", "kind", "system", "margin"),
)
