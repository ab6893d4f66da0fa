# SPDX-License-Identifier: Apache-2.0
"""Rows that stand twice and rows that contradict each other are found and placed."""

from scratch_gpt.data.row_checks import report_repeats
from wording import shows


def conversation(place, question, answer, source="s"):
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": messages, "source": source, "kind": "k", "place": f"f:{place}"}


def pair(place, question, chosen, rejected):
    sides = {"chosen": chosen, "rejected": rejected}
    answers = {side: [{"role": "assistant", "content": text}] for side, text in sides.items()}
    prompt = [{"role": "user", "content": question}]
    return {"prompt": prompt, **answers, "source": "s", "kind": "k", "place": f"f:{place}"}


def test_repeated_and_contradictory_conversations():
    """Equal rows, and equal questions with another answer, are counted apart, each with its first case."""
    rows = [
        conversation(1, "Q", "A"),
        conversation(2, "P", "A"),
        conversation(3, "Q", "A"),
        conversation(4, "Q", "B"),
        conversation(5, "Q", "A"),
    ]
    duplicates, contradictions = report_repeats(rows)
    assert shows(duplicates, "s: duplicate", ": 2,", "f:3 and f:1")
    assert shows(contradictions, "s: same question", ": 1,", "f:4 and f:1")


def test_a_row_that_a_weight_repeats_is_one_row():
    """So is the same row in two sources: a mixture may want it."""
    row = conversation(1, "Q", "A")
    assert report_repeats([row, row, conversation(1, "Q", "A", source="other")]) == []


def test_repeated_and_contradictory_pairs():
    """A pair with its sides swapped contradicts; another rejected answer does not."""
    rows = [pair(1, "Q", "a", "b"), pair(2, "Q", "b", "a"), pair(3, "Q", "a", "c"), pair(4, "Q", "a", "b")]
    contradictions, duplicates = report_repeats(rows)
    assert shows(contradictions, "s: prefers", ": 1,", "f:2 and f:1")
    assert shows(duplicates, "s: duplicate", ": 1,", "f:4 and f:1")
