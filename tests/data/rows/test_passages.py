# SPDX-License-Identifier: Apache-2.0
"""Passages of question sets become one text."""

import pytest

from scratch_gpt.data.rows.conversations import instruction_rows
from scratch_gpt.data.rows.passages import read_passages
from scratch_gpt.data.sources.bad_rows import BadRow


TEXT = "T\nOne. Two.\n\nU\nThree."
PASSAGES = {
    "text": TEXT,
    "texts": ["T\nOne. Two.", "U\nThree."],
    "hotpotqa": {"title": ["T", "U"], "sentences": [["One.", " Two."], ["Three."]]},
    "hotpotqa's files": [["T", ["One.", " Two."]], ["U", ["Three."]]],
    "musique": [{"title": "T", "paragraph_text": "One. Two."}, {"title": "U", "paragraph_text": "Three."}],
    "ms marco": {"passage_text": ["T\nOne. Two.", "U\nThree."], "is_selected": [0, 1]},
    "pubmedqa": {"contexts": ["T\nOne. Two.", "U\nThree."], "labels": ["a", "b"]},
}


@pytest.mark.parametrize("name", PASSAGES)
def test_forms_of_passages(name):
    """Titles stand above their passages, a blank line between two."""
    assert read_passages(PASSAGES[name], "context") == TEXT


def test_passages_stand_before_the_question(read):
    """Under any of the names of a context; what is none of the forms is a bad row that names the column."""
    for column in ("context", "paragraphs", "contexts"):
        (row,) = read(instruction_rows, [{"question": "Q", "answer": "A", column: PASSAGES["musique"]}])
        assert row["messages"][0]["content"] == f"{TEXT}\n\nQ"
    with pytest.raises(BadRow, match="'context'"):
        read_passages({"id": 5}, "context")
