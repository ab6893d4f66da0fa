# SPDX-License-Identifier: Apache-2.0
"""The passages that a question is asked about as one text, in the forms that question sets have them."""

from typing import Any

from scratch_gpt.data.sources.bad_rows import BadRow


TEXT_KEYS = ("sentences", "paragraph_text", "passage_text", "contexts", "text", "content")


def read_passages(value: Any, column: str) -> str:
    """A text, or passages with a blank line between, each with its title above it.

    Passages are a list of texts, of [title, sentences] (HotpotQA's own files) or of objects with a title and a text
    (MuSiQue), or an object of such lists (HotpotQA, MS MARCO).

    Raises:
        BadRow: anything else.
    """
    match value:
        case str():
            return value
        case [str(title), [*sentences]]:
            return f"{title}\n{read_sentences(sentences, column)}"
        case list():
            return "\n\n".join(read_passages(each, column) for each in value)
        case dict() if key := next((key for key in TEXT_KEYS if value.get(key) is not None), None):
            texts, titles = value[key], value.get("title")
            if isinstance(texts, list) and isinstance(titles, list):
                pairs = zip(titles, texts, strict=False)
                return "\n\n".join(
                    f"{title}\n{read_sentences(sentences, column)}" for title, sentences in pairs
                )
            text = read_passages(texts, column)
            return f"{titles}\n{text}" if isinstance(titles, str) and titles else text
    raise BadRow(f"column {column!r} holds no text and no passages but {type(value).__name__}: {value!r:.60}")


def read_sentences(value: Any, column: str) -> str:
    """The sentences of a passage, which begin with the blank between them."""
    if isinstance(value, list) and all(isinstance(sentence, str) for sentence in value):
        return "".join(value)
    return read_passages(value, column)
