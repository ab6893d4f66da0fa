# SPDX-License-Identifier: Apache-2.0
"""Tool calls as Qwen's chat templates write them, <tool_call>{"name": ..., "arguments": {...}}</tool_call>, in OpenAI's form."""

import json
import re
import secrets
from typing import Any

from jinja2 import TemplateError
from pydantic_core import from_json  # which refuses what cannot be written: half a surrogate pair, 200 levels

from scratch_gpt.serving.protocol import Message, RequestError


OPENING = "<tool_call>"
CALL = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.DOTALL)


def as_template_messages(messages: list[Message], with_tools: bool) -> list[dict[str, Any]]:
    """Messages as chat templates take them; `developer` is OpenAI's newer name of `system`.

    Raises:
        RequestError: a message without text, a result without a call, or tools that the template does not render.
    """
    rendered = []
    for number, message in enumerate(messages):
        place = f"messages.{number}"
        if not with_tools and (message.role == "tool" or message.tool_calls):
            param = f"{place}.{'tool_calls' if message.tool_calls else 'role'}"
            raise RequestError(f"{param}: this model's chat template renders no tools", param)
        if message.tool_calls and message.role != "assistant":
            raise RequestError(f"{place}.tool_calls: only the assistant calls tools", f"{place}.tool_calls")
        if message.tool_call_id is not None and message.role != "tool":
            raise RequestError(
                f"{place}.tool_call_id: only a tool's message has one", f"{place}.tool_call_id"
            )
        before = messages[number - 1] if number else None
        if message.role == "tool" and not (before and (before.tool_calls or before.role == "tool")):
            raise RequestError(f"{place}.role: a tool's message must follow a call", f"{place}.role")
        if message.content is None and not message.tool_calls:
            raise RequestError(f"{place}.content: a message without text", f"{place}.content")
        role = "system" if message.role == "developer" else message.role
        row: dict[str, Any] = {"role": role, "content": message.content or ""}
        if message.tool_calls:
            row["tool_calls"] = [
                {"type": "function", "function": {"name": call.function.name, "arguments": arguments}}
                for call in message.tool_calls
                for arguments in [_arguments(call.function.arguments, f"{place}.tool_calls")]
            ]
        rendered.append(row)
    return rendered


def _arguments(written: str, param: str) -> dict[str, Any]:
    try:
        arguments = from_json(written)
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        raise RequestError(f"{param}: the arguments of a call must be a JSON object in a string", param)
    return arguments


class CallReader:
    """Takes the tool calls out of the text of one choice while it forms."""

    def __init__(self) -> None:
        self.text, self.shown = "", 0

    def read(self, text: str, finish_reason: str | None) -> tuple[str, list[dict[str, Any]], str | None]:
        """Of the next piece: its text without what is, or may become, a call; calls and the reason, with the last one.

        What only looks like a call stays text.
        """
        self.text += text
        end = self.text.find(OPENING)
        if end < 0:
            longest = min(len(OPENING) - 1, len(self.text))
            partial = (size for size in range(longest, 0, -1) if self.text.endswith(OPENING[:size]))
            end = len(self.text) - next(partial, 0)
        calls: list[dict[str, Any]] = []
        if finish_reason is not None:
            calls = _calls(self.text)
            end = end if calls else len(self.text)
        shown, self.shown = self.text[self.shown : end], max(self.shown, end)
        return shown, calls, "tool_calls" if calls and finish_reason == "stop" else finish_reason


def _calls(text: str) -> list[dict[str, Any]]:
    """The calls in a text, in OpenAI's form; none if one of them cannot be read."""
    calls = []
    for written in CALL.findall(text):
        try:
            call = from_json(written)
            name, arguments = call["name"], call["arguments"]
        except (ValueError, KeyError, TypeError):
            return []
        if not isinstance(name, str) or not isinstance(arguments, dict):
            return []
        function = {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)}
        calls.append({"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": function})
    return calls


def renders_tools(tokenizer: Any) -> bool:
    """Whether the chat template writes the definitions of tools, and asks for calls in the form that is read here."""
    function = {
        "name": "probe_of_tools",
        "description": "",
        "parameters": {"type": "object", "properties": {}},
    }
    try:
        rendered = tokenizer.apply_chat_template(
            [{"role": "user", "content": "a"}],
            tools=[{"type": "function", "function": function}],
            tokenize=False,
        )
    except (TemplateError, ValueError):  # the latter without a template
        return False
    return OPENING in rendered and function["name"] in rendered
