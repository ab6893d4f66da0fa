# SPDX-License-Identifier: Apache-2.0
"""Conversations written as one text: turns behind the marks of chat templates, Anthropic HH, Alpaca, Vicuna, Glaive or Harmony."""

import ast
import json
import re
import warnings
from contextlib import suppress
from typing import Any, NamedTuple

from scratch_gpt.data.rows.harmony import read_harmony


class Style(NamedTuple):
    """How a text marks its turns.

    Args:
        mark: comes before a turn; its one group is the speaker.
        end: comes after a turn; what follows up to the next mark is no text.
    """

    mark: str
    end: str


_SPEAKERS = r"Human|User|Assistant|System|Instruction|Input|Response|Output|Question|Answer"
STYLES = (
    Style(r"<\|im_start\|>\s*(\w+)[ \t]*\n?", r"<\|im_end\|>"),  # ChatML
    Style(
        r"<\|start_header_id\|>\s*(\w+)\s*<\|end_header_id\|>(?:\n\n?| )?", r"<\|eot_id\|>|<\|eom_id\|>"
    ),  # Llama 3
    Style(r"<start_of_turn>\s*(\w+)\n?", r"<end_of_turn>"),  # Gemma
    Style(
        r"<\|(system|user|prompter|assistant)\|>(?:[ \t]*\n| )?", r"\s*(?:</s>|<\|end\|>|<\|endoftext\|>|\Z)"
    ),  # Zephyr, Phi, OpenAssistant
    Style(r"<\uff5c(User|Assistant)\uff5c>", r"<\uff5cend\u2581of\u2581sentence\uff5c>"),  # DeepSeek
    Style(
        r"(?:\s*(?:<s>\s*)?\[(?=/?INST\])|\s*<<(?=/?SYS>>))(/?INST|/?SYS)(?:\](?:[ \t]*\n| )?|>>\s*)",
        r"\s*(?:</s>|\Z)",
    ),
    Style(r"\[\|(Human|AI)\|\] ?", r"\s*\Z"),  # Baize
    Style(rf"#{{2,3}} ?({_SPEAKERS}): ?\n?", r"\s*(?:</s>|<\|endoftext\|>|\Z)"),  # Alpaca, Guanaco
    Style(r"(?:^|\n\n)(Human|Assistant): ?", r"(?!)"),  # Anthropic HH, whose texts stay as they are
    Style(r"(?:^|\s+|</s>)(SYSTEM|USER|ASSISTANT|FUNCTION RESPONSE): ?", r"\s*(?:</s>|<\|endoftext\|>|\Z)"),
)
# How these texts call the roles; other speakers keep their names.
NAMES = {
    **dict.fromkeys(("human", "instruction", "input", "question", "prompter", "inst", "/sys"), "user"),
    **dict.fromkeys(("response", "output", "answer", "model", "ai", "/inst"), "assistant"),
    "sys": "system",
    "function response": "tool",
}
# These continue what the user said before: Alpaca's input, and what Llama 2 has behind its system message.
CONTINUING = ("input", "/sys")
# What chat templates write before all turns: of Llama 2 and Mistral, Llama 3, Gemma, DeepSeek.
_BEGINNING = re.compile(r"\A(?:<s>|<\|begin_of_text\|>|<bos>|<\uff5cbegin\u2581of\u2581sentence\uff5c>)+")
# Mistral's, before its first question.
_SYSTEM_PROMPT = re.compile(r"\A\[SYSTEM_PROMPT\]\s*(.*?)\s*\[/SYSTEM_PROMPT\]\Z", re.S)
_CALL = re.compile(r"<functioncall>\s*(\{.*\})", re.S)
# Of Hermes' function calling, whose calls come last in an answer; anywhere else the marks are text.
_HERMES_CALL = re.compile(r"<tool_call>\s*(.*?)\s*</tool_call>", re.S)
_HERMES_CALLS = re.compile(r"(.*?)((?:\s*<tool_call>(?:(?!</?tool_call>).)*</tool_call>)+)\s*", re.S)
_HERMES_RESULT = re.compile(r"\s*<tool_response>\s*((?:(?!<tool_response>).)*?)\s*</tool_response>\s*", re.S)


def read_transcript(text: str, *, preamble: bool = False) -> list[dict[str, Any]] | None:
    """The turns of a text as messages; the last may be an empty answer; None where it is no conversation.

    Args:
        preamble: text before the first turn is a system message; else the text must begin with a turn.
    """
    if text.lstrip().startswith("<|start|>"):
        return read_harmony(text) or None
    text = _BEGINNING.sub("", text)
    for mark, end in STYLES:
        marks = _turn_marks(mark, text)
        places = [*(found.start() for found in marks), len(text)]
        before = text[: places[0]]
        if before.strip() and not preamble:
            continue
        before = _SYSTEM_PROMPT.sub(r"\1", before.strip())
        turns = [{"role": "system", "content": before}] if before else []
        for found, stop in zip(marks, places[1:], strict=True):
            speaker, role = found[1], _role_of(found[1])
            content = re.split(end, text[found.end() : stop], maxsplit=1)[0]
            last = turns[-1] if turns else {"role": None, "content": ""}
            if speaker.lower() in CONTINUING and last["role"] == "user":
                content = f"{turns.pop()['content'].rstrip()}\n\n{content}"
            elif role == "system" and turns and not last["content"]:
                turns.pop()  # Llama 2 writes its system message into the question
            turns.append({"role": role, "content": content})
        if turns and turns[-1]["role"] == "user" and not turns[-1]["content"].strip():
            turns.pop()
        roles = {turn["role"] for turn in turns}
        if "assistant" in roles and roles - {"assistant", "system"}:
            return turns
    return None


def _role_of(speaker: str) -> str:
    return NAMES.get(speaker.lower(), speaker.lower())


def _turn_marks(mark: str, text: str) -> list[re.Match[str]]:
    """The marks that begin a turn: in an answer, "### Input:" is text if the user's turns began with "### Instruction:"."""
    names: dict[str, str] = {}
    marks: list[re.Match[str]] = []
    for found in re.finditer(mark, text):
        speaker, role = found[1].lower(), _role_of(found[1])
        in_answer = bool(marks) and _role_of(marks[-1][1]) == "assistant"
        if names.setdefault(role, speaker) == speaker or not in_answer:
            marks.append(found)
    return marks


def without_end(answer: str, prompt: str) -> str:
    """An answer without the mark that ends a turn, where the prompt is a transcript up to the answer."""
    for mark, end in STYLES:
        speakers = re.split(mark, prompt)[1::2]
        if speakers and _role_of(speakers[-1]) == "assistant":
            found = re.search(rf"(?:{end})\s*\Z", answer)
            return answer[: found.start()] if found and found[0].strip() else answer
    return answer


def read_function_call(text: str) -> tuple[str, Any] | None:
    """What an answer says before Glaive's `<functioncall> {"name": ..., "arguments": '{...}'}`, and the call as JSON.

    Or before Hermes' `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, and its calls.

    Raises:
        ValueError: what follows the mark is no JSON.
    """
    if marked := _HERMES_CALLS.fullmatch(text):
        return marked[1].strip(), [decoded_call(call) for call in _HERMES_CALL.findall(marked[2])]
    found = _CALL.search(text)
    if not found:
        return None
    call, end = found[1], found.end()
    if behind := text[end:].strip():
        raise ValueError(f"text behind the call: {behind:.40}")
    return text[: found.start()].strip(), decoded_call(call)


def without_result_marks(text: str) -> str:
    """A tool's result without Hermes' marks, which chat templates write themselves."""
    marked = _HERMES_RESULT.fullmatch(text)
    return marked[1] if marked else text


def decoded_call(text: str) -> Any:
    """A call from JSON, in which the arguments may be JSON between single quotes, or from Python's text of a call.

    Raises:
        ValueError: it is neither.
    """
    quoted = re.sub(r"'(\{.*\})'", lambda match: match[1].replace("\\'", "'"), text, flags=re.S)
    for decode, written in ((json.loads, text), (json.loads, quoted), (ast.literal_eval, text)):
        # Python warns of backslashes in its text
        with (
            suppress(ValueError, SyntaxError, MemoryError),
            warnings.catch_warnings(action="ignore", category=SyntaxWarning),
        ):
            return decode(written)
    return json.loads(text)  # to say what is wrong
