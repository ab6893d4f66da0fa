# SPDX-License-Identifier: Apache-2.0
"""Rows of benchmarks as examples: questions, multiple choice, minimal pairs, cloze texts, summaries, translation pairs.

The layouts are those of public data sets; a row's columns show which it has, unless the source says it in `columns`
(role -> column name).
"""

import re
from collections.abc import Callable
from typing import Any

from scratch_gpt.data.rows.conversations import NO_ANSWER, QUESTIONS, TRANSLATIONS
from scratch_gpt.data.rows.schema import Schema, Values, file_rows
from scratch_gpt.data.sources.bad_rows import BadRow, BadRows
from scratch_gpt.data.sources.columns import checked_text
from scratch_gpt.data.sources.source import Source
from scratch_gpt.errors import UserError
from scratch_gpt.tasks.example import Example


# Role -> usual column, in the order in which they are tried: the layouts that need most come first.
LAYOUTS = (
    *TRANSLATIONS.layouts,
    {"activity": "activity_label", "start": "ctx_a", "rest": "ctx_b", "endings": "endings", "label": "label"},
    {"question": "question", "a": "A", "b": "B", "c": "C", "d": "D", "label": "answer"},  # C-Eval, CMMLU
    {"question": "question", "choices": "choices", "label": "answerKey"},  # ARC, CommonsenseQA
    {"question": "question_stem", "choices": "choices", "label": "answerKey"},  # OpenBookQA
    {"question": "question", "choices": "choices", "label": "answer"},  # MMLU
    {"question": "question", "context": "article", "choices": "options", "label": "answer"},  # RACE
    {"question": "goal", "first": "sol1", "second": "sol2", "label": "label"},  # PIQA
    {"good": "sentence_good", "bad": "sentence_bad", "kind": "UID"},  # BLiMP
    {"document": "document", "summary": "summary"},  # XSum
    {"document": "article", "summary": "highlights"},  # CNN/DailyMail
    {"document": "dialogue", "summary": "summary"},  # SAMSum
    {"document": "text", "summary": "summary"},
    *QUESTIONS.layouts,  # SQuAD
    {"text": "text"},  # LAMBADA
)


def example_rows(source: Source, bad_rows: BadRows) -> tuple[str, list[Example]]:
    """The form of a source's rows and the rows, from files or a Hub dataset.

    Forms: `translation` (the prompt is the bare source text), `ending` (HellaSwag), `choice`, `pair` (one acceptable
    sentence and one that is not; no prompt), `summary` (the prompt is the bare document), `question` (a context comes
    before it, with a blank line between; answers may be texts, numbers or truth values, a list of them, SQuAD's {"text":
    [...]}, or empty: the question has no answer), `cloze` (the prompt is the text without its last word, which is the
    reference). The source's `template` writes the prompt of a question or translation otherwise: the same one that
    `instruction_rows` gives.

    Raises:
        UserError: a source that cannot be read or holds no rows, too many bad rows (of another form than the first
            row, without a right answer ...), an unknown role in `columns`, questions without any answer.
    """
    found: list[str] = []

    def parse(values: Values) -> Example:
        form = next(form for form, (role, _) in FORMS.items() if role in values)
        if found and form != found[0]:
            raise BadRow(f"a row of the form {form} among rows of the form {found[0]}")
        example = FORMS[form][1](values)
        found[:] = [form]
        return example

    rows = [
        example
        for _, example in file_rows(source, Schema(LAYOUTS, parse, nullable=QUESTIONS.nullable), bad_rows)
    ]
    if all(example.references == NO_ANSWER for example in rows):
        message = (
            f"source {source.name!r}: no question of {source.path} has an answer: take a split with answers"
        )
        raise UserError("no_answers", message, source=source.name)
    return found[0], rows


def _ending(values: Values) -> Example:
    # the beginning of the second sentence, to be continued; it may be empty
    context = f"{values.text('activity')}: {values.text('start')} {str(values['rest']).capitalize()}"
    endings = [wikihow(ending) for ending in _texts(values["endings"], values.name("endings"))]
    return _choice_example(wikihow(context), endings, answer_index(values["label"], len(endings)), values)


def wikihow(text: str) -> str:
    """Without the marks that the WikiHow part of HellaSwag has in its texts, as its authors' code removes them."""
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def _choice(values: Values) -> Example:
    labels, roles = None, ("a", "b", "c", "d") if "a" in values else ("first", "second")
    choices: Any = values["choices"] if "choices" in values else [values[role] for role in roles]
    if isinstance(choices, dict) and "text" in choices:
        choices, labels = choices["text"], choices.get("label")
    elif isinstance(choices, dict):  # {"A": text}
        choices, labels = list(choices.values()), list(choices)
    elif isinstance(choices, list) and all(isinstance(choice, dict) for choice in choices):
        choices, labels = ([choice.get(key) for choice in choices] for key in ("text", "label"))
    texts, label = _texts(choices, values.name("choices")), values["label"]
    # by its mark, its text, its place
    named = next((names for names in (labels or [], texts) if label in names), None)
    index = named.index(label) if named else answer_index(label, len(texts))
    return _choice_example(values.with_context("question", before=True), texts, index, values)


def _texts(values: Any, column: str) -> list[str]:
    if not isinstance(values, list) or len(values) < 2:
        raise BadRow(f"column {column!r} holds no list of at least two texts")
    return [checked_text(value, column) for value in values]


def answer_index(label: Any, count: int) -> int:
    """Place of the right candidate: a number from 0, also as text, or a letter from A.

    Raises:
        BadRow: there is no candidate at that place.
    """
    text = str(int(label) if isinstance(label, bool) else label).strip().upper()
    index = int(text) if text.isdecimal() else ord(text) - ord("A") if len(text) == 1 else -1
    if index == count and text.isdecimal():
        raise BadRow(
            f"no right answer: the label is {label!r}, of {count} candidates counted from 0: if it counts from 1, subtract 1"
        )
    if not 0 <= index < count:
        raise BadRow(f"no right answer: the label is {label!r}, of {count} candidates")
    return index


def _choice_example(prompt: str, choices: list[str], label: int, values: Values) -> Example:
    kind, key = str(values["kind"]), prompt or choices[label]
    return Example(prompt, (choices[label],), kind, key, tuple(choices), label)


def _pair(values: Values) -> Example:
    good, bad = values.text("good"), values.text("bad")
    if good == bad:
        raise BadRow("the two sentences are equal")
    # In the order of the alphabet, so that a model which finds both equally likely is right half the time.
    choices = sorted((good, bad))
    return _choice_example("", choices, choices.index(good), values)


def _summary(values: Values) -> Example:
    text = values.text("document")
    return Example(prompt=text, references=(values.text("summary"),), kind=str(values["kind"]), key=text)


def _cloze(values: Values) -> Example:
    text = values.text("text").strip()  # a blank at the end would be the last word
    beginning, blank, word = text.rpartition(" ")
    if not blank:
        raise BadRow("a text of one word has no last word to predict")
    return Example(prompt=beginning, references=(word,), kind=str(values["kind"]), key=text)


# Form -> the role that only its rows have, and what makes an example of one.
FORMS: dict[str, tuple[str, Callable[[Values], Example]]] = {
    "translation": ("source", TRANSLATIONS.parse),
    "ending": ("endings", _ending),
    "choice": ("label", _choice),
    "pair": ("good", _pair),
    "summary": ("document", _summary),
    "question": ("question", QUESTIONS.parse),
    "cloze": ("text", _cloze),
}
