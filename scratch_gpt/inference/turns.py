# SPDX-License-Identifier: Apache-2.0
"""Turns as a tokenizer's own chat template writes them: which token ends one, and which tokens are the assistant's."""

import copy
import json
import logging
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

import scratch_gpt
from scratch_gpt.data.rows.messages import Message
from scratch_gpt.tokenization import (
    BREAK,
    IM_END,
    IM_START,
    protect_control_tokens,
    special_spellings,
)


logger = logging.getLogger(__name__)

# The definitions that a conversation begins with, as chat templates take them.
Tools = list[dict[str, Any]] | None

TEMPLATES = Path(str(scratch_gpt.__file__)).parent
# Two turns: the end of the first is what some templates give to the message that follows.
PROBE = [
    {"role": "user", "content": "Who is it?"},
    {"role": "assistant", "content": "It is me."},
    {"role": "user", "content": "Who?"},
    {"role": "assistant", "content": "Me."},
]
# {% generation %}, by which transformers finds the assistant's tokens; published templates rarely have it.
MARK = re.compile(r"\{%[-+]?\s*generation\b")
# What `set_end_of_sequence` puts before a template.
KEPT_EOS = re.compile(r'\{%- set eos_token = "[^"]*" %\}')


def add_chat_template(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """Give a tokenizer from elsewhere this project's chat template; return the tokens that it had to learn for that."""
    new = [token for token in (IM_START, IM_END) if token not in tokenizer.get_vocab()]
    tokenizer.add_tokens(
        [AddedToken(token, special=True, normalized=False) for token in new], special_tokens=True
    )
    breaks = [
        f"replace({json.dumps(text)}, {json.dumps(text[0] + BREAK + text[1:])})"
        for text in special_spellings(tokenizer)
    ]
    template = (TEMPLATES / "chat_template.jinja").read_text(encoding="utf-8")
    template = template.replace(r"replace('<|', '<\ue000|')", " | ".join(breaks))
    # Where the beginning of a text has a token of its own, the model has never read a text without it.
    begins = tokenizer.bos_token is not None and tokenizer.bos_token != tokenizer.eos_token
    tokenizer.chat_template = "{{- bos_token }}" * begins + template
    protect_control_tokens(tokenizer)
    return new


def tokens_without_embedding(tokenizer: PreTrainedTokenizerFast, embeddings: int) -> list[str]:
    """The tokens beyond a model's embeddings that can come up: in a text, or written by the chat template or the tokenizer.

    Other special tokens cannot, since no text spells one: Gemma 3's <image_soft_token>, which the smallest of these
    models has no embedding for, stands where an image was.
    """
    template = plain_template(tokenizer) if tokenizer.chat_template else ""
    named = {tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token, tokenizer.unk_token}
    unused = {
        index
        for index, token in tokenizer.added_tokens_decoder.items()
        if token.special and token.content not in named and token.content not in template
    }
    return [
        token for token, index in tokenizer.get_vocab().items() if index >= embeddings and index not in unused
    ]


def stop_ids(tokenizer: PreTrainedTokenizerFast, generation_config: Any) -> set[int]:
    """The tokens that end an answer: those of the generation config, and the tokenizer's end of sequence.

    The latter where the config is silent, and where it ends the turns of a chat model, whatever the config says.
    """
    said: Any = getattr(generation_config, "eos_token_id", None)
    stops: set[int] = set(said if isinstance(said, list) else [said]) - {None}
    own = tokenizer.eos_token_id
    if own is not None and (not stops or is_chat(tokenizer)):
        stops.add(own)
    return stops


def end_of_turn(tokenizer: PreTrainedTokenizerFast) -> int | None:
    """The token that the chat template writes behind an answer; None without a template, or where it writes none."""
    if not tokenizer.chat_template:
        return None
    try:
        text = tokenizer.apply_chat_template(PROBE, tokenize=False)
    except TemplateError:
        return None
    behind = text.rpartition(PROBE[-1]["content"])[2]
    found = [
        (behind.index(token.content), -len(token.content), index)
        for index, token in tokenizer.added_tokens_decoder.items()
        if token.content in behind and not token.content.isspace()
    ]
    return min(found)[2] if found else None


def is_chat(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether the model speaks in turns: its chat template ends them with its end of sequence.

    `prepare_turns` makes the end of a turn the end of sequence where the generation config stops at it.
    """
    end = end_of_turn(tokenizer)
    return end is not None and end == tokenizer.eos_token_id


def prepare_turns(tokenizer: PreTrainedTokenizerFast, generation_config: Any) -> None:
    """Set the end of sequence and the padding of a tokenizer that was just loaded.

    Gemma's tokenizer names <eos>, and its generation config stops at <end_of_turn> too. Llama, Mistral and GPT-2 have no
    padding, and SmolLM2 pads with the token that ends a turn, so that the ends of answers would count as padding.
    """
    stops, end = stop_ids(tokenizer, generation_config), end_of_turn(tokenizer)
    if end in stops:
        set_end_of_sequence(tokenizer, end)
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id != end:
        return
    declared = tokenizer.pad_token
    tokenizer.pad_token = _unused_token(tokenizer, {end, tokenizer.bos_token_id}) or tokenizer.eos_token
    if declared is not None and declared != tokenizer.pad_token:
        logger.warning(
            "the tokenizer pads with %s, which ends a turn: here it pads with %s",
            *(declared, tokenizer.pad_token),
        )


def set_end_of_sequence(tokenizer: PreTrainedTokenizerFast, end: int) -> None:
    """Let a token end the model's answers; a chat template that names `eos_token` still writes its publisher's.

    Phi-3's writes <|endoftext|> behind a conversation, in which <|end|> ends each turn.
    """
    publishers, template = tokenizer.eos_token, tokenizer.chat_template
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(end)
    if tokenizer.eos_token != publishers and isinstance(template, str) and "eos_token" in template:
        written = json.dumps(publishers or "", ensure_ascii=False)
        tokenizer.chat_template = f"{{%- set eos_token = {written} %}}{template}"


def _unused_token(tokenizer: PreTrainedTokenizerFast, used: Collection[int | None]) -> str | None:
    """The special token that serves best as padding: one made for it, the unknown token, a reserved one."""
    special = [
        token.content
        for index, token in tokenizer.added_tokens_decoder.items()
        if token.special and index not in used
    ]
    choices = [
        *(token for token in special if "pad" in token.lower()),
        *(token for token in special if token == tokenizer.unk_token),
        *(token for token in special if "reserved" in token.lower()),
    ]
    return next(iter(choices), None)


def plain_template(tokenizer: PreTrainedTokenizerFast) -> str:
    """The chat template as its publisher wrote it, without what was put around it here.

    That is by `protect_control_tokens` and by `set_end_of_sequence`.
    """
    template = KEPT_EOS.sub("", tokenizer.get_chat_template())
    around = (TEMPLATES / "plain_messages.jinja").read_text(encoding="utf-8")
    before, after = (part.strip() for part in around.split("CHAT_TEMPLATE"))
    comment, opening = before.splitlines()[0], before.splitlines()[-1]
    if not template.startswith(comment):
        return template
    return template.partition(opening)[2].rpartition(after)[0]


def training_tokenizer(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """A copy whose chat template is the one to learn by: TRL's marked version, where TRL knows the template.

    Of Qwen3's it also keeps the thoughts of earlier turns, so that all answers have one form. All other templates are
    learned by as they are; see `encode_turns`.
    """
    if not tokenizer.chat_template or MARK.search(plain_template(tokenizer)):
        return tokenizer
    from trl.chat_template_utils import get_training_chat_template  # slow to import

    copied, template = copy.deepcopy(tokenizer), plain_template(tokenizer)
    kept = "".join(KEPT_EOS.findall(tokenizer.get_chat_template()))
    for written in (template, f"{template}\n"):  # TRL compares texts, and Jinja drops a line break at the end
        copied.chat_template = written
        try:
            copied.chat_template = kept + (get_training_chat_template(copied) or written)
        except (ValueError, TemplateError):  # a template that it does not know, or one that fails
            continue
        return protect_control_tokens(copied)
    return tokenizer


def encode_turns(
    tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message], tools: Tools = None
) -> dict[str, list[int]]:
    """A conversation's `input_ids`, and `assistant_masks`: 1 for the assistant's tokens, the ends of its turns included.

    They are marked by the template ({% generation %}), or found by rendering what the model reads before each answer. An
    answer before which it would read something else, since the template rewrites earlier turns, is not marked.

    Raises:
        TemplateError: the template refuses the conversation.
    """
    if MARK.search(tokenizer.get_chat_template()):
        encoded = tokenizer.apply_chat_template(
            messages,
            tools=tools,
            return_dict=True,
            return_assistant_tokens_mask=True,
            tokenizer_kwargs={"verbose": False},  # callers say themselves which rows are too long
        )
        return {name: encoded[name] for name in ("input_ids", "assistant_masks")}
    text = _conversation_text(tokenizer, messages, tools)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    mask = [0] * len(encoded["input_ids"])
    for first, last in _answer_spans(tokenizer, messages, tools, text):
        for place, (start, stop) in enumerate(encoded["offset_mapping"]):
            mask[place] |= first < stop and start < last
    return {"input_ids": encoded["input_ids"], "assistant_masks": mask}


def _render(
    tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message], tools: Tools, prompt: bool = False
) -> str:
    return str(
        tokenizer.apply_chat_template(messages, tools=tools, add_generation_prompt=prompt, tokenize=False)
    )


def continues(
    tokenizer: PreTrainedTokenizerFast,
    asked: Sequence[Message],
    answer: Sequence[Message],
    tools: Tools = None,
) -> bool:
    """Whether the template writes a conversation up to the answer as it does where the answer follows.

    With or without the beginning of the answer: Phi-3's ends a conversation in which none follows.
    """
    whole = _render(tokenizer, [*asked, *answer], tools)
    return any(whole.startswith(_render(tokenizer, asked, tools, prompt)) for prompt in (False, True))


def _conversation_text(tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message], tools: Tools) -> str:
    """The rendered conversation; it begins with what the model reads before the last answer."""
    *asked, last = messages
    has_system = messages[0]["role"] == "system"
    if not has_system or last["role"] != "assistant" or continues(tokenizer, asked, [last], tools):
        return _render(tokenizer, messages, tools)
    # Mistral's templates write the system message into a question that comes last, and not at all before an answer.
    prompt = _render(tokenizer, asked[1:], tools, prompt=True)
    answer = _render(tokenizer, messages[1:], tools)[len(prompt) :]
    return _render(tokenizer, asked, tools, prompt=True) + answer


def _answer_spans(
    tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message], tools: Tools, text: str
) -> list[tuple[int, int]]:
    """Where the answers are in the rendered text, from behind the prompt up to the end of the turn."""
    ends = end_of_turn(tokenizer)
    end = "" if ends is None else tokenizer.convert_ids_to_tokens(ends)
    spans = []
    for number, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before, prompt = (_render(tokenizer, messages[:number], tools, asked) for asked in (False, True))
        if not text.startswith((before, prompt)):
            continue
        # some prompts open a thought that an answer without one has not
        same = zip(prompt, text, strict=False)
        first = next((place for place, (one, other) in enumerate(same) if one != other), len(prompt))
        found = text.find(end, first) if end else -1
        spans.append((first, len(text) if found < 0 else found + len(end)))
    return spans
