# SPDX-License-Identifier: Apache-2.0
"""Document boundaries: blocks, lines, separators of any length, end-of-text markers."""

import pytest

from scratch_gpt.data.sources.documents import END_MARKERS, find_marker, inline_marker, split_documents


def lines(text):
    return text.splitlines(keepends=True)


def texts(text, documents, separator=None):
    return [document for _, document in split_documents(lines(text), documents, separator)]


@pytest.mark.parametrize("separator", ["\n***\n", "*", "***", "\n\n\n", "<|endoftext|>", "x"])
def test_a_separator_divides_as_in_the_whole_text(separator):
    """Also where it spans lines, stands at both ends, is missing, or comes twice."""
    parts = ["one\ntwo", " three", "", "four\n\nfive", "six"]
    for text in (separator.join(parts), separator.join(["", *parts, ""]), "none of it\nhere"):
        expected = [part.strip("\n") for part in text.split(separator) if part.strip()]
        assert texts(text, "separator", separator) == expected


def test_documents_know_their_first_line():
    """The number of the line that a document's first character stands in, for messages."""
    text = "\n\na\nb\n\n  \nc\n"
    assert list(split_documents(lines(text), "block", None)) == [(3, "a\nb"), (7, "c")]
    assert list(split_documents(lines(text), "line", None)) == [(3, "a"), (4, "b"), (7, "c")]
    assert list(split_documents(lines(text), "file", None)) == [(3, "a\nb\n\n  \nc")]
    assert list(split_documents(lines("a\n--\n\nb--c"), "separator", "--")) == [(1, "a"), (4, "b"), (4, "c")]
    assert list(split_documents(lines("a\n--\nb"), "separator", "\n--\n")) == [(1, "a"), (3, "b")]


def test_marker_lines_are_boundaries_of_blocks_and_lines():
    """Nobody wants to learn them as text; `file` has it all."""
    text = "a\n</s>\nb\n<|im_end|>\nc"
    assert texts(text, "block") == texts(text, "line") == ["a", "b", "c"]
    assert texts(text, "file") == [text]


@pytest.mark.parametrize("marker", sorted(END_MARKERS))
def test_markers_are_found_on_lines_of_their_own(marker):
    """Within a line only those count that end a text and nothing else, at its end."""
    assert find_marker(f"a\n \t{marker} \nb") == marker
    assert find_marker(f"a text of {marker} in a line") is None


def test_a_marker_may_end_a_line():
    """As where each text of a set was written with the marker behind it; ends of turns and tags are too common for that."""
    assert find_marker("a\nthe end.<|endoftext|>\nb") == "<|endoftext|>"
    assert find_marker("a\nthe end.</s>\nb<|im_end|>\n") is None


def test_a_marker_that_stands_inside_lines_is_text():
    """A text about such markers has them anywhere; the reader is told."""
    text = "a <|endoftext|> b\nc <|endoftext|> d <|endoftext|>\n"
    assert find_marker(text) is None
    assert inline_marker(text) == "<|endoftext|>"
    assert inline_marker("a </s>\nb </s> <|endoftext|>") == "</s>"
    assert inline_marker("a <b> b") is None
