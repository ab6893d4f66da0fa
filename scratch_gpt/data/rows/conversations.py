# SPDX-License-Identifier: Apache-2.0
"""Conversations to learn from: the layouts of instruction, chat, question and translation sets become one.

Texts stay as they are: what an answer begins with may be the indentation of its code.
"""

import ast
import hashlib
import json
import re
import warnings
from typing import Any

from scratch_gpt import primer
from scratch_gpt.data.rows.messages import Message, answer_text, is_blank, make_message, read_messages
from scratch_gpt.data.rows.preferences import DISLIKED
from scratch_gpt.data.rows.schema import OPTIONAL, Row, Schema, Values, all_rows
from scratch_gpt.data.rows.trees import shown_branch
from scratch_gpt.data.sources.bad_rows import BadRow, BadRows, UnusedRow
from scratch_gpt.data.sources.source import Source
from scratch_gpt.tasks.example import Example


# Of an object of answers: SQuAD's, TriviaQA's, DROP's.
ANSWER_KEYS = ("text", "value", "aliases", "spans", "number")
# A list of texts as numpy prints it.
NUMPY_TEXT = re.compile(r"\A\s*\[\s*(['\"])[^'\"]*\1\s+['\"]|:\s*array\(\[")
# An answer that is the name of a candidate, not its text.
CANDIDATE = re.compile(r"\s*(?:\d|\(?[A-Ja-j]\)?)\s*")
# Of an object whose list is the answers of a dialogue: CoQA's, QuAC's.
DIALOGUE_KEYS = ("input_text", "texts")
# What a column called "reasoning" says of a row where it holds no thinking: Nemotron's.
SWITCHES = ("on", "off")
# The reference of a question that has no answer, scored as SQuAD 2 does: right is who says nothing.
NO_ANSWER = ("",)


def instruction_rows(sources: list[Source], split: str, bad_rows: BadRows, seed: int) -> list[Row]:
    """Conversations that end with the assistant's answer.

    Args:
        sources: read in full; a weight of 2 uses each row of its source twice, of 0.5 a random half of them.
        split: split of the primer. Rows of files know no split: divide them with `split_rows`.
        bad_rows: counts the rows left out.
        seed: of the primer, and of the choice where a weight is not whole.

    Returns:
        Rows {"messages": see messages.py, "source": name, "kind": group for reports, "place": "file:row"}, and "tools"
        (JSON) where the row defines some.

    Raises:
        UserError: a source that cannot be read or holds no rows, too many bad rows, an unknown role in `columns` or
            `template`.
    """

    def from_primer() -> list[Row]:
        return [
            {"messages": row["messages"], "kind": row["kind"]} for row in primer.instructions(split, seed)
        ]

    return all_rows(sources, from_primer, INSTRUCTIONS, bad_rows, seed)


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


def _instruction(values: Values) -> list[Row]:
    if str(values.get("label")).strip().lower() in DISLIKED:
        column = values.name("label")
        raise UnusedRow(f"column {column!r} says that the answer was disliked: the kto stage learns from it")
    if "messages" in values:
        values.refuse_template()
        if "leaf" in values and isinstance(values["messages"], dict):
            values["messages"] = shown_branch(values["messages"], values["leaf"])
        messages = values.messages("messages")
        answers = [message for message in messages if message["role"] == "assistant"]
        # in ShareGPT many end with a question that nobody answered: nothing is learned from it, nor from a weight of 0
        while messages and (messages[-1]["role"] in ("user", "tool") or "weight" in messages[-1]):
            messages.pop()
        if answers and all("weight" in message for message in answers):
            raise UnusedRow(f"column {values.name('messages')!r}: all answers have a weight of 0")
        if "tree" in values and not messages:
            raise UnusedRow(f"column {values.name('messages')!r}: a question that nobody answered")
        if answers and messages and messages[-1] is not answers[-1]:
            values.pop("thinking", None)  # it came before an answer that is not learned
    elif "questions" in values:
        messages = _dialogue(values)
    elif "response" in values:
        messages = values.prompt() + values.answer("response")
    elif "calls" in values:
        called = {"role": "assistant", "tool_calls": values["calls"]}
        messages = values.prompt() + read_messages([called], values.name("calls"))
    else:
        candidates = [values.name(role) for role in ("candidates", "first_candidate") if role in values]
        if candidates and CANDIDATE.fullmatch(str(values.get("answers"))):
            raise BadRow(
                f"a question of multiple choice (column {candidates[0]!r}), which the qa benchmark reads: to learn from it, "
                "write the candidates into the question, and the text of the right one as the answer"
            )
        example = _question(values) if "question" in values else _translation(values)
        if example.references == NO_ANSWER:
            raise UnusedRow(f"column {values.name('answers')!r} is empty: the question has no answer")
        messages = [
            make_message("user", example.prompt, values.name("question")),
            make_message("assistant", example.references[0], values.name("answers")),
        ]
    if (
        not messages
        or messages[-1]["role"] != "assistant"
        or not any(message["role"] == "user" for message in messages)
    ):
        raise BadRow("a conversation needs a message of the user and must end with one of the assistant")
    thinking = values.get("thinking")
    thought = isinstance(thinking, str) and thinking.strip().lower() not in ("", *SWITCHES)
    if thought and "reasoning_content" not in messages[-1]:
        messages[-1]["reasoning_content"] = values.text("thinking")
    return [{"messages": values.system(messages) + messages, **values.common()}]


def _dialogue(values: Values) -> list[Message]:
    """The questions about one text in turn, each with its first answer; the text comes before the first of them."""
    asked, answers = (_turns_of(values[role], values.name(role)) for role in ("questions", "answers"))
    if len(asked) != len(answers):
        raise BadRow(
            f"column {values.name('questions')!r} holds {len(asked)} questions, for {len(answers)} answers"
        )
    turns = zip(asked, answers, strict=True)
    messages = read_messages([list(turn) for turn in turns], values.name("questions"))
    opening = Values({**values, "question": messages[0]["content"]}, values.names, values.roles)
    messages[0]["content"] = opening.with_context("question", before=True)
    return messages


def _turns_of(value: Any, column: str) -> list[Any]:
    """One text for each turn, of a list of texts or of objects, or of an object of such a list."""
    if isinstance(value, dict):
        value = next((value[key] for key in DIALOGUE_KEYS if key in value), None)
    if not isinstance(value, list) or not value:
        raise BadRow(f"column {column!r} holds no list of the turns of a dialogue")
    firsts = (each[0] if isinstance(each, list) and each else each for each in value)
    return [each.get("input_text") if isinstance(each, dict) else each for each in firsts]


def _question(values: Values) -> Example:
    prompt = values["filled"] if "filled" in values else values.with_context("question", before=True)
    column = values.name("answers")
    listed = _answers(values["answers"], column)
    references = dict.fromkeys(answer_text(answer, column) for answer in listed if not is_blank(answer))
    said = {role: str(values.get(role)).strip().lower() for role in ("impossible", "answerable")}
    if said["impossible"] in ("true", "1") or said["answerable"] in ("false", "0"):
        references = {}  # what is there is only plausible
    return Example(prompt, tuple(references) or NO_ANSWER, kind=str(values["kind"]), key=prompt)


def _answers(value: Any, column: str) -> list[Any]:
    """The acceptable answers in a value: one, a list, an object of SQuAD, TriviaQA or DROP, JSON or Python's text of these.

    "[1, 2, 3]" is one answer: a list of answers holds texts or objects.
    """
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
        value = _decoded(value, column)
    if isinstance(value, list):
        return [answer for each in value for answer in _answers(each, column)]
    if not isinstance(value, dict):
        return [value]
    keys = [key for key in ANSWER_KEYS if key in value]
    if not keys:
        raise BadRow(f"column {column!r} holds no text (keys: {', '.join(value)})")
    date = value.get("date")
    dates = [" ".join(str(date[part]) for part in ("day", "month", "year") if date.get(part))] if date else []
    return [answer for key in keys for answer in _answers(value[key], column)] + dates


def _decoded(text: str, column: str) -> Any:
    """What a text says that is JSON or Python's text of answers, as a table saves them; of any other, the text."""
    if NUMPY_TEXT.search(text):
        raise BadRow(f"column {column!r} holds numpy's text of a list: save the table as .jsonl or .parquet")
    for decode in (json.loads, ast.literal_eval):
        try:
            # Python warns of backslashes in its text
            with warnings.catch_warnings(action="ignore", category=SyntaxWarning):
                value = decode(text.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        # each has a list; any other object is an answer in JSON
        if isinstance(value, dict) and not any(isinstance(value.get(key), list) for key in ANSWER_KEYS):
            return text
        if isinstance(value, list) and not all(isinstance(each, str | dict) for each in value):
            return text
        return value
    return text  # one that begins so


def _translation(values: Values) -> Example:
    text = values.text("source")
    references = (values.text("target"),)
    return Example(values.get("filled", text), references, kind=str(values["kind"]), key=text)


QUESTION_LAYOUTS = (
    {"question": "question", "context": "context", "answers": "answers"},
    {"question": "question", "context": "context", "answers": "answer"},
    {"question": "question", "context": "passage", "answers": "answers_spans"},  # DROP
    {"question": "query", "context": "context", "answers": "answers"},  # MS MARCO
)
TRANSLATION_LAYOUTS = ({"source": "source", "target": "target"},)

# Of SQuAD 2 and MuSiQue.
QUESTION_OPTIONAL = OPTIONAL | {"impossible": "is_impossible", "answerable": "answerable"}

QUESTIONS = Schema(QUESTION_LAYOUTS, _question, QUESTION_OPTIONAL, nullable=("answers",))
TRANSLATIONS = Schema(TRANSLATION_LAYOUTS, _translation)
INSTRUCTIONS = Schema(
    (
        {"messages": "messages"},
        {"prompt": "prompt", "response": "completion"},
        {"prompt": "prompt", "response": "response"},
        {"prompt": "instruction", "context": "input", "response": "output"},
        {"prompt": "instruction", "context": "context", "response": "response"},
        {"messages": "conversations"},
        {"messages": "conversation"},
        {"prompt": "query", "response": "response"},
        {"prompt": "input", "response": "output"},
        {"prompt": "question", "context": "context", "response": "response"},  # OpenOrca
        {"prompt": "problem", "response": "solution"},  # NuminaMath
        {"prompt": "problem", "response": "generated_solution"},  # OpenMathInstruct
        {"prompt": "inputs", "response": "targets"},  # FLAN, Aya
        {"prompt": "user", "response": "assistant"},
        {"prompt": "prompt", "response": "output"},
        {"prompt": "prompt", "response": "answer"},
        {"prompt": "query", "calls": "answers", "tools": "tools"},  # xLAM
        {"questions": "questions", "context": "context", "answers": "answers"},  # CoQA, QuAC
        *QUESTION_LAYOUTS,
        *TRANSLATION_LAYOUTS,
        {"messages": "data"},  # UltraChat
        {"messages": "contents"},  # Gemini
        {"messages": "chat_messages"},  # Claude's export
        {"messages": "mapping", "leaf": "current_node"},  # ChatGPT's export
        {"messages": "dialog"},
        {"messages": "chat"},  # Glaive
        {"messages": "sample"},
        {"messages": "prompt", "tree": "message_tree_id"},  # OpenAssistant's trees
        {"messages": "text"},  # a transcript
    ),
    _instruction,
    QUESTION_OPTIONAL
    | {"thinking": "thinking", "label": "label", "candidates": "choices", "first_candidate": "A"},
    nullable=("answers",),
    elsewhere={
        "chosen": "pairs are for the reward, dpo and kto stages; columns: {messages: chosen} learns the better "
        "conversations, columns: {response: chosen} the better answers",
    },
)
