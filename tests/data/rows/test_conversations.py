# SPDX-License-Identifier: Apache-2.0
"""Rows for post-training: every public layout becomes the one layout, and what cannot is a bad row."""

import json

import pytest

from scratch_gpt import primer
from scratch_gpt.data.rows.conversations import instruction_rows, preference_rows, split_rows
from scratch_gpt.data.rows.examples import example_rows
from scratch_gpt.data.sources.bad_rows import BadRows
from scratch_gpt.data.sources.source import parse_sources
from wording import shows, user_error


def user(content):
    return {"role": "user", "content": content}


def assistant(content):
    return {"role": "assistant", "content": content}


@pytest.fixture
def read(tmp_path):
    """Writes rows to a file and reads them back with a reader."""

    def run(reader, rows, **settings):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        sources = parse_sources([{"name": "s", "path": str(path), **settings}])
        run.bad_rows = BadRows()
        if reader is example_rows:
            return example_rows(sources[0], run.bad_rows)[1]
        return reader(sources, "train", run.bad_rows, 0)

    return run


CHAT = [user("Q"), assistant("A")]
INSTRUCTIONS = [
    ({"messages": CHAT}, {}),
    ({"prompt": "Q", "completion": " A\n"}, {}),
    ({"prompt": [user("Q")], "completion": [assistant("A")]}, {}),
    ({"instruction": "Q", "input": "", "output": "A", "category": "x"}, {}),
    ({"instruction": "Q", "context": None, "response": "A"}, {}),
    ({"question": "Q", "answer": "A"}, {}),
    ({"ask": "Q", "say": "A", "prompt": "no", "completion": "no"}, {"prompt": "ask", "response": "say"}),
    ({"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]}, {}),
    ({"messages": [*CHAT, user("and nobody answered this")]}, {}),
    ({"question": "Q", "answers": {"text": ["A", "a"], "answer_start": [0, 9]}}, {}),
    ({"en": "Q", "de": "A", "prompt": "no", "completion": "no"}, {"source": "en", "target": "de"}),
]


@pytest.mark.parametrize(("row", "columns"), INSTRUCTIONS)
def test_instruction_layouts_become_one(read, row, columns):
    """The usual layouts, and columns that the source names, give the same conversation."""
    (found,) = read(instruction_rows, [row], columns=columns)
    assert found.pop("place").endswith("rows.jsonl:1")
    assert found == {"messages": CHAT, "source": "s", "kind": "s"}


def test_context_follows_the_instruction_after_a_blank_line(read):
    """Dolly's input is part of the question."""
    (row,) = read(instruction_rows, [{"instruction": "Sum up.", "input": "A tale.\n", "output": "Short."}])
    assert row["messages"] == [user("Sum up.\n\nA tale."), assistant("Short.")]


def test_kind_is_a_column_where_the_source_says_so(read):
    """Reports can group by a column of the rows."""
    (row,) = read(
        instruction_rows,
        [{"instruction": "Q", "input": "", "output": "A", "category": "open_qa"}],
        columns={"kind": "category"},
    )
    assert row["kind"] == "open_qa"


def test_template_writes_the_prompt_for_tuning_and_for_measuring(read):
    """One source with a template gives a conversation, and a benchmark example with the same prompt."""
    row = {"en": "a {dog}", "de": "ein Hund"}
    settings = {
        "columns": {"source": "en", "target": "de"},
        "template": "Translate into German: {source}",
    }
    (conversation,) = read(instruction_rows, [row], **settings)
    assert conversation["messages"] == [user("Translate into German: a {dog}"), assistant("ein Hund")]
    (example,) = read(example_rows, [row], **settings)
    assert (example.prompt, example.references) == ("Translate into German: a {dog}", ("ein Hund",))
    row = {"question": "Who?", "context": "Ann came.", "answers": ["Ann"]}
    settings = {"template": "Answer {question} from: {context}"}
    assert read(instruction_rows, [row], **settings)[0]["messages"][0] == user("Answer Who? from: Ann came.")
    assert read(example_rows, [row], **settings)[0].prompt == "Answer Who? from: Ann came."


def test_a_role_that_a_row_lacks_leaves_nothing_in_the_template(read):
    """An optional context may be missing."""
    rows = [{"instruction": "Sum up.", "input": "", "output": "Short."}]
    (row,) = read(instruction_rows, rows, template="{prompt}\n{context}")
    assert row["messages"][0] == user("Sum up.")


def test_system_prompts(read):
    """A conversation is opened by its own system message, else by the source's, else by the row's column."""
    own = [{"role": "system", "content": "Be brief."}, *CHAT]
    assert read(instruction_rows, [{"messages": own}], system="Be kind.")[0]["messages"] == own
    of_source = [{"role": "system", "content": "Be kind."}, *CHAT]
    row = {"instruction": "Q", "output": "A", "system": "Be odd.", "input": ""}
    assert read(instruction_rows, [row], system="Be kind.")[0]["messages"] == of_source
    assert read(instruction_rows, [row])[0]["messages"][0] == {"role": "system", "content": "Be odd."}
    pair = {"question": "Q", "chosen": "yes", "rejected": "no", "system": "Be kind."}
    assert read(preference_rows, [pair])[0]["prompt"] == of_source[:-1]


def test_roles_that_do_not_belong_together_are_refused(read):
    """Columns of two layouts, and a placeholder that is no role, are mistakes of the YAML."""
    rows = [{"a": "Q", "b": "A"}]
    with user_error("roles_mixed", roles=["prompt", "target"]):
        read(instruction_rows, rows, columns={"prompt": "a", "target": "b"})
    with user_error("unknown_role", "'s'", "template", "source", role="sourse"):
        read(instruction_rows, rows, columns={"source": "a", "target": "b"}, template="To German: {sourse}")


def test_templates_that_would_do_nothing_are_refused(read):
    """One that is the same for every row, and one for rows that are whole conversations."""
    with user_error("placeholder_missing", "'s'", setting="template"):
        read(instruction_rows, [{"prompt": "Q", "completion": "A"}], template="Answer this.")
    with user_error("too_many_bad_rows", "rows.jsonl:1", "template"):
        read(instruction_rows, [{"messages": CHAT}], template="Answer: {prompt}")
    with user_error("too_many_bad_rows", "rows.jsonl:1", "template"):
        read(preference_rows, [PREFERENCES[3]], template="Answer: {prompt}")


POLITE = {
    "prompt": [user("Q")],
    "chosen": [assistant("yes")],
    "rejected": [assistant("no")],
    "margin": 0.0,
    "source": "s",
    "kind": "s",
}
PREFERENCES = [
    {"prompt": "Q", "chosen": "yes", "rejected": "no"},
    {"instruction": "Q", "input": "", "output": "yes", "chosen": "yes", "rejected": "no"},
    {"question": "Q", "chosen": "yes", "rejected": "no"},
    {"chosen": [user("Q"), assistant("yes")], "rejected": [user("Q"), assistant("no")]},
    {"prompt": "Q", "chosen": [user("Q"), assistant("yes")], "rejected": [user("Q"), assistant("no")]},
    {"prompt": [user("Q")], "chosen": [assistant("yes")], "rejected": [assistant("no")]},
    {"chosen": "\n\nHuman: Q\n\nAssistant: yes", "rejected": "\n\nHuman: Q\n\nAssistant: no"},
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


def test_completions_of_equal_score_hold_no_pair(read):
    """They are left out and told, however many they are; a file of nothing else is an error."""
    tie = {"instruction": "Q", "completions": [{"response": "a", "score": 3}, {"response": "b", "score": 3}]}
    assert len(read(preference_rows, [tie, PREFERENCES[0], tie])) == 1
    assert read.bad_rows.count("s") == 0
    (line,) = read.bad_rows.report()
    assert shows(line, "2 of 3 rows", "line 1:", "score")
    with user_error("source_empty", source="s"):
        read(preference_rows, [tie])


def test_margin_is_a_column_where_the_source_says_so(read):
    """By how much an answer is better may be given; what is no finite number is a bad row."""
    columns = {"margin": "difference"}
    good = {**PREFERENCES[0], "difference": 2}
    assert read(preference_rows, [good], columns=columns)[0]["margin"] == 2.0
    assert read(preference_rows, [good])[0]["margin"] == 0.0
    for value in (float("nan"), "much", True):
        assert len(read(preference_rows, [good, {**good, "difference": value}], columns=columns)) == 1
        assert "'margin'" in read.bad_rows.report()[0]


def test_long_transcript_keeps_all_turns(read):
    """The prompt of an HH pair is everything before the last answer, blank lines and names inside included."""
    start = "\n\nHuman: One\n\ntwo. Human: no\n\nAssistant: Three\n\nHuman: Four\n\nAssistant:"
    (row,) = read(preference_rows, [{"chosen": start + " Good.\n\nBye.", "rejected": start + " Bad."}])
    assert row["prompt"] == [user("One\n\ntwo. Human: no"), assistant("Three"), user("Four")]
    assert (row["chosen"], row["rejected"]) == ([assistant("Good.\n\nBye.")], [assistant("Bad.")])


BAD_INSTRUCTIONS = {
    ("prompt+completion", "(columns: text)"): {"text": "x"},
    ("'response'", "empty"): {"prompt": "Q", "completion": " "},
    ("system, user, assistant",): {"messages": [{"role": "bot", "content": "x"}]},
    ("conversation", "assistant"): {"messages": [user("Q")]},
    ("'messages'", "list"): {"messages": "hello"},
    ("'messages.content'", "int"): {"messages": [user(5), assistant("A")]},
}
BAD_PREFERENCES = {
    ("chosen", "rejected", "equal"): {"prompt": "Q", "chosen": "same", "rejected": "same "},
    ("'completions'", "two"): {"prompt": "Q", "completions": [{"response": "a", "score": 1}]},
    ("overall_score", "score", "None"): {
        "prompt": "Q",
        "completions": [{"response": "a", "score": 1}, {"response": "b"}],
    },
    ("chosen", "rejected", "prompt"): {
        "chosen": [user("Q"), assistant("a")],
        "rejected": [user("P"), assistant("b")],
    },
    ("'chosen.content'", "empty"): {
        "chosen": "\n\nHuman: Q\n\nAssistant:",
        "rejected": "\n\nHuman: Q\n\nAssistant: b",
    },
    ("column 'prompt'",): {"chosen": "a", "rejected": "b"},
}


@pytest.mark.parametrize(
    ("reader", "good", "shown", "row"),
    [(instruction_rows, {"prompt": "Q", "completion": "A"}, *bad) for bad in BAD_INSTRUCTIONS.items()]
    + [(preference_rows, PREFERENCES[0], *bad) for bad in BAD_PREFERENCES.items()],
)
def test_unusable_row_is_left_out_with_its_reason(read, reader, good, shown, row):
    """A row among good ones that does not fit is skipped and reported; alone it is an error with file and line."""
    assert len(read(reader, [good, row, good])) == 2
    assert read.bad_rows.count("s") == 1
    with user_error("too_many_bad_rows", "rows.jsonl:1", *shown):
        read(reader, [row])


def test_unknown_role_in_columns_is_refused(read):
    """A typing error in `columns` is not silently ignored."""
    with user_error("unknown_role", "'s'", "columns", "prompt", role="promt"):
        read(instruction_rows, [{"prompt": "Q", "completion": "A"}], columns={"promt": "prompt"})


def test_named_column_that_is_missing_is_said(read):
    """A column named in `columns` that the rows lack is named, with those they have."""
    with user_error("too_many_bad_rows", "'ask'", "prompt, completion"):
        read(
            instruction_rows,
            [{"prompt": "Q", "completion": "A"}],
            columns={"prompt": "ask", "response": "say"},
        )


def test_empty_file_is_refused(read):
    """No rows at all is a mistake, not an empty data set."""
    with user_error("source_empty", source="s"):
        read(instruction_rows, [])


def test_weight_repeats_or_samples_rows(read):
    """Weight 2.5 uses each row twice and a random half once more, the same half for the same seed; 0 uses none."""
    rows = [{"prompt": f"Q{number}", "completion": "A"} for number in range(10)]
    counts = {}
    for row in read(instruction_rows, rows, weight=2.5):
        question = row["messages"][0]["content"]
        counts[question] = counts.get(question, 0) + 1
    assert sorted(counts.values()) == [2] * 5 + [3] * 5
    assert read(instruction_rows, rows, weight=2.5) == read(instruction_rows, rows, weight=2.5)
    sources = parse_sources(
        [{"name": "p", "path": "primer"}, {"name": "none", "path": "primer", "weight": 0}]
    )
    assert {row["source"] for row in instruction_rows(sources, "train", BadRows(), 0)} == {"p"}


def test_primer_rows_come_from_the_asked_split():
    """The embedded corpus gives its own split, in the same layout as files."""
    sources = parse_sources([{"name": "p", "path": "primer"}])
    rows = instruction_rows(sources, "dev", BadRows(), 1)
    assert [row["messages"] for row in rows] == [row["messages"] for row in primer.instructions("dev", 1)]
    assert set(rows[0]) == {"messages", "kind", "source", "place"}
    pairs = preference_rows(sources, "dev", BadRows(), 1)
    assert [row["chosen"] for row in pairs] == [row["chosen"] for row in primer.preferences("dev", 1)]
    assert set(pairs[0]) == {"prompt", "chosen", "rejected", "margin", "kind", "source", "place"}


def test_split_is_by_the_opening_question(read):
    """Rows that open alike are on one side, about the asked share is held out, and no row is lost."""
    rows = [
        {"messages": [user(f"Q{number // 2}"), assistant(f"A{number}")], "source": "s", "kind": "s"}
        for number in range(2000)
    ]
    train, held = split_rows(rows, 0.1, seed=0)
    openings = [{row["messages"][0]["content"] for row in side} for side in (train, held)]
    assert not openings[0] & openings[1]
    assert len(train) + len(held) == 2000
    assert 60 < len(openings[1]) < 140
    assert split_rows(rows, 0.1, seed=1)[1] != held


def test_split_keeps_instructions_and_preferences_apart_alike():
    """A question held out of the instruction rows is held out of the preference pairs too."""
    for number in range(50):
        question = user(f"Q{number}")
        conversation = {"messages": [{"role": "system", "content": "Be kind."}, question, assistant("A")]}
        pair = {"prompt": [question], "chosen": [assistant("A")], "rejected": [assistant("B")]}
        assert len(split_rows([conversation], 0.5, 0)[1]) == len(split_rows([pair], 0.5, 0)[1])
