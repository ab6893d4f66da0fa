# SPDX-License-Identifier: Apache-2.0
"""What a stage is about to learn: a few of its training rows as the model sees them, with the learned tokens marked."""

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from os.path import commonprefix
from typing import Any

from transformers import PreTrainedTokenizerFast

from scratch_gpt.data.collators.packed import IGNORED
from scratch_gpt.data.rows.messages import Message
from scratch_gpt.data.rows.splits import Row
from scratch_gpt.inference.chat_format import tools_of, with_objects
from scratch_gpt.runs.log import console


# Marks that a terminal without color or Unicode shows too.
OPEN, CLOSE = "[[", "]]"
# Characters of one part of a row: its beginning and its end.
HEAD, TAIL = 120, 60
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def show_rows(tokenizer: PreTrainedTokenizerFast, rows: Sequence[Row]) -> None:
    """Print the first, the middle and the last row.

    Args:
        tokenizer: with the chat template to learn by.
        rows: with labels, or judged answers.
    """
    shown = sorted({0, len(rows) // 2, len(rows) - 1})
    console.print(
        f"{len(shown)} of {len(rows):,} training rows, what is learned between {OPEN} and {CLOSE}:",
        markup=False,
    )
    for index in shown:
        for line in rendered(tokenizer, rows[index]):
            console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)


def rendered(tokenizer: PreTrainedTokenizerFast, row: Row) -> Iterator[str]:
    """One line for a row, or one for each judged answer in it."""
    if "labels" in row:
        parts = groupby(zip(row["input_ids"], row["labels"], strict=True), lambda pair: pair[1] != IGNORED)
        texts = [(tokenizer.decode([token for token, _ in pairs]), learned) for learned, pairs in parts]
        yield f"{row['place']}: {''.join(_part(*text) for text in texts)}"
        return
    for side in ("chosen", "rejected", "completion"):
        if side in row:
            title = side if side != "completion" else "liked" if row["label"] else "disliked"
            prompt = _text(tokenizer, row, row["prompt"], add_generation_prompt=True)
            whole = _text(tokenizer, row, row["prompt"] + row[side])
            # some prompts open a thought that an answer without one has not
            asked = commonprefix([prompt, whole])  # noqa: RUF071  # of texts, as is meant here
            yield f"{row['place']} {title}: {_part(asked, False)}{_part(whole.removeprefix(asked), True)}"


def _text(tokenizer: PreTrainedTokenizerFast, row: Row, messages: Sequence[Message], **options: Any) -> str:
    conversation = [with_objects(message) for message in messages]
    return str(tokenizer.apply_chat_template(conversation, tools=tools_of(row), tokenize=False, **options))


def _part(text: str, learned: bool) -> str:
    # also what would steer a terminal
    text = CONTROLS.sub(lambda control: repr(control[0])[1:-1], text)
    if len(text) > HEAD + TAIL:
        text = f"{text[:HEAD]} ... {text[-TAIL:]}"
    return f"{OPEN}{text}{CLOSE}" if learned else text
