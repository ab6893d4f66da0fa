# SPDX-License-Identifier: Apache-2.0
"""Judged answers: every public layout becomes a pair or a labeled answer, ties are unused, and what cannot is a bad row."""

import pytest

from scratch_gpt import primer
from scratch_gpt.data.rows.preferences import feedback_rows, preference_rows
from scratch_gpt.data.sources.bad_rows import BadRows
from scratch_gpt.data.sources.source import parse_sources
from wording import shows, user_error


def user(content):
    return {"role": "user", "content": content}


def assistant(content):
    return {"role": "assistant", "content": content}


POLITE = {
    "prompt": [user("Q")],
    "chosen": [assistant("yes")],
    "rejected": [assistant("no")],
    "margin": 0.0,
    "source": "s",
    "kind": "s",
}
GPT = {"from": "gpt", "value": "yes"}
NO = [user("Q"), assistant("no")]
PREFERENCES = [
    {"prompt": "Q", "chosen": "yes", "rejected": "no"},
    {"instruction": "Q", "input": "", "output": "yes", "chosen": "yes", "rejected": "no"},
    {"question": "Q", "chosen": "yes", "rejected": "no"},
    {"chosen": [user("Q"), assistant("yes")], "rejected": [user("Q"), assistant("no")]},
    {"prompt": "Q", "chosen": [user("Q"), assistant("yes")], "rejected": [user("Q"), assistant("no")]},
    {"prompt": [user("Q")], "chosen": [assistant("yes")], "rejected": [assistant("no")]},
    {"chosen": "\n\nHuman: Q\n\nAssistant: yes", "rejected": "\n\nHuman: Q\n\nAssistant: no"},
    {"conversations": [{"from": "human", "value": "Q"}], "chosen": GPT, "rejected": {**GPT, "value": "no"}},
    {"prompt": "Q", "chosen": "yes", "rejected": "no", "score_chosen": 4, "score_rejected": 1.5},
    {"prompt": "Q", "chosen": "yes", "rejected": "no", "chosen_score": "4", "rejected_score": "1.5"},
    {"prompt": "Q", "response_0": "no", "response_1": "yes", "better_response_id": "1"},
    {"prompt": "Q", "generations": ["no", "yes"], "ratings": ["1", "2"]},
    {"prompt": "Q", "preferred": "yes", "dispreferred": "no"},
    {"prompt": "\n\nHuman: Q\n\nAssistant:", "chosen": "yes", "rejected": "no"},
    {
        "input": {"messages": [user("Q")]},
        "preferred_output": [assistant("yes")],
        "non_preferred_output": NO[1:],
    },
    {
        "prompt": "Q",
        "answers": [
            {"answer": answer, "rank": rank} for answer, rank in (("so so", 2), ("yes", 1), ("no", 7))
        ],
    },
    {"question": "Q", "answers": [{"text": "yes", "pm_score": 3}, {"text": "no", "pm_score": 0}]},
    {
        "message_tree_id": "1",
        "prompt": {"text": "Q", "replies": [{"text": "no", "rank": 1}, {"text": "yes", "rank": 0}]},
    },
    {"question": "Q", "response_j": "yes", "response_k": "no"},
    {"question": {"full_text": "Q"}, "answer_0": "no", "answer_1": "yes", "score_0": -0.5, "score_1": 0.5},
    {"info": {"post": "Q"}, "summaries": [{"text": "no"}, {"text": "yes"}], "choice": 1},
    {"input": "Q", "generations": ["yes", "no"], "rating": [9, 1]},
    {"history": "Q", "human_ref_A": "yes", "human_ref_B": "no", "labels": 1, "score_A": 9},
    {"history": "Q", "human_ref_A": "no", "human_ref_B": "yes", "labels": 0},
    {"prompt": "Q", "response_0": "no", "response_1": "yes", "better_response_id": 1, "safer_response_id": 0},
    {"winner": "model_a", "conversation_a": [user("Q"), assistant("yes")], "conversation_b": NO, "turn": 1},
    {"winner": "model_b", "conversation_a": NO, "conversation_b": [user("Q"), assistant("yes")]},
    {"prompt": "Q", "response_a": "no", "response_b": "yes", "winner": "model_b"},
    {
        "prompt": '["Q"]',
        "response_a": '["no"]',
        "response_b": '["yes"]',
        "winner_model_a": 0,
        "winner_model_b": 1,
        "winner_tie": 0,
    },
    # of a .csv file
    {"prompt": "Q", "response_a": "yes", "response_b": "no", "winner_model_a": "1", "winner_model_b": "0"},
    {"prompt": "Q", "completions": ["no", "yes"], "scores": [1, 2]},
    {
        "instruction": "Q",
        "completions": [
            {"response": "so so", "overall_score": 5.0},
            {"response": "no", "overall_score": 1.0},
            {"response": "yes", "overall_score": 9.0},
        ],
    },
]


@pytest.mark.parametrize("row", PREFERENCES)
def test_preference_layouts_become_one(read, row):
    """Texts, lists of messages, HH transcripts and UltraFeedback's scored completions give the same pair."""
    (found,) = read(preference_rows, [row])
    assert found.pop("place").endswith("rows.jsonl:1")
    assert found == POLITE


@pytest.mark.parametrize(
    "row",
    [
        {"context": [user("Q")], "response1": "yes", "response2": "no", "overall_preference": -2},
        {"context": [user("Q")], "response1": "no", "response2": "yes", "overall_preference": 2},
        {"prompt": "Q", "response_1": "no", "response_2": "yes", "preference_strength": 2},
    ],
)
def test_a_strength_of_preference_is_a_margin(read, row):
    """HelpSteer's is negative where the first answer is better; 0 is a tie."""
    (found,) = read(preference_rows, [row])
    assert (found["chosen"], found["margin"]) == ([assistant("yes")], 2.0)
    column = next(reversed(row))
    assert len(read(preference_rows, [row, {**row, column: 0}])) == 1
    assert "tie" in read.bad_rows.report()[0]


def test_completions_of_equal_score_hold_no_pair(read):
    """They are left out and told, however many they are; a file of nothing else is an error."""
    tie = {"instruction": "Q", "completions": [{"response": "a", "score": 3}, {"response": "b", "score": 3}]}
    assert len(read(preference_rows, [tie, PREFERENCES[0], tie])) == 1
    assert read.bad_rows.count("s") == 0
    (line,) = read.bad_rows.report()
    assert shows(line, "2 of 3 rows", "line 1:", "score")
    with user_error("source_empty", "score", source="s"):
        read(preference_rows, [tie])


def test_margin_is_a_column_where_the_source_says_so(read):
    """By how much an answer is better may be given; what is no finite number is a bad row."""
    columns = {"margin": "difference"}
    good = {**PREFERENCES[0], "difference": 2}
    assert read(preference_rows, [good], columns=columns)[0]["margin"] == 2.0
    assert read(preference_rows, [good])[0]["margin"] == 0.0
    assert read(preference_rows, [{**good, "margin": 3}])[0]["margin"] == 3.0
    for value in (float("nan"), "much", True):
        assert len(read(preference_rows, [good, {**good, "difference": value}], columns=columns)) == 1
        assert "'difference'" in read.bad_rows.report()[0]


def test_long_transcript_keeps_all_turns(read):
    """The prompt of an HH pair is everything before the last answer, blank lines and names inside included."""
    start = "\n\nHuman: One\n\ntwo. Human: no\n\nAssistant: Three\n\nHuman: Four\n\nAssistant:"
    (row,) = read(preference_rows, [{"chosen": start + " Good.\n\nBye.", "rejected": start + " Bad."}])
    assert row["prompt"] == [user("One\n\ntwo. Human: no"), assistant("Three"), user("Four")]
    assert (row["chosen"], row["rejected"]) == ([assistant("Good.\n\nBye.")], [assistant("Bad.")])


BAD_PREFERENCES = {
    ("'completions'", "two"): {"prompt": "Q", "completions": [{"response": "a", "score": 1}]},
    ("overall_score", "score", "None"): {
        "prompt": "Q",
        "completions": [{"response": "a", "score": 1}, {"response": "b"}],
    },
    ("'scores'",): {"prompt": "Q", "completions": ["a", "b"], "scores": [1]},
    ("column 'prompt'",): {"chosen": "a", "rejected": "b"},
    ("'rejected'", "null"): {"prompt": "Q", "chosen": "a", "rejected": None},
    ("'winner'", "'nobody'", "model_a"): {
        "prompt": "Q",
        "response_a": "a",
        "response_b": "b",
        "winner": "nobody",
    },
    ("'better_response_id'", "2"): {
        "prompt": "Q",
        "response_0": "a",
        "response_1": "b",
        "better_response_id": 2,
    },
    ("score", "1", "3"): {**PREFERENCES[0], "score_chosen": 1, "score_rejected": 3},
    ("'label'", "kto"): {"prompt": "Q", "completion": "a", "label": True},
    ("'chosen'", "int"): {"prompt": "Q", "chosen": 5, "rejected": "b"},
}


@pytest.mark.parametrize(("shown", "row"), BAD_PREFERENCES.items())
def test_unusable_row_is_left_out_with_its_reason(read, shown, row):
    """A row among good ones that does not fit is skipped and reported; alone it is an error with file and line."""
    assert len(read(preference_rows, [PREFERENCES[0], row, PREFERENCES[0]])) == 2
    assert read.bad_rows.count("s") == 1
    with user_error("too_many_bad_rows", "rows.jsonl:1", *shown):
        read(preference_rows, [row])


TIES = {
    ("equal",): {"prompt": "Q", "chosen": "same", "rejected": "same"},
    ("a tie",): {"winner": "tie (inconsistent)", "conversation_a": NO, "conversation_b": NO},
    ("tie",): {"winner": "tie (bothbad)", "conversation_a": NO, "conversation_b": NO},
    ("same score",): {**PREFERENCES[0], "score_chosen": 2, "score_rejected": 2.0},
    ("same message",): {"chosen": [user("Q"), assistant("a")], "rejected": [user("R"), assistant("a")]},
    ("'chosen'", "message 2 (assistant)"): {
        "chosen": "\n\nHuman: Q\n\nAssistant:",
        "rejected": "\n\nHuman: Q\n\nAssistant: b",
    },
}


@pytest.mark.parametrize(("shown", "row"), TIES.items())
def test_rows_without_a_preference_are_counted_apart(read, shown, row):
    """Ties, empty answers and answers to different questions are reported, however many they are."""
    assert len(read(preference_rows, [row, PREFERENCES[0], row])) == 1
    assert read.bad_rows.count("s") == 0
    assert shows(read.bad_rows.report()[0], "2 of 3 rows", "line 1:", *shown)


def test_conversations_that_part_early_share_the_turns_before(read):
    """The prompt is what both have before the first answer that differs, or after which the user goes on otherwise."""
    system, first = {"role": "system", "content": "S"}, [user("Q"), assistant("A")]
    for shared, chosen, rejected in (
        (
            [user("Q")],
            [assistant("a"), user("R"), assistant("c")],
            [assistant("b"), user("T"), assistant("d")],
        ),
        (
            [system, user("Q")],
            [*first[1:], user("R"), assistant("c")],
            [*first[1:], user("T"), assistant("d")],
        ),
        ([*first, user("R")], [assistant("c")], [assistant("d"), user("T"), assistant("e")]),
    ):
        (row,) = read(preference_rows, [{"chosen": shared + chosen, "rejected": shared + rejected}])
        assert (row["prompt"], row["chosen"], row["rejected"]) == (shared, chosen, rejected)
    # where one answers and the other asks on, nothing is compared
    unlike = {"chosen": [user("Q"), assistant("a")], "rejected": [user("Q"), user("R"), assistant("b")]}
    assert (
        len(read(preference_rows, [unlike, {"chosen": first, "rejected": [user("Q"), assistant("B")]}])) == 1
    )
    assert read.bad_rows.count("s") == 0


JUDGED = [
    {"prompt": "Q", "completion": "A", "label": True},
    {"prompt": [user("Q")], "completion": [assistant("A")], "label": 1},
    {"prompt": "Q", "response": "A", "label": "up"},
    {"instruction": "Q", "input": "", "output": "A", "kto_tag": True},
    {"messages": [user("Q"), assistant("A")], "label": True},
    {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}], "kto_tag": True},
]


@pytest.mark.parametrize("row", JUDGED)
def test_layouts_of_judged_answers_become_one(read, row):
    """TRL's and LLaMA-Factory's, as texts or messages; the label is a truth value, a number or a word."""
    liked = {"prompt": [user("Q")], "completion": [assistant("A")], "label": True, "source": "s", "kind": "s"}
    (found,) = read(feedback_rows, [row])
    assert found.pop("place").endswith("rows.jsonl:1")
    assert found == liked
    label = "label" if "label" in row else "kto_tag"
    assert read(feedback_rows, [{**row, label: 0}])[0]["label"] is False
    with user_error("too_many_bad_rows", label, "perhaps"):
        read(feedback_rows, [{**row, label: "perhaps"}])


def test_an_answer_that_nobody_judged_is_unused(read):
    """Most answers of a product get neither thumb."""
    assert len(read(feedback_rows, [{**JUDGED[0], "label": None}, JUDGED[0], JUDGED[0]])) == 2
    assert shows(read.bad_rows.report()[0], "1 of 3 rows", "'label'")
    assert read.bad_rows.count("s") == 0


def test_a_pair_is_a_liked_and_a_disliked_answer(read):
    """Pairs of files and of the primer serve where single answers are asked for."""
    liked, disliked = read(feedback_rows, [PREFERENCES[0]])
    assert (liked["completion"], liked["label"]) == ([assistant("yes")], True)
    assert (disliked["completion"], disliked["label"]) == ([assistant("no")], False)
    assert liked["prompt"] == disliked["prompt"] == [user("Q")]
    sources = parse_sources([{"name": "p", "path": "primer"}])
    rows, pairs = feedback_rows(sources, "dev", BadRows(), 1), primer.preferences("dev", 1)
    assert [row["completion"] for row in rows if not row["label"]] == [pair["rejected"] for pair in pairs]


def test_sides_of_several_messages_answer_the_prompt(read):
    """An agent's way to its answer, beside a bare answer or another way."""
    ask, good, bad = (
        {"role": role, "content": text}
        for role, text in (("user", "q"), ("assistant", "good"), ("assistant", "bad"))
    )
    call = {"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": {}}]}
    way = [call, {"role": "tool", "content": "2"}, good]
    for rejected in ([bad], [good, {"role": "user", "content": "no"}, bad]):
        (found,) = read(preference_rows, [{"prompt": [ask], "chosen": way, "rejected": rejected}])
        assert found["prompt"] == [ask]
        assert [message["role"] for message in found["chosen"]] == ["assistant", "tool", "assistant"]
        assert found["rejected"][-1]["content"] == "bad"
