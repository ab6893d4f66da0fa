# SPDX-License-Identifier: Apache-2.0
"""Conversations as token ids with labels, and checks that the tokenizer and its chat template are fit for that.

A wrong template or padding token does not stop a run: the loss falls, and the model never ends an answer, or learns
nothing. So it is looked for before the first step, and the row is named.
"""

import json
import logging
from functools import cache
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from scratch_gpt.data.collators.packed import IGNORED
from scratch_gpt.data.rows.messages import Message
from scratch_gpt.data.rows.splits import Row
from scratch_gpt.errors import UserError
from scratch_gpt.inference.turns import PROBE, continues, encode_turns, end_of_turn
from scratch_gpt.plain_messages import text_marks
from scratch_gpt.tokenization import BREAK


logger = logging.getLogger(__name__)

# Tokens of the longest row, where nothing else is asked for: contexts of published models are longer than most memories.
LONGEST = 2048


def check_chat_format(tokenizer: PreTrainedTokenizerFast, folder: str) -> None:
    """Check that conversations can be written, read back, learned and ended.

    Args:
        tokenizer: with the chat template to learn by, see `training_tokenizer`.

    Raises:
        UserError: no chat template, or one that fails, that ends no turn, whose answers cannot be found, that leaves the
            end of a turn out of them, or whose text the tokenizer cannot carry; an end of turn that is the padding too.
    """
    if not tokenizer.chat_template:
        message = f"{folder} has no chat template: tune it first, which adds one (scratch-gpt sft --model_name_or_path {folder})"
        raise UserError("chat_template_missing", message, folder=folder)
    try:
        text = tokenizer.apply_chat_template(PROBE, tokenize=False)
        encoded = encode_turns(tokenizer, PROBE)
    except TemplateError as error:
        message = f"the chat template in {folder} fails: {error}"
        raise UserError("chat_template_fails", message, folder=folder) from None
    marks = text_marks(text, tokenizer.get_vocab())
    for mark in marks:
        spelled = [{**message, "content": f"{mark} {message['content']}"} for message in PROBE]
        # `escape` breaks it too where it begins as a token does, but for the tokens alone: the text is mended
        written = tokenizer.apply_chat_template(spelled, tokenize=False).replace(BREAK, "")
        if written.count(mark) > text.count(mark):
            message = (
                f"the chat template in {folder} writes {mark}, which is no token of its tokenizer: a text could "
                "spell it; add it to the tokenizer's special tokens, or use the template of the tokenizer stage"
            )
            raise UserError("chat_template_foreign", message, folder=folder, token=mark)
    end = end_of_turn(tokenizer)
    if end is None:
        message = (
            f"the chat template in {folder} writes no special token behind an answer: answers would never end; let it "
            "write eos_token there"
        )
        raise UserError("end_of_turn_missing", message, folder=folder)
    token = tokenizer.convert_ids_to_tokens(end)
    if tokenizer.pad_token_id == end:
        message = (
            f"tokenizer {folder} pads with {token}, which ends a turn, and has no other token for that: tune it first, which "
            f"adds one (scratch-gpt sft --model_name_or_path {folder})"
        )
        raise UserError("padding_ends_turns", message, folder=folder)
    carried = tokenizer.decode(encoded["input_ids"])
    # SentencePiece may write a space more behind a special token
    if "".join(carried.split()) != "".join(text.split()):
        message = f"the tokenizer in {folder} cannot carry its chat template: {text!r:.80} comes back as {carried!r:.80}"
        raise UserError("text_not_preserved", message, folder=folder)
    if not any(encoded["assistant_masks"]):
        message = (
            f"the chat template in {folder} does not mark the assistant's part ({{% generation %}}), and writes it "
            "otherwise than its generation prompt begins, so the tokens to learn cannot be found: add the marks"
        )
        raise UserError("chat_template_unmarked", message, folder=folder)
    if marks:
        _warn_of_text_marks(folder, " and ".join(marks))
    learned = zip(encoded["input_ids"], encoded["assistant_masks"], strict=True)
    if sum(index == end and bool(mask) for index, mask in learned) != len(PROBE) // 2:
        message = (
            f"the chat template in {folder} leaves {token} out of the assistant's part: answers would never end; move "
            "it before {% endgeneration %}"
        )
        raise UserError("end_of_turn_not_learned", message, folder=folder)


def encode_conversation(tokenizer: PreTrainedTokenizerFast, row: Row, assistant_only: bool = True) -> Row:
    """The row with `input_ids`, `labels` (IGNORED where nothing is learned, as of answers of weight 0) and `length`, its tokens.

    Raises:
        UserError: the chat template refuses the row, does not mark the answers of weight 0, or no token of the row is learned; the
            row's place is named.
    """
    encoded = _encode(tokenizer, row["messages"], row)
    input_ids = encoded["input_ids"]
    learned = encoded["assistant_masks"] if assistant_only else [1] * len(input_ids)
    if any("weight" in message for message in row["messages"]):
        learned = _without_unweighted(learned, encoded["assistant_masks"], row)
    labels = [token if mask else IGNORED for token, mask in zip(input_ids, learned, strict=True)]
    # the first token is predicted from nothing
    if all(label == IGNORED for label in labels[1:]):
        message = f"{row['place']}: no token of this row is learned: the chat template marks nothing of it as the assistant's"
        raise UserError("nothing_learned", message, place=row["place"])
    return {**row, "input_ids": input_ids, "labels": labels, "length": len(input_ids)}


def _without_unweighted(learned: list[int], answers: list[int], row: Row) -> list[int]:
    """`learned` without the answers of weight 0: the runs of ones in `answers` are the assistant's messages, in order."""
    places = [place for place, mask in enumerate(answers) if mask]
    runs = [place - number for number, place in enumerate(places)]  # the same for all places of a run
    weights = [message.get("weight", 1) for message in row["messages"] if message["role"] == "assistant"]
    if len(set(runs)) != len(weights):
        message = (
            f"{row['place']}: an answer has weight 0, and the chat template does not mark each answer apart: leave out such "
            "rows, or use the template of the tokenizer stage"
        )
        raise UserError("row_refused", message, place=row["place"])
    weight_of = dict(zip(dict.fromkeys(runs), weights, strict=True))
    unlearned = {place for place, run in zip(places, runs, strict=True) if not weight_of[run]}
    return [0 if place in unlearned else mask for place, mask in enumerate(learned)]


def measure_answers(tokenizer: PreTrainedTokenizerFast, row: Row) -> Row:
    """The judged answers with `length`, the tokens of the longest one's conversation; errors as for `encode_conversation`.

    Raises:
        UserError: the chat template writes the prompt otherwise where an answer follows: TRL would cut the two apart at a
            wrong place.
    """
    answers = [row[side] for side in ("chosen", "rejected", "completion") if side in row]
    sides = [_encode(tokenizer, row["prompt"] + answer, row) for answer in answers]
    if not all(continues(tokenizer, row["prompt"], answer, tools_of(row)) for answer in answers):
        message = (
            f"{row['place']}: the chat template writes this prompt otherwise where an answer follows, as Mistral's does with "
            "a system message: leave that out"
        )
        raise UserError("prompt_rewritten", message, place=row["place"])
    return {**row, "length": max(len(side["input_ids"]) for side in sides)}


def tools_of(row: Row) -> list[dict[str, Any]] | None:
    """The definitions of tools of a row, as chat templates take them."""
    return json.loads(row["tools"]) if row.get("tools") else None


def _encode(tokenizer: PreTrainedTokenizerFast, messages: list[Message], row: Row) -> dict[str, list[int]]:
    tools = tools_of(row)
    calls = [call["function"] for message in messages for call in message.get("tool_calls") or []]
    conversation = [with_objects(message) for message in messages]
    try:
        encoded = encode_turns(tokenizer, conversation, tools)
    except TemplateError as error:
        message = f"{row['place']}: the chat template refuses this conversation: {error}"
        raise UserError("row_refused", message, place=row["place"]) from None
    thinking = messages[-1].get("reasoning_content")
    if thinking and _letters(thinking) not in _letters(tokenizer.decode(encoded["input_ids"])):
        _warn_of_lost_thinking(tokenizer.name_or_path)
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


def _letters(text: str) -> str:
    return "".join(text.split())


@cache
def _warn_of_text_marks(folder: str, marks: str) -> None:
    logger.warning(
        "the chat template in %s writes %s, no tokens of its tokenizer: where a message spells one, it gets a space",
        *(folder, marks),
    )


@cache
def _warn_of_lost_thinking(folder: str) -> None:
    logger.warning(
        "the chat template in %s does not write what was thought before an answer: it is not learned", folder
    )


def with_objects(message: Message) -> Message:
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
    """The tokens that a row may have; by default the model's context, of a long one LONGEST.

    Raises:
        UserError: more are asked for than the model has positions.
    """
    positions: int = model.config.max_position_embeddings
    if max_length is not None and max_length > positions:
        message = f"max_length {max_length} is longer than the model's context of {positions} tokens"
        raise UserError("too_long", message, length=max_length, limit=positions)
    return max_length or min(positions, LONGEST)
