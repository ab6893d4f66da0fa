# SPDX-License-Identifier: Apache-2.0
"""Where documents begin and end in a text file: at blank lines, line ends, a separator, or the end of the file."""

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator


DOCUMENTS = ("block", "line", "file", "separator")
# Spellings of an end of text. On a line of their own they are no text.
END_MARKERS = frozenset(
    {
        *("<|endoftext|>", "<|end_of_text|>", "<|endofdoc|>", "<|end|>", "<|eot|>", "<|eot_id|>", "<|eos|>"),
        *("<|im_end|>", "</s>", "<eos>", "<EOS>", "<eod>", "<EOD>", "[EOS]", "[EOD]", "<end_of_turn>"),
        *("<\uff5cend\u2581of\u2581sentence\uff5c>", "<|endofsentence|>", "<|end_of_sentence|>"),
    }
)
# These can be nothing else: they also count at the end of a line.
_AT_LINE_END = ("<|endoftext|>", "<|end_of_text|>")
# From this many equal lines of signs on, they may part documents; a novel has fewer between its scenes.
MANY_RULES = 20
_MARKED_LINE = re.compile(
    rf"^[ \t]*(?:({'|'.join(map(re.escape, END_MARKERS))})|.*({'|'.join(map(re.escape, _AT_LINE_END))}))[ \t\r]*$",
    re.M,
)


def find_marker(text: str) -> str | None:
    """The end-of-text marker that lines of a text are, or end with; None where it is mostly inside lines."""
    if not any(marker in text for marker in END_MARKERS):
        return None
    lines = Counter(own or at_end for own, at_end in _MARKED_LINE.findall(text))
    marker, count = next(iter(lines.most_common(1)), ("", 0))
    return marker if count and 2 * count >= text.count(marker) else None


def inline_marker(text: str) -> str | None:
    """The most frequent end-of-text marker of a text."""
    marker = max(sorted(END_MARKERS), key=text.count)
    return marker if marker in text else None


def repeated_rule(text: str) -> str | None:
    """The line without a letter or digit, such as "---", that occurs `MANY_RULES` times or more in a text."""
    rules = Counter(re.findall(r"^[^\w\s](?:[^\w\n]{0,18}[^\w\s])?$", text, re.M))
    rule, count = next(iter(rules.most_common(1)), ("", 0))
    return rule if count >= MANY_RULES else None


def split_documents(lines: Iterable[str], documents: str, separator: str | None) -> Iterator[tuple[int, str]]:
    """The documents of a file that hold more than white space, each with the number of its first line, from 1.

    Args:
        documents: one of `DOCUMENTS`.
        separator: for `separator`: the text between two documents, which may hold line ends.
    """
    parts: Iterable[tuple[int, str]]
    if documents == "separator":
        assert separator is not None
        parts = _separated(lines, separator)
    elif documents == "line":
        parts = (each for each in enumerate(lines, start=1) if each[1].strip() not in END_MARKERS)
    elif documents == "file":
        parts = ((1, "".join(all_lines)) for all_lines in [lines])
    else:
        parts = _blocks(lines)
    for number, text in parts:
        document = text.strip("\n")
        if document and not document.isspace():
            yield number + len(text) - len(text.lstrip("\n")), document


def _blocks(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    number = 1
    for boundary, block in itertools.groupby(lines, key=_is_boundary):
        pieces = list(block)
        if not boundary:
            yield number, "".join(pieces)
        number += len(pieces)


def _is_boundary(line: str) -> bool:
    stripped = line.strip()
    return not stripped or stripped in END_MARKERS


def _separated(lines: Iterable[str], separator: str) -> Iterator[tuple[int, str]]:
    held: list[str] = []
    first, tail = 1, ""  # the end of what was read: a separator may begin in it
    for number, line in enumerate(lines, start=1):
        *ended, rest = (tail + line).split(separator)
        for text in ended:
            yield first, "".join([*held, text])
            held, first = [], number + separator.endswith("\n")
        kept = max(0, len(rest) - len(separator) + 1)
        held.append(rest[:kept])
        tail = rest[kept:]
    yield first, "".join([*held, tail])
