# SPDX-License-Identifier: Apache-2.0
"""Conversations as public data sets write them, made into one: a list of {"role", "content"}."""

import re
from typing import Any

from scratch_gpt.data.sources.bad_rows import BadRow
from scratch_gpt.data.sources.source import checked_text


Message = dict[str, str]

# How data sets call the three roles; the names of ShareGPT stand below the usual ones.
ROLES = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "human": "user",
    "gpt": "assistant",
}


def read_messages(value: Any, column: str) -> list[Message]:
    """A list of {"role", "content"}, or of ShareGPT's {"from", "value"}; BadRow for anything else."""
    if not isinstance(value, list) or not value:
        raise BadRow(f"column {column!r} holds no list of messages")
    messages = []
    for message in value:
        names = ("from", "value") if isinstance(message, dict) and "from" in message else ("role", "content")
        role = message.get(names[0]) if isinstance(message, dict) else None
        if not isinstance(role, str) or role not in ROLES:
            raise BadRow(
                f"column {column!r}: a message needs a role of system, user, assistant, got {message!r:.60}"
            )
        content = checked_text(message.get(names[1]), f"{column}.{names[1]}").strip()
        messages.append({"role": ROLES[role], "content": content})
    return messages


def read_transcript(text: str) -> list[Message]:
    """Messages of an Anthropic HH transcript: turns that begin with "\\n\\nHuman:" or "\\n\\nAssistant:"."""
    parts = re.split(r"(?:^|\n\n)(Human|Assistant):", text.lstrip())
    return [
        {"role": "user" if speaker == "Human" else "assistant", "content": said}
        for speaker, said in zip(parts[1::2], parts[2::2], strict=True)
    ]


def read_answer(value: Any, column: str) -> list[Message]:
    """The assistant's text, or a list of messages."""
    if isinstance(value, list):
        return read_messages(value, column)
    return [{"role": "assistant", "content": checked_text(value, column).strip()}]


def best_and_worst(value: Any, column: str) -> tuple[str, str] | None:
    """Of UltraFeedback's scored completions the best and the worst text; None where their scores are equal.

    Each completion is {"response": text, "overall_score" or "score": number, ...}.
    """
    if not isinstance(value, list) or len(value) < 2:
        raise BadRow(f"column {column!r} holds no list of two completions or more")
    scored = []
    for completion in value:
        if not isinstance(completion, dict):
            raise BadRow(f"column {column!r}: a completion is no mapping: {completion!r:.60}")
        score = completion.get("overall_score", completion.get("score"))
        if isinstance(score, bool) or not isinstance(score, int | float) or score != score:
            raise BadRow(
                f"column {column!r}: a completion needs a number as overall_score or score, got {score!r}"
            )
        scored.append((score, checked_text(completion.get("response"), f"{column}.response").strip()))
    best, worst = max(scored, key=lambda pair: pair[0]), min(scored, key=lambda pair: pair[0])
    return None if best[0] == worst[0] else (best[1], worst[1])
