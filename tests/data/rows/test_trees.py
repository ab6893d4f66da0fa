# SPDX-License-Identifier: Apache-2.0
"""OpenAssistant's tables of messages give the rows of its files of trees; of ChatGPT's export one branch is read."""

from scratch_gpt.data.rows.conversations import instruction_rows
from scratch_gpt.data.rows.preferences import preference_rows
from wording import shows, user_error


def message(name, parent, role, text, rank=None):
    ids = {"message_id": name, "parent_id": parent, "message_tree_id": "1"}
    return {**ids, "role": role, "text": text, "rank": rank}


TABLE = [
    message("q", None, "prompter", "Q"),
    message("worst", "q", "assistant", "no", 2),
    message("best", "q", "assistant", "yes", 0),
    message("other", "q", "assistant", "perhaps", 1),
    message("more", "best", "prompter", "R"),
    message("last", "more", "assistant", "B", 0),
    {**message("alone", None, "prompter", "Nobody answered."), "message_tree_id": "2"},
]


def test_the_best_ranked_replies_are_a_conversation(read):
    """Down to the last answer; a tree without an answer is reported, and so is a message without its parent."""
    orphan = message("orphan", "gone", "assistant", "x", 0)
    (row,) = read(instruction_rows, [*TABLE, orphan])
    assert [each["content"] for each in row["messages"]] == ["Q", "yes", "R", "B"]
    assert row["place"].endswith("rows.jsonl:1")
    assert shows(" ".join(read.bad_rows.report()), "1 of 2 rows", "as trees", "parents", "rows.jsonl:8")
    assert read.bad_rows.count("s") == 0


def test_tables_of_text_are_read_as_well(read):
    """Of a .csv file: no parent is an empty text, and a rank one of digits; a row that comes twice is one message."""
    table = [{key: "" if value is None else str(value) for key, value in row.items()} for row in TABLE]
    (row,) = read(instruction_rows, [*table, table[1]])
    assert [each["content"] for each in row["messages"]] == ["Q", "yes", "R", "B"]
    (row,) = read(preference_rows, [*table, table[1]])
    assert [row[key][0]["content"] for key in ("chosen", "rejected")] == ["yes", "no"]


def test_the_best_and_the_worst_reply_are_a_pair(read):
    """Replies that nobody ranked are no pair, and unused."""
    (row,) = read(preference_rows, TABLE)
    texts = [row[key][0]["content"] for key in ("prompt", "chosen", "rejected")]
    assert texts == ["Q", "yes", "no"]
    assert shows(read.bad_rows.report()[0], "ranked")
    assert read.bad_rows.count("s") == 0


def test_the_branch_of_an_export_that_was_shown(read):
    """ChatGPT's: neither an answer that was asked for anew, nor calls of its tools, nor empty turns."""

    def node(parent, role, text, recipient="all"):
        content = {"content_type": "text", "parts": [text]}
        return {
            "parent": parent,
            "message": {"author": {"role": role}, "content": content, "recipient": recipient},
        }

    mapping = {
        "root": {"parent": None, "message": None},
        "a": node("root", "system", ""),
        "b": node("a", "user", "Q"),
        "c": node("b", "assistant", "no"),
        "d": node("b", "assistant", "search", "browser"),
        "e": node("d", "tool", "found"),
        "f": node("e", "assistant", ""),
        "g": node("f", "assistant", "  A"),
    }
    (row,) = read(instruction_rows, [{"title": "t", "mapping": mapping, "current_node": "g"}])
    assert row["messages"] == [
        {"role": "user", "content": "Q"},
        {"role": "assistant", "content": "  A"},
    ]
    mapping["b"]["message"]["content"]["parts"] = [{"content_type": "image_asset_pointer"}, "Q"]
    with user_error("too_many_bad_rows", "image_asset_pointer"):
        read(instruction_rows, [{"mapping": mapping, "current_node": "g"}])
