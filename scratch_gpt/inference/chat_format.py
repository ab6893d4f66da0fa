# SPDX-License-Identifier: Apache-2.0
"""Conversations as token ids with labels, and checks that the tokenizer and its chat template are fit for that.

A wrong template or padding token does not stop a run: the loss falls, and the model never ends an answer, or learns
nothing. So it is looked for before the first step, and the row is named.
"""

import json
import re
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from scratch_gpt.data.collators.packed import IGNORED
from scratch_gpt.data.rows.messages import Message
from scratch_gpt.data.rows.splits import Row
from scratch_gpt.errors import UserError
from scratch_gpt.tokenization import IM_END


# Two turns: the end of the first is what some templates give to the message that follows.
PROBE = [
    {"role": "user", "content": "Who is it?"},
    {"role": "assistant", "content": "It is me."},
    {"role": "user", "content": "Who?"},
    {"role": "assistant", "content": "Me."},
]
MARKER = re.compile(r"<\|[^<>|]+\|>")


def check_chat_format(tokenizer: PreTrainedTokenizerFast, folder: str) -> None:
    """Check that conversations can be written, read back, learned and ended.

    Raises:
        UserError: no end-of-turn token, or one that is the padding too; no chat template, or one that fails, that
            does not mark the assistant's part, that leaves the end of a turn out of it, or whose text the tokenizer
            cannot carry.
    """
    if IM_END not in tokenizer.get_vocab():
        message = f"tokenizer {folder} lacks the token {IM_END}: use one made by the tokenizer stage"
        raise UserError("token_missing", message, token=IM_END)
    end = tokenizer.convert_tokens_to_ids(IM_END)
    if tokenizer.pad_token_id == end:
        message = (
            f"tokenizer {folder} pads with {IM_END}, which ends a turn: padding and the ends of answers could not be "
            "told apart; give it a pad_token of its own"
        )
        raise UserError("padding_ends_turns", message, folder=folder)
    if not tokenizer.chat_template:
        message = f"tokenizer {folder} has no chat template: use one made by the tokenizer stage"
        raise UserError("chat_template_missing", message, folder=folder)
    if "generation %}" not in tokenizer.chat_template:
        message = (
            f"the chat template in {folder} does not mark the assistant's part ({{% generation %}}): without it "
            "nothing tells which tokens to learn"
        )
        raise UserError("chat_template_unmarked", message, folder=folder)
    try:
        text = tokenizer.apply_chat_template(PROBE, tokenize=False)
        encoded = tokenizer.apply_chat_template(PROBE, return_dict=True, return_assistant_tokens_mask=True)
    except TemplateError as error:
        message = f"the chat template in {folder} fails: {error}"
        raise UserError("chat_template_fails", message, folder=folder) from None
    for marker in MARKER.findall(text):
        if marker not in tokenizer.get_vocab():
            message = (
                f"the chat template in {folder} writes {marker}, which is no token of its tokenizer: a text could "
                "spell it; add it to the tokenizer's special tokens, or use the template of the tokenizer stage"
            )
            raise UserError("chat_template_foreign", message, folder=folder, token=marker)
    carried = tokenizer.decode(encoded["input_ids"])
    if carried != text:
        message = f"the tokenizer in {folder} cannot carry its chat template: {text!r:.80} comes back as {carried!r:.80}"
        raise UserError("text_not_preserved", message, folder=folder)
    learned = zip(encoded["input_ids"], encoded["assistant_masks"], strict=True)
    if sum(token == end and bool(mask) for token, mask in learned) != len(PROBE) // 2:
        message = (
            f"the chat template in {folder} leaves {IM_END} out of the assistant's part: answers would never end; move "
            "it before {% endgeneration %}"
        )
        raise UserError("end_of_turn_not_learned", message, folder=folder)


def encode_conversation(tokenizer: PreTrainedTokenizerFast, row: Row, assistant_only: bool = True) -> Row:
    """The row with `input_ids`, `labels` (IGNORED where nothing is learned) and `length`, its tokens.

    Raises:
        UserError: the chat template refuses the row, or no token of it is learned; the row's place is named.
    """
    encoded = _encode(tokenizer, row["messages"], row)
    input_ids = encoded["input_ids"]
    learned = encoded["assistant_masks"] if assistant_only else [1] * len(input_ids)
    labels = [token if mask else IGNORED for token, mask in zip(input_ids, learned, strict=True)]
    # the first token is predicted from nothing
    if all(label == IGNORED for label in labels[1:]):
        message = f"{row['place']}: no token of this row is learned: the chat template marks nothing of it as the assistant's"
        raise UserError("nothing_learned", message, place=row["place"])
    return {**row, "input_ids": input_ids, "labels": labels, "length": len(input_ids)}


def measure_answers(tokenizer: PreTrainedTokenizerFast, row: Row) -> Row:
    """The judged answers with `length`, the tokens of the longest one's conversation; errors as for `encode_conversation`."""
    answers = [row[side] for side in ("chosen", "rejected", "completion") if side in row]
    sides = [_encode(tokenizer, row["prompt"] + answer, row) for answer in answers]
    return {**row, "length": max(len(side["input_ids"]) for side in sides)}


def tools_of(row: Row) -> list[dict[str, Any]] | None:
    """The definitions of tools of a row, as chat templates take them."""
    return json.loads(row["tools"]) if row.get("tools") else None


def _encode(tokenizer: PreTrainedTokenizerFast, messages: list[Message], row: Row) -> dict[str, list[int]]:
    tools = tools_of(row)
    calls = [call["function"] for message in messages for call in message.get("tool_calls") or []]
    conversation = [_with_objects(message) for message in messages]
    try:
        encoded: dict[str, list[int]] = tokenizer.apply_chat_template(
            conversation,
            tools=tools,
            return_dict=True,
            return_assistant_tokens_mask=True,
            tokenizer_kwargs={"verbose": False},  # `drop_long_rows` tells of long rows, each by its place
        )
    except TemplateError as error:
        message = f"{row['place']}: the chat template refuses this conversation: {error}"
        raise UserError("row_refused", message, place=row["place"]) from None
    names = {function["name"] for function in [*calls, *(tool["function"] for tool in tools or [])]}
    if names:
        text = tokenizer.decode(encoded["input_ids"])
        if lost := sorted(name for name in names if name not in text):
            message = (
                f"{row['place']}: the chat template does not write the tool {lost[0]!r}: use a model whose template renders "
                "tools, or leave out such rows"
            )
            raise UserError("row_refused", message, place=row["place"])
    return encoded


def _with_objects(message: Message) -> Message:
    """A call's arguments as an object: templates other than Qwen's would write a string as a string of JSON."""
    if not message.get("tool_calls"):
        return message
    functions = [call["function"] for call in message["tool_calls"]]
    calls = [
        {"type": "function", "function": {**function, "arguments": json.loads(function["arguments"])}}
        for function in functions
    ]
    return {**message, "tool_calls": calls}


def context_length(model: PreTrainedModel, max_length: int | None) -> int:
    """The tokens that a row may have.

    Raises:
        UserError: more are asked for than the model has positions.
    """
    positions: int = model.config.max_position_embeddings
    if max_length is not None and max_length > positions:
        message = f"max_length {max_length} is longer than the model's context of {positions} tokens"
        raise UserError("too_long", message, length=max_length, limit=positions)
    return max_length or positions
