# SPDX-License-Identifier: Apache-2.0
"""The chat template of a tokenizer from elsewhere, behind a beginning that lets no message write a mark of turns."""

import json
import re
from collections.abc import Collection
from pathlib import Path


# Marks of turns that templates write as plain text where the tokenizer has no such token (OLMo 2, Zephyr, Llama 2).
MARK = re.compile(r"<\|[^<>|]+\|>|\[/?[A-Z_]+\]|<</?SYS>>")
# A template may fill in the role: '<|' + message['role'] + '|>'.
ROLE_MARKS = ("<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")


def text_marks(template: str, vocabulary: Collection[str]) -> list[str]:
    """The marks that a template writes and that are no tokens: to the model, a message's own would be the same."""
    found = [
        mark
        for written in MARK.findall(template)
        for mark in (ROLE_MARKS if re.search(r"[\"']", written) else (written,))
    ]
    return [mark for mark in dict.fromkeys(found) if mark not in vocabulary]


def escaping_template(template: str, special: list[str], tags: list[str], vocabulary: Collection[str]) -> str:
    """The template behind a beginning that escapes what it reads; as it is where it does so itself.

    Args:
        special, tags: how the tokenizer's control tokens begin; an assistant may write tags.
        vocabulary: its tokens. Marks that are none get a space behind their first character, where a message spells them.
    """
    if r"\ue000" in template:
        return template
    around = Path(__file__).with_name("plain_messages.jinja").read_text(encoding="utf-8")
    parts = {
        "TEXT_MARKS": json.dumps(text_marks(template, vocabulary), ensure_ascii=False),
        "SPECIAL": json.dumps(special, ensure_ascii=False),
        "TAGS": json.dumps(tags, ensure_ascii=False),
        "CHAT_TEMPLATE": template.removesuffix("\n"),  # Jinja drops a line break at the very end
    }
    return re.sub("|".join(parts), lambda match: parts[match[0]], around)
