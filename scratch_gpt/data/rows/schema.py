# SPDX-License-Identifier: Apache-2.0
"""What rows of a purpose look like: columns by role, in the layouts that public data sets have.

Which column is what is found out row by row, unless the source says it in `columns` (role -> column name). A source's
`template` writes the prompt from roles: "Translate into German: {source}". Its `system` opens every conversation.
"""

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, TypeVar

from scratch_gpt.data.rows.messages import (
    Message,
    holds_messages,
    is_blank,
    make_message,
    read_answer,
    read_content,
    read_messages,
    read_tools,
)
from scratch_gpt.data.rows.passages import read_passages
from scratch_gpt.data.rows.transcripts import read_transcript, without_end
from scratch_gpt.data.rows.trees import TREE_COLUMNS, grow_trees
from scratch_gpt.data.sources.bad_rows import BadRow, BadRows
from scratch_gpt.data.sources.columns import checked_text, shown_columns, with_inner_values
from scratch_gpt.data.sources.source import Source, parse_counted, read_rows
from scratch_gpt.errors import UserError, did_you_mean
from scratch_gpt.settings.sources import PRIMER


Row = dict[str, Any]
Parsed = TypeVar("Parsed")

# A role in braces, in the `template` of a source.
PLACEHOLDER = re.compile(r"\{(\w+)\}")


class Values(dict[str, Any]):
    """Role -> value of one row.

    Args:
        names: role -> how the file calls the column, for messages.
        roles: names of speakers that the source declares.
    """

    def __init__(self, values: dict[str, Any], names: Mapping[str, str], roles: Mapping[str, str]) -> None:
        super().__init__(values)
        self.names, self.roles = names, roles

    def name(self, role: str) -> str:
        """The column of a role."""
        return self.names.get(role, role)

    def text(self, role: str) -> str:
        """The text of a role as it is; BadRow where it is none, or empty."""
        return checked_text(self[role], self.name(role))

    def messages(self, role: str) -> list[Message]:
        """The conversation of a role, see `read_messages`."""
        return read_messages(self[role], self.name(role), self.roles)

    def answer(self, role: str) -> list[Message]:
        """The answer of a role, see `read_answer`; behind a templated prompt without the template's end of a turn."""
        value, prompt = self[role], self.get("prompt")
        if isinstance(value, str) and isinstance(prompt, str):
            value = without_end(value, prompt)
        return read_answer(value, self.name(role), self.roles)

    def with_context(self, role: str, *, before: bool = False) -> str:
        """The text of a role with the row's context after or before it and a blank line between.

        Of Alpaca's rows some have all of the question in the context.
        """
        if is_blank(self.get("context")) or self["context"] == []:
            return self.text(role)
        context = checked_text(read_passages(self["context"], self.name("context")), self.name("context"))
        if is_blank(self[role]) and not before:
            return context
        text = self.text(role)
        return f"{context}\n\n{text}" if before else f"{text}\n\n{context}"

    def prompt(self) -> list[Message]:
        """The prompt as messages: as the template writes it, else with its context, behind earlier turns."""
        if "filled" in self:
            return [make_message("user", self["filled"], "template")]
        if "prompt" not in self:
            raise BadRow(
                "no column 'prompt': whole conversations would bring their own; name it in `columns`"
            )
        if holds_messages(self["prompt"], self.name("prompt"), self.roles):
            return self.messages("prompt")
        text = self.with_context("prompt")
        turns = read_transcript(text)
        if turns and turns[-1]["role"] == "assistant" and not turns[-1]["content"].strip():
            # a transcript up to the answer, as in "\n\nHuman: Hi\n\nAssistant:"
            return read_messages(turns[:-1], self.name("prompt"), self.roles)
        return [*self._history(), make_message("user", text, self.name("prompt"))]

    def _history(self) -> list[Message]:
        """Earlier turns, as LLaMA-Factory's list of [question, answer] or any conversation."""
        value = self.get("history")
        if is_blank(value) or value in ([], "[]"):
            return []
        # a list of texts does not say who begins
        unclear = isinstance(value, list) and any(
            not isinstance(turn, dict) and not (isinstance(turn, list) and len(turn) == 2) for turn in value
        )
        turns = [] if unclear else self.messages("history")
        if not turns or turns[-1]["role"] != "assistant":
            raise BadRow(f"column {self.name('history')!r} holds no list of [question, answer]")
        return turns

    def system(self, messages: list[Message]) -> list[Message]:
        """The system message that the source or the row brings, unless the conversation has one."""
        if is_blank(self.get("system")) or messages[0]["role"] == "system":
            return []
        column = self.name("system")
        text = checked_text(read_content(self["system"], column), column)
        return [make_message("system", text.removeprefix("SYSTEM: "), column)]  # Glaive's begins so

    def common(self) -> Row:
        """What rows of all purposes have: the kind, and the definitions of tools where there are some."""
        tools = read_tools(self.get("tools"), self.name("tools"))
        return {"kind": str(self["kind"])} | ({"tools": tools} if tools else {})

    def refuse_template(self) -> None:
        """Whole conversations bring their prompts: a template would be passed over without a word."""
        if "filled" in self:
            raise BadRow("a template writes the prompt of an answer, and here are whole conversations")


# Of any row, whatever its layout.
OPTIONAL = {"context": "", "kind": "", "system": "system", "tools": "tools", "history": "history"}
# What data sets also call these columns: without them the row would be read, and be another one.
OTHER_NAMES = {
    "tools": ("functions", "input.tools"),
    "system": ("system_prompt", "system_message", "systeminstruction", "system_instruction"),
    "thinking": ("reasoning", "reasoning_content"),
    "candidates": ("options",),
    "context": ("passage", "article", "paragraph", "passages", "paragraphs", "contexts", "story"),
    "chosen": ("preferred", "accepted"),
    "rejected": ("dispreferred", "non_preferred"),
    "label": ("kto_tag",),
    "score_chosen": ("chosen_score", "chosen_rating", "chosen-rating", "rating_chosen"),
    "score_rejected": ("rejected_score", "rejected_rating", "rejected-rating", "rating_rejected"),
}


@dataclass(frozen=True)
class Schema(Generic[Parsed]):
    """What rows of a purpose look like.

    Args:
        layouts: role -> usual column, in the order in which they are tried.
        parse: makes one row of the values by role.
        optional: roles that a row may lack, unless the source names their column -> usual column, "" where only a
            layout or the source names one.
        nullable: roles whose value may be null, which `parse` then says something of.
        elsewhere: columns of rows that another stage reads -> which.
    """

    layouts: tuple[dict[str, str], ...]
    parse: Callable[[Values], Parsed]
    optional: Mapping[str, str] = field(default_factory=lambda: OPTIONAL)
    nullable: tuple[str, ...] = ()
    elsewhere: dict[str, str] = field(default_factory=dict)

    @property
    def roles(self) -> list[str]:
        """All roles that a source may name in `columns`."""
        return sorted({*self.optional, *(role for layout in self.layouts for role in layout)})

    @cached_property
    def paths(self) -> list[str]:
        """All columns inside other ones."""
        usual = {column for layout in self.layouts for column in layout.values()}
        other = {column for columns in OTHER_NAMES.values() for column in columns}
        return sorted(column for column in usual | other if "." in column)


def all_rows(
    sources: list[Source],
    from_primer: Callable[[], list[Row]],
    schema: Schema[list[Row]],
    bad_rows: BadRows,
    seed: int,
) -> list[Row]:
    """The rows of all sources by their weights, each with its `source` and `place`."""
    rows: list[Row] = []
    for source in sources:
        if not source.weight:
            continue
        if source.path == PRIMER:
            placed = [(f"{PRIMER}:{number}", row) for number, row in enumerate(from_primer(), start=1)]
        else:
            placed = [(place, row) for place, found in file_rows(source, schema, bad_rows) for row in found]
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
                message = f"source {source.name!r}: unknown role {role!r} in {setting}{did_you_mean(role, schema.roles)}"
                raise UserError("unknown_role", f"{message} (known: {', '.join(schema.roles)})", role=role)
    if source.template is not None and not written_by["template"]:
        message = (
            f"source {source.name!r}: the template names no role in braces: all prompts would be the same"
        )
        raise UserError("placeholder_missing", message, setting="template")
    # those that have every role that the source names a column for
    named = source.columns.keys() - schema.optional.keys()
    layouts = [layout for layout in schema.layouts if named <= layout.keys()]
    if not layouts:
        message = f"source {source.name!r}: the roles {' and '.join(sorted(named))} do not belong together"
        raise UserError("roles_mixed", message, roles=sorted(named))

    def by_role(row: dict[str, Any]) -> Parsed:
        values = _values(row, layouts, source, schema)
        values.setdefault("kind", source.name)
        if source.system:
            values["system"] = source.system
        if source.template:
            values["filled"] = checked_text(_filled(source.template, values), "template")
        return schema.parse(values)

    def by_role_or_tree(row: dict[str, Any]) -> Parsed | dict[str, Any]:
        return row if "tree" in schema.roles and row.keys() >= TREE_COLUMNS else by_role(row)

    found = list(read_rows(source, bad_rows, by_role_or_tree))
    messages = [(place, row) for place, row in found if isinstance(row, dict)]
    rows: list[tuple[str, Any]] = [(place, row) for place, row in found if not isinstance(row, dict)]
    if messages:
        trees, orphans = grow_trees(messages)
        counted = bad_rows.open(source.name, f"{source.path} as trees", source.max_bad_rows)
        for place in orphans:
            counted.note("messages whose parents are not among the rows: left out with their replies", place)
        parsed = parse_counted(counted, enumerate((tree for _, tree in trees), start=1), by_role)
        rows += [(trees[number - 1][0], row) for number, row in parsed if row is not None]
    if not rows:
        reasons = "".join(f"; {line}" for line in bad_rows.report(source.name))
        message = f"source {source.name!r}: no rows to use in {source.path}{reasons}"
        raise UserError("source_empty", message, source=source.name)
    return rows


def _values(
    row: dict[str, Any], layouts: list[dict[str, str]], source: Source, schema: Schema[Any]
) -> Values:
    """Role -> value by the first layout whose columns the row has; `columns` of the source come before the layout's."""
    with_null: Values | None = None
    columns = shown_columns(row)
    row = with_inner_values(row, [*source.columns.values(), *schema.paths])
    written = {str(column).strip().lower(): column for column in row}
    for layout in layouts:
        every = {**schema.optional, **layout, **source.columns}
        names = {role: _found(role, name, row, written, source) for role, name in every.items() if name}
        # an optional role that the layout names by its usual column is one that these rows always have
        required = [
            role
            for role in names
            if role not in schema.optional
            or role in source.columns
            or layout.get(role) == schema.optional[role]
        ]
        # NaN, which is not equal to itself, is how pandas writes null
        values = {
            role: row[name]
            for role, name in names.items()
            if row.get(name) is not None and row[name] == row[name]
        }
        null = [role for role in required if role not in values]
        if not null:
            return Values(values, names, source.roles)
        if with_null is None and all(names[role] in row for role in required):
            with_null = Values({**values, **dict.fromkeys(null)}, names, source.roles)
    if with_null is not None:
        for role, value in with_null.items():
            if value is None and role not in schema.nullable:
                raise BadRow(f"column {with_null.name(role)!r} is null")
        return with_null
    for name in source.columns.values():
        if row.get(name) is None:
            raise BadRow(f"no column {name!r} {columns}")
    for name, stage in schema.elsewhere.items():
        if name in row:
            raise BadRow(f"a row with {name!r}: {stage} {columns}")
    # those that are nearest: there are too many for a line
    nearest = sorted(layouts, key=lambda each: -len(written.keys() & set(each.values())) / len(each))[:4]
    wanted = " or ".join("+".join(filter(None, layout.values())) for layout in nearest)
    likely = next((layout for layout in nearest if len(layout) > 1), layouts[0])
    example = ", ".join(f"{role}: NAME" for role in likely if role not in schema.optional)
    whole = ", or {messages: NAME} for one with whole conversations" * ("messages" in schema.roles)
    raise BadRow(f"no columns {wanted} {columns}; name them in the source's columns: {{{example}}}{whole}")


def _found(role: str, name: str, row: dict[str, Any], written: dict[str, str], source: Source) -> str:
    """How a row calls a column: by the name itself, in other letters, between blanks, or by another name of the role."""
    if name in row or role in source.columns:
        return name
    others = (other for other in (name.lower(), *OTHER_NAMES.get(role, ())) if other in written)
    return next((written[other] for other in others), name)


def _filled(template: str, values: Values) -> str:
    """The template with each role in braces replaced by its text; a role that the row lacks leaves nothing."""
    text = PLACEHOLDER.sub(
        lambda match: values.text(match[1]) if values.get(match[1]) else "", template.strip()
    )
    complete = all(values.get(role) for role in PLACEHOLDER.findall(template))
    return text if complete else text.strip()
