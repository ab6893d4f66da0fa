# SPDX-License-Identifier: Apache-2.0
"""OpenAI's Harmony, the text of gpt-oss: the header of a turn names the speaker, the channel and the function called."""

import re
from typing import Any


# The last turn may have no message yet: a prompt up to the answer.
_TURN = re.compile(
    r"<\|start\|>((?:(?!<\|start\|>).)*?)(?:<\|message\|>(.*?)(?:<\|end\|>|<\|return\|>|<\|call\|>|\Z)|\Z)",
    re.S,
)
_CALLED = re.compile(r"to=functions\.(\S+?)(?=<|\s|\Z)")


def read_harmony(text: str) -> list[dict[str, Any]]:
    """The turns of a text as messages, the analysis as the thinking of the answer or call behind it."""
    turns: list[dict[str, Any]] = []
    thoughts: list[str] = []
    for header, content in _TURN.findall(text):
        speaker, _, channel = header.partition("<|channel|>")
        called = _CALLED.search(header)
        if channel.startswith("analysis") and not called:
            thoughts.append(content)
            continue
        turn = {"role": speaker.split()[0] if speaker.strip() else "", "content": content}
        if "to=assistant" in header:
            turn["role"] = "tool"
        elif called:
            turn |= {"content": "", "tool_calls": [{"name": called[1], "arguments": content}]}
        if turn["role"] == "assistant" and thoughts:
            turn["thinking"] = "\n\n".join(thoughts)
            thoughts = []
        turns.append(turn)
    return turns
