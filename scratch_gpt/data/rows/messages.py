# SPDX-License-Identifier: Apache-2.0
"""Conversations as public data sets write them, made into one form: a list of messages as OpenAI and transformers have them.

A message is {"role", "content"}; the assistant's may have `reasoning_content`, `tool_calls` and a `weight` of 0 besides:
it is read and not learned. What differs from row to row is kept as JSON in a string (a call's `arguments`, a row's
`tools`): Arrow would give each row the keys of all.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from scratch_gpt.data.rows.transcripts import (
    decoded_call,
    read_function_call,
    read_transcript,
    without_result_marks,
)
from scratch_gpt.data.sources.bad_rows import BadRow, UnusedRow
from scratch_gpt.data.sources.columns import checked_text


Message = dict[str, Any]

# Of LLaMA-Factory's: the text is a call, not an answer.
CALLING_ROLES = ("function_call", "tool_call")
# Families of models, by whose members' names some sets call the assistant: "gpt-4o", "claude-opus".
MODELS = ("gpt", "chatgpt", "bing", "bard", "claude", "gemini", "llama", "qwen", "mistral", "deepseek")
# How data sets call the roles, in lower case and with "_" for "-"; a source's `roles` adds its own.
ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter", "usr", "question", "instruction", "customer"), "user"),
    **dict.fromkeys(("assistant", "answer", "response", "model", "bot", "ai", "chatbot", "llm"), "assistant"),
    **dict.fromkeys((*MODELS, *CALLING_ROLES), "assistant"),
    **dict.fromkeys(("tool", "function", "observation", "ipython"), "tool"),
    **dict.fromkeys(("tool_response", "tool_result", "tool_output"), "tool"),
    **dict.fromkeys(("function_response", "function_result", "function_output"), "tool"),
}
ROLE_KEYS = ("role", "from", "sender", "speaker")
CONTENT_KEYS = ("content", "value", "text", "parts")
# Those that may hold parts which are calls of tools: of Anthropic's interface, and of Gemini's.
PART_KEYS = ("content", "parts")
THINKING_KEYS = ("reasoning_content", "thinking", "reasoning")
# 0 or false: the answer is read and not learned. OpenAI's and ShareGPT's, axolotl's, ms-swift's.
WEIGHT_KEYS = ("weight", "train", "loss")
# Parts of a content that are text, in the chat and in the responses interface of OpenAI.
TEXT_PARTS = (None, "text", "input_text", "output_text")
CALL_KEYS = ("tool_calls", "function_call")
# The arguments of a call; in definitions of tools "parameters" are others.
ARGUMENT_KEYS = ("arguments", "parameters", "args", "input")
# Python's own text of a list of messages, or of pairs of texts, as a table of pandas saves it.
PYTHON_MESSAGES = re.compile(r"\s*\[?\s*\{\s*'(?:role|from|content|value)'|\s*\[\[\s*'")
# Texts that begin like JSON and are transcripts.
BRACKETED_TURN = re.compile(r"\s*\[(?:INST\]|\|)")
# The keys of Capybara's turns.
PAIR_OF_TURNS = (("user", "input"), ("assistant", "output"))
# transformers marks the message that it continues with this end, and the chat templates then write the message raw.
CONTINUED = "CONTINUE_FINAL_MESSAGE_TAG "


def make_message(role: str, text: str, column: str) -> Message:
    """A message of checked text; BadRow for one that transformers would take for a message to continue."""
    if text.endswith(CONTINUED):
        raise BadRow(f"column {column!r} ends in {CONTINUED!r}, by which transformers continues a message")
    return {"role": role, "content": text}


def read_messages(value: Any, column: str, roles: Mapping[str, str] | None = None) -> list[Message]:
    """A list of {"role", "content"} or of ShareGPT's {"from", "value"}, or one of them, or JSON of that; see `_turns` too.

    Also a text that marks its turns, see `transcripts`. An empty system message is left out.

    Args:
        roles: more names of roles -> system, user, assistant or tool.

    Raises:
        BadRow: anything else, an unknown role, a part that is no text, a call that cannot be read.
        UnusedRow: a turn is empty, or all of it.
    """
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")) and not BRACKETED_TURN.match(value):
        value = _from_json(value, column)
    if isinstance(value, str):
        checked_text(value, column)
        value = read_transcript(value, preamble=True)
        if value is None:
            raise BadRow(
                f"column {column!r} holds no list of messages but plain text, which the shards stage reads; of a question "
                "and its answer, name the columns in the source's columns: {prompt: NAME, response: NAME}"
            )
    found = _turns(value)
    if not found:
        raise BadRow(f"column {column!r} holds no list of messages")
    _check_roles(found, column, roles or {})
    written = (_message(each, number, column, roles or {}) for number, each in enumerate(found, start=1))
    messages = [message for message in written if message]
    if not messages:
        raise UnusedRow(f"column {column!r} holds nothing but an empty system message")
    return messages


def _turns(value: Any) -> list[Any]:
    """The messages of a value, as they are written.

    Also of texts in turn (UltraChat, LIMA), of [question, answer] (ChatGLM), of {"input", "output"} (Capybara), of a tree
    whose best replies are followed (OpenAssistant), and of the parts that are calls of tools and their results.
    """
    found = [value] if isinstance(value, dict) else value
    if not isinstance(found, list):
        return []
    if isinstance(value, dict) and any(isinstance(value.get(key), list) for key in ROLE_KEYS):
        # `datasets` makes a list of objects whose features are a Sequence an object of lists
        found = [dict(zip(value, each, strict=False)) for each in zip(*value.values(), strict=False)]
    while found and (replies := _replies(found[-1])):
        found = [*found, min(replies, key=_rank)]
    turns: list[Any] = []
    for number, written in enumerate(found):
        if isinstance(written, str) and len(found) > 1:
            turns.append({"role": ("user", "assistant")[number % 2], "content": written})
        elif isinstance(written, list) and len(written) == 2:
            turns += [
                {"role": role, "content": text}
                for role, text in zip(("user", "assistant"), written, strict=True)
            ]
        elif (
            isinstance(written, dict) and {"input", "output"} <= written.keys() and not _role(written, {})[0]
        ):
            turns += [{"role": role, "content": written[key]} for role, key in PAIR_OF_TURNS]
        else:
            turns += _without_tool_parts(written)
    return turns


def _replies(written: Any) -> list[dict[str, Any]]:
    """The replies to a message of a tree; other data sets have their number under this name."""
    replies = written.get("replies") if isinstance(written, dict) else None
    return [reply for reply in replies if isinstance(reply, dict)] if isinstance(replies, list) else []


def _rank(reply: dict[str, Any]) -> float:
    """The place of a reply among others, from 0, also as text; one that nobody ranked comes last."""
    try:
        return float(reply["rank"])
    except (KeyError, TypeError, ValueError):
        return math.inf


def _without_tool_parts(written: Any) -> list[Any]:
    """A message with Anthropic's or Gemini's parts of calls and results in OpenAI's form: results are messages before it."""
    keys = [key for key in PART_KEYS if isinstance(written, dict) and key in written]
    found = written[keys[0]] if keys else []
    parts = [_tool_part(part) for part in _listed(found)]
    kinds = [part.get("type") if isinstance(part, dict) else None for part in parts]
    if not {"tool_use", "tool_result"} & set(kinds):
        return [written]
    by_kind: dict[str, list[Any]] = {"tool_use": [], "tool_result": [], "": []}
    for kind, part in zip(kinds, parts, strict=True):
        by_kind[kind if kind in by_kind else ""].append(part)
    turns = [{"role": "tool", "content": part.get("content") or ""} for part in by_kind["tool_result"]]
    calls = by_kind["tool_use"]
    if calls or by_kind[""]:
        turns.append({**written, "content": by_kind[""], "tool_calls": calls})
    return turns


def _tool_part(part: Any) -> Any:
    """A call or a result of Gemini's as Anthropic writes them; any other part as it is."""
    if isinstance(part, dict) and isinstance(part.get("functionCall"), dict):
        return {"type": "tool_use", **part["functionCall"]}
    if isinstance(part, dict) and isinstance(part.get("functionResponse"), dict):
        return {"type": "tool_result", "content": part["functionResponse"].get("response")}
    return part


def _role(written: Any, roles: Mapping[str, str]) -> tuple[Any, str | None]:
    """What a message calls its speaker, and the role that this is, if it is known: "gpt-4o" is a "gpt"."""
    name = next((written[key] for key in ROLE_KEYS if written.get(key) is not None), None)
    if not isinstance(name, str):
        return name, None
    known = _plain(name)
    family, _, rest = known.partition("_")
    of_family = "assistant" if family in MODELS and rest not in ROLES else None
    return name, roles.get(name) or ROLES.get(known) or ROLES.get(re.split(r"[_ ]?\d", known)[0]) or of_family


def _plain(name: str) -> str:
    """A name of a role as `ROLES` has it."""
    return name.strip().lower().replace("-", "_")


def _check_roles(found: list[Any], column: str, roles: Mapping[str, str]) -> None:
    """Refuse unknown speakers, all in one line; the likeliest is that they take turns and the user begins."""
    unknown: dict[str, str] = {}
    for number, written in enumerate(found):
        name, role = _role(written, roles) if isinstance(written, dict) else (None, "")
        if isinstance(name, str) and role is None:
            opened = sum(
                isinstance(each, dict) and _role(each, roles)[1] == "system" for each in found[:number]
            )
            unknown.setdefault(name, ("user", "assistant")[(number - opened) % 2])
    if unknown:
        cure = ", ".join(f"{name}: {role}" for name, role in unknown.items())
        raise BadRow(
            f"column {column!r}: a message of the unknown role {next(iter(unknown))!r:.60}: say which it is in the source's "
            f"roles, such as roles: {{{cure}}}"
        )


def _message(written: Any, number: int, column: str, roles: Mapping[str, str]) -> Message | None:
    if not isinstance(written, dict):
        raise BadRow(f"column {column!r}: a message is no mapping of role and content: {written!r:.60}")
    name, role = _role(written, roles)
    if role is None or not written.keys() & {*CONTENT_KEYS, *CALL_KEYS, *THINKING_KEYS}:
        form = '{"role": "user", "content": "..."} or {"from": "human", "value": "..."}'
        lacked = "a role" if role is None else "content"
        raise BadRow(f"column {column!r}: a message without {lacked}, {written!r:.60}, needs the form {form}")
    key = next((key for key in CONTENT_KEYS if written.get(key) is not None), None)
    value = written[key] if key else ""
    if role == "tool" and not isinstance(value, str) and not _are_parts(value):
        value = json.dumps(value, ensure_ascii=False)
    thinking = next((written[key] for key in THINKING_KEYS if not is_blank(written.get(key))), None)
    if isinstance(value, list):
        # Anthropic's parts of this type
        thoughts = [str(part["thinking"]) for part in value if _is_thought(part)]
        thinking = "\n\n".join(thoughts) or thinking
        value = [part for part in value if not _is_thought(part)]
    text = read_content(value, f"{column}.{key}")
    text = without_result_marks(text) if role == "tool" else text
    calls = next((written[key] for key in CALL_KEYS if written.get(key)), None)
    if isinstance(calls, str):
        calls = _from_json(calls, f"{column}.tool_calls")
    if _plain(name) in CALLING_ROLES:
        calls, text = _from_json(text, f"{column}.{key}", decoded_call), ""
    elif role == "assistant" and not calls:
        text, calls = _marked_call(text, f"{column}.{key}")
    if calls and role != "assistant":
        raise BadRow(f"column {column!r}: only the assistant calls tools, got calls of the role {name!r}")
    if not text.strip() and not calls and role != "tool":
        if role == "system":
            return None
        raise UnusedRow(f"column {column!r}: message {number} ({name}) is empty")
    message = make_message(role, text, f"{column}.{key}")
    if thinking and role == "assistant":
        message["reasoning_content"] = checked_text(thinking, f"{column}.reasoning_content")
    if calls:
        message["tool_calls"] = [_call(call, column) for call in _listed(calls)]
    if written.get("weight") not in (None, 0, 1):
        raise BadRow(
            f"column {column!r}: a weight of {written['weight']!r:.40}: an answer is learned (1) or not (0)"
        )
    if role == "assistant" and any(written.get(each) in (0,) for each in WEIGHT_KEYS):
        message["weight"] = 0
    return message


def _marked_call(text: str, column: str) -> tuple[str, Any]:
    """An answer without Glaive's or Hermes' function calls, and the calls, if it has some."""
    try:
        return read_function_call(text) or (text, None)
    except (ValueError, RecursionError) as error:
        raise BadRow(f"column {column!r} holds a broken call of a function: {error}") from None


def _are_parts(value: Any) -> bool:
    return all(isinstance(part, dict) and "type" in part for part in _listed(value))


def _is_thought(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "thinking" and "thinking" in part


def read_content(value: Any, column: str) -> str:
    """A text, a part, or the texts of a list of parts, also as Gemini's {"parts": [...]}; it may be empty."""
    if isinstance(value, dict) and isinstance(value.get("parts"), list):
        value = value["parts"]
    texts = []
    for part in _listed(value):
        text = part
        if isinstance(part, dict) and (part is not value or "type" in part):
            kind = part.get("type") or part.get("content_type")
            if kind not in TEXT_PARTS:
                cure = "only text is read; max_bad_rows: 1 leaves out all such rows"
                raise BadRow(f"column {column!r}: a part of the type {kind!r:.40}: {cure}")
            text = part.get("text")
        is_blank = isinstance(text, str) and not text.strip()
        texts.append(text if is_blank else checked_text(text, column))
    return "".join(texts)


def _call(call: Any, column: str) -> dict[str, Any]:
    """A tool call in OpenAI's form; what is null in arguments given as an object is none (Arrow fills it in)."""
    function = (call.get("function") or call) if isinstance(call, dict) else {}
    name = function.get("name")
    arguments: Any = next((function[key] for key in ARGUMENT_KEYS if function.get(key)), {})
    if isinstance(arguments, str):
        arguments = _from_json(arguments, f"{column}.tool_calls")
    elif isinstance(arguments, dict):
        arguments = {key: value for key, value in arguments.items() if value is not None}
    if not isinstance(name, str) or not isinstance(arguments, dict):
        form = '{"function": {"name": "...", "arguments": "{...}"}}'
        raise BadRow(f"column {column!r}: a tool call needs the form {form}, got {call!r:.60}")
    written = json.dumps(arguments, ensure_ascii=False)
    function = {
        name: checked_text(text, f"{column}.tool_calls")
        for name, text in (("name", name), ("arguments", written))
    }
    return {"type": "function", "function": function}


def read_tools(value: Any, column: str) -> str | None:
    """The definitions of tools, a list or JSON of one, as JSON of a list in OpenAI's form; None where there are none."""
    tools = _from_json(value, column) if isinstance(value, str) and value.strip() else value
    definitions = []
    for tool in map(_without_nulls, _declared(tools)):
        function = tool.get("function", tool) if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            form = '{"type": "function", "function": {"name": "..."}}'
            raise BadRow(f"column {column!r}: a tool needs the form {form}, got {tool!r:.60}")
        if "input_schema" in function:  # Anthropic's
            function["parameters"] = function.pop("input_schema")
        definitions.append(tool if function is not tool else {"type": "function", "function": tool})
    return checked_text(json.dumps(definitions, ensure_ascii=False), column) if definitions else None


def _declared(tools: Any) -> list[Any]:
    """The definitions of a value; Gemini's are in lists under the name "functionDeclarations"."""
    return [
        each
        for tool in (_listed(tools) if tools else [])
        for each in _listed(tool.get("functionDeclarations", tool) if isinstance(tool, dict) else tool)
    ]


def _without_nulls(value: Any) -> Any:
    """Without the keys of other rows, which Arrow fills in with null."""
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def is_blank(value: Any) -> bool:
    """Whether a value is null or a text of nothing."""
    return value is None or (isinstance(value, str) and not value.strip())


def _from_json(text: str, column: str, decode: Callable[[str], Any] = json.loads) -> Any:
    try:
        return decode(text)
    except (ValueError, RecursionError) as error:
        if PYTHON_MESSAGES.match(text):
            raise BadRow(
                f"column {column!r} holds Python's text of messages: save the table as .jsonl or .parquet"
            ) from None
        raise BadRow(f"column {column!r} holds broken JSON: {error}") from None


def holds_messages(value: Any, column: str, roles: Mapping[str, str]) -> bool:
    """Whether a value is a message, a list of them, or the JSON of that, as a .csv file has it.

    Raises:
        BadRow: it is Python's text of messages.
    """
    if isinstance(value, list | dict):
        return True
    if not isinstance(value, str) or not re.match(r"\s*(?:\[\s*)?\{", value):
        return False
    try:
        listed = _listed(_from_json(value, column))
    except BadRow:
        if PYTHON_MESSAGES.match(value):
            raise
        return False  # a text that begins so
    return all(
        isinstance(each, dict) and _role(each, roles)[1] and set(CONTENT_KEYS) & each.keys()
        for each in listed
    )


def read_answer(value: Any, column: str, roles: Mapping[str, str] | None = None) -> list[Message]:
    """The assistant's text as it is (or a number), the one of a list, a message, a list of messages, or JSON of that."""
    if isinstance(value, list) and any(isinstance(each, str) for each in value):
        if len(value) > 1:
            cure = f"name the one to take by its place, such as {column}.0, in the source's columns"
            raise BadRow(f"column {column!r} holds {len(value)} texts, not one answer: {cure}")
        value = value[0]
    if holds_messages(value, column, roles or {}):
        return read_messages(value, column, roles)
    return [make_message("assistant", answer_text(value, column), column)]


def answer_text(value: Any, column: str) -> str:
    """An answer as it is; numbers and truth values as JSON writes them."""
    return json.dumps(value) if isinstance(value, int | float) else checked_text(value, column)
