# SPDX-License-Identifier: Apache-2.0
"""Rows for post-training: every public layout becomes the one layout, and what cannot is a bad row."""

import json

import pytest

from scratch_gpt import primer
from scratch_gpt.data.rows.conversations import instruction_rows, split_rows
from scratch_gpt.data.rows.examples import example_rows
from scratch_gpt.data.rows.preferences import preference_rows
from scratch_gpt.data.sources.bad_rows import BadRows
from scratch_gpt.data.sources.source import parse_sources
from wording import shows, user_error


def user(content):
    return {"role": "user", "content": content}


def assistant(content):
    return {"role": "assistant", "content": content}


CHAT = [user("Q"), assistant("A")]
INSTRUCTIONS = [
    ({"messages": CHAT}, {}),
    ({"prompt": "Q", "completion": "A"}, {}),
    ({"prompt": "Q", "response": "A"}, {}),
    ({"prompt": [user("Q")], "completion": [assistant("A")]}, {}),
    ({"instruction": "Q", "input": "", "output": "A", "category": "x"}, {}),
    ({"instruction": "Q", "context": None, "response": "A"}, {}),
    ({"question": "Q", "answer": "A"}, {}),
    ({"ask": "Q", "say": "A", "prompt": "no", "completion": "no"}, {"prompt": "ask", "response": "say"}),
    ({"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]}, {}),
    ({"messages": [*CHAT, user("and nobody answered this")]}, {}),
    ({"question": "Q", "answers": {"text": ["A", "a"], "answer_start": [0, 9]}}, {}),
    ({"en": "Q", "de": "A", "prompt": "no", "completion": "no"}, {"source": "en", "target": "de"}),
    ({"side": {"q": ["no", "Q"], "a": "A"}}, {"prompt": "side.q.1", "response": "side.a"}),
    ({"question": "Q", "response": "A"}, {}),
    ({"query": "Q", "answers": ["A"], "query_id": 1}, {}),
    ({"questions": ["Q"], "answers": {"input_text": ["A"], "answer_start": [0]}}, {}),
    ({"chat_messages": [{"sender": "human", "text": "Q"}, {"sender": "assistant", "text": "A"}]}, {}),
    ({"conversation": [{"speaker": "user", "text": "Q"}, {"speaker": "assistant", "text": "A"}]}, {}),
    ({"conversations": [["Q", "A"]]}, {}),
    ({"question": "Q", "answer": "A", "reasoning": "off"}, {}),
    ({"problem": "Q", "solution": "A"}, {}),
    ({"problem": "Q", "generated_solution": "A", "expected_answer": "1"}, {}),
    ({"inputs": "Q", "targets": "A"}, {}),
    ({"prompt": "\n\nHuman: Q\n\nAssistant:", "completion": "A"}, {}),
    ({"conversations": ["Q", "A"]}, {}),
    ({"id": "0", "data": ["Q", "A"]}, {}),
    ({"conversation": [{"input": "Q", "output": "A"}]}, {}),
    ({"contents": [{"role": r, "parts": [{"text": t}]} for r, t in (("user", "Q"), ("model", "A"))]}, {}),
    ({"text": "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n"}, {}),
    ({"chosen": "\n\nHuman: Q\n\nAssistant: A", "rejected": "x"}, {"messages": "chosen"}),
    ({"items": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]}, {"messages": "items"}),
    ({"input": "[|Human|] Q\n[|AI|] A\n[|Human|] "}, {"messages": "input"}),
    ({"prompt": "Q", "chosen": "A", "rejected": "x"}, {"response": "chosen"}),
    (
        {
            "message_tree_id": "1",
            "prompt": {
                "text": "Q",
                "role": "prompter",
                "replies": [
                    {"text": text, "role": "assistant", "rank": rank, "replies": []}
                    for text, rank in (("no", 1), ("A", 0), ("nobody", None))
                ],
            },
        },
        {},
    ),
]


@pytest.mark.parametrize(("row", "columns"), INSTRUCTIONS)
def test_instruction_layouts_become_one(read, row, columns):
    """The usual layouts, and columns that the source names, give the same conversation."""
    (found,) = read(instruction_rows, [row], columns=columns)
    assert found.pop("place").endswith("rows.jsonl:1")
    assert found == {"messages": CHAT, "source": "s", "kind": "s"}


@pytest.mark.parametrize(
    ("column", "up", "down"),
    [("label", True, False), ("kto_tag", "true", "false"), ("label", "👍", "👎")],
)
def test_disliked_answers_are_not_learned(read, column, up, down):
    """Rows of KTO: those with thumbs down are left out and counted, however many they are."""
    rows = [
        {"prompt": f"Q{number}", "completion": "A", column: (number < 2 and up) or down}
        for number in range(5)
    ]
    found = read(instruction_rows, rows)
    assert [row["messages"][0]["content"] for row in found] == ["Q0", "Q1"]
    assert shows(" ".join(read.bad_rows.report()), "3 of 5", "line 3", column, "kto")
    with user_error("source_empty", "kto"):
        read(instruction_rows, rows[2:])


def test_other_labels_are_no_judgement(read):
    """A class of the question, or none at all."""
    rows = [
        {"prompt": "Q", "completion": "A", "label": label} for label in ("sports", 7, 0, "negative", None)
    ]
    assert len(read(instruction_rows, rows)) == 5


def test_context_follows_the_instruction_after_a_blank_line(read):
    """Dolly's input is part of the question."""
    (row,) = read(instruction_rows, [{"instruction": "Sum up.", "input": "A tale.\n", "output": "Short."}])
    assert row["messages"] == [user("Sum up.\n\nA tale.\n"), assistant("Short.")]


def test_the_whole_question_may_be_in_the_context(read):
    """Of Alpaca's rows without an instruction; a question about a text cannot be left out."""
    row = {"instruction": "", "input": "Q", "output": "A"}
    assert read(instruction_rows, [row])[0]["messages"] == CHAT
    with user_error("too_many_bad_rows", "'question'"):
        read(instruction_rows, [{"question": "", "context": "C", "answer": "A"}])


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
    empty = [{"role": "system", "content": ""}, *CHAT]
    assert read(instruction_rows, [{"messages": empty}])[0]["messages"] == CHAT


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
        read(
            preference_rows, [{"chosen": CHAT, "rejected": [CHAT[0], assistant("B")]}], template="A: {prompt}"
        )


BAD_ROWS = {
    ("prompt+completion", "(columns: body)", "messages: NAME"): {"body": "x"},
    ("'text'", "plain text", "shards"): {"text": "A cat sat."},
    ("'completion'", "empty"): {"prompt": "Q", "completion": " "},
    ("'completion'", "null"): {"prompt": "Q", "completion": None},
    ("'messages'", "'oracle'", "roles: {oracle: user}"): {"messages": [{"role": "oracle", "content": "x"}]},
    ("conversation", "assistant"): {"messages": [user("Q")]},
    ("'messages'", "list"): {"messages": "hello"},
    ("'messages.content'", "int"): {"messages": [user(5), assistant("A")]},
    ("'messages.content'", "'image_url'"): {"messages": [user([{"type": "image_url"}]), assistant("A")]},
    ("'messages.content'", "dict"): {"messages": [user("Q"), assistant({"a": 1})]},
    ("'messages'", "tool", "[1]"): {"messages": [user("Q"), {**assistant(None), "tool_calls": [[1]]}]},
    ("'messages.tool_calls'", "JSON"): {
        "messages": [user("Q"), {**assistant(None), "tool_calls": [{"name": "f", "arguments": "{"}]}]
    },
    ("'messages'", "only the assistant"): {
        "messages": [{**user("Q"), "tool_calls": [{"name": "f"}]}, assistant("A")]
    },
    ("'tools'", "5"): {"messages": CHAT, "tools": [5]},
    ("'history'", "question, answer"): {"instruction": "Q", "input": "", "output": "A", "history": [["Q"]]},
    ("'answer'", "right, wrong"): {"question": "Q", "answer": {"right": "A", "wrong": []}},
    ("'conversations'", "roles: {Ann: user, Bo: assistant}"): {
        "conversations": [{"from": name, "value": name} for name in ("system", "Ann", "Bo", "Ann")]
    },
    ("'conversations'", '"from": "human"'): {"conversations": [{"human": "Q", "gpt": "A"}]},
    ("CONTINUE_FINAL_MESSAGE_TAG",): {"prompt": "Q", "completion": "<|im_end|> CONTINUE_FINAL_MESSAGE_TAG "},
    ("'questions'", 1, 2): {"questions": ["Q"], "answers": {"texts": [["A"], ["B"]]}},
    ("'history'",): {"instruction": "Q", "output": "A", "history": ["Q", "A", "R"]},
    ("'messages'", "content", "Q"): {"messages": [{"role": "user", "message": "Q"}]},
    ("'history'", "Python", "parquet"): {"instruction": "Q", "output": "A", "history": "[['Q', 'A']]"},
    ("translation.en", "translation.de"): {"translation": {"en": "Q", "de": "A"}},
}


@pytest.mark.parametrize(("shown", "row"), BAD_ROWS.items())
def test_unusable_row_is_left_out_with_its_reason(read, shown, row):
    """A row among good ones that does not fit is skipped and reported; alone it is an error with file and line."""
    good = {"prompt": "Q", "completion": "A"}
    assert len(read(instruction_rows, [good, row, good])) == 2
    assert read.bad_rows.count("s") == 1
    with user_error("too_many_bad_rows", "rows.jsonl:1", *shown):
        read(instruction_rows, [row])


UNUSED_ROWS = {
    ("'messages'", "message 3 (user)", "empty"): {"messages": [*CHAT, user(" "), assistant("More?")]},
    ("'conversations'", "message 2 (gpt)"): {
        "conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": None}]
    },
    ("'answers'", "no answer"): {
        "question": "Q",
        "context": "C",
        "answers": {"text": [], "answer_start": []},
    },
    ("'answer'", "empty"): {"question": "Q", "answer": " "},
    ("'answers'", "empty"): {"question": "Q", "answers": None},
}


@pytest.mark.parametrize(("shown", "row"), UNUSED_ROWS.items())
def test_rows_that_hold_nothing_to_learn_are_counted_apart(read, shown, row):
    """Empty turns and questions without an answer are reported, however many; a file of nothing else is an error."""
    assert len(read(instruction_rows, [row, {"prompt": "Q", "completion": "A"}, row])) == 1
    assert read.bad_rows.count("s") == 0
    (line,) = read.bad_rows.report()
    assert shows(line, "2 of 3 rows", "line 1:", *shown)
    with user_error("source_empty", "1 of 1 rows", *shown, source="s"):
        read(instruction_rows, [row])


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "def f():\n", "completion": "    return 1\n"},
        {"instruction": "def f():\n", "input": "", "output": "    return 1\n"},
        {"question": "def f():\n", "answer": "    return 1\n"},
        {"source": "def f():\n", "target": "    return 1\n"},
        {"messages": [user("def f():\n"), assistant("    return 1\n")]},
    ],
)
def test_texts_are_not_touched(read, row):
    """An answer keeps the indentation that it begins with and the line break at its end, and so does its question."""
    (found,) = read(instruction_rows, [row])
    assert found["messages"] == [user("def f():\n"), assistant("    return 1\n")]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (5, "5"),
        (0.5, "0.5"),
        (False, "false"),
        ([7, "seven"], "7"),
        (["", "A"], "A"),
        ("[1, 2, 3]", "[1, 2, 3]"),
    ],
)
def test_answers_need_not_be_texts(read, answer, expected):
    """Numbers and truth values are answers as JSON writes them; blank ones beside others do not count."""
    assert read(instruction_rows, [{"question": "Q", "answer": answer}])[0]["messages"][1] == assistant(
        expected
    )


@pytest.mark.parametrize(
    ("history", "before"), [([["Q", "A"]], CHAT), ('[["Q", "A"]]', CHAT), (CHAT, CHAT), ("[]", []), ("", [])]
)
def test_history_comes_before_the_question(read, history, before):
    """LLaMA-Factory's earlier turns, also in the cell of a table or as messages."""
    row = {"instruction": "Q2", "input": "", "output": "A2", "history": history}
    assert read(instruction_rows, [row])[0]["messages"] == [*before, user("Q2"), assistant("A2")]


@pytest.mark.parametrize(
    "row",
    [
        {"story": "C", "questions": ["Q", "R"], "answers": {"input_text": ["A", "B"]}},
        {
            "story": "C",
            "questions": [{"input_text": "Q"}, {"input_text": "R"}],
            "answers": [{"input_text": "A"}, {"input_text": "B"}],
        },
        {"context": "C", "questions": ["Q", "R"], "answers": {"texts": [["A", "a"], ["B"]]}},
    ],
    ids=["coqa", "coqa_file", "quac"],
)
def test_questions_about_one_text_are_a_conversation(read, row):
    """The text comes once, before the first question."""
    (found,) = read(instruction_rows, [row])
    assert found["messages"] == [user("C\n\nQ"), assistant("A"), user("R"), assistant("B")]


def test_passages_of_ms_marco_are_the_context(read):
    row = {"query": "Q", "answers": ["A"], "passages": {"is_selected": [0, 1], "passage_text": ["C", "D"]}}
    (found,) = read(instruction_rows, [row])
    assert found["messages"] == [user("C\n\nD\n\nQ"), assistant("A")]
    (example,) = read(example_rows, [row])
    assert (example.prompt, example.references) == ("C\n\nD\n\nQ", ("A",))


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


def test_columns_by_other_names(read):
    """In other letters, between blanks, inside an object, and those without which a row would be another one."""
    rows = [{"Prompt": "Q", " completion": "A"}]
    assert [m["content"] for m in read(instruction_rows, rows)[0]["messages"]] == ["Q", "A"]
    rows = [{"translation": {"en": "Q", "de": "A"}}]
    columns = {"source": "translation.en", "target": "translation.de"}
    assert [m["content"] for m in read(instruction_rows, rows, columns=columns)[0]["messages"]] == ["Q", "A"]
    rows = [{"question": "Q", "passage": "P", "answer": "A"}]
    assert read(instruction_rows, rows)[0]["messages"][0]["content"] == "P\n\nQ"
    rows = [{"messages": CHAT, "functions": [{"name": "look"}]}]
    assert "look" in read(instruction_rows, rows)[0]["tools"]


CALLED = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]


def test_conversations_in_the_cells_of_a_table(read):
    """As JSON they are read; Python's text of one is named, and so are several texts where one answer belongs."""
    rows = [
        {"prompt": json.dumps(CALLED[:1]), "completion": json.dumps(CALLED[1:])},
        {"prompt": "q", "completion": json.dumps(CALLED[1])},
        {"prompt": "q", "completion": ["a"]},
    ]
    assert [row["messages"] for row in read(instruction_rows, rows)] == [CALLED] * 3
    json_answers = [
        {"prompt": "q", "completion": text} for text in ('{"a": 1}', '[{"role": "x"}]', '["red"]', "{a")
    ]
    assert [row["messages"][1]["content"] for row in read(instruction_rows, json_answers)] == [
        row["completion"] for row in json_answers
    ]
    for bad, reason in ((str(CALLED[1:]), "Python's text"), (["good", "bad"], "completion.0")):
        with user_error("too_many_bad_rows", reason):
            read(instruction_rows, [{"prompt": "q", "completion": bad}])


@pytest.mark.parametrize(
    ("prompt", "completion"),
    [
        ("<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n", "  a<|im_end|>\n"),
        ("<s>[INST] q [/INST]", "  a</s>"),
        ("<|user|>\nq</s>\n<|assistant|>\n", "  a</s>\n"),
        ("### Instruction:\nq\n\n### Response:\n", "  a"),
        ("\n\nHuman: q\n\nAssistant:", "  a"),
    ],
)
def test_ends_of_turns_are_no_text_of_answers(read, prompt, completion):
    (found,) = read(instruction_rows, [{"prompt": prompt, "completion": completion}])
    assert found["messages"][0]["content"].strip() == "q"
    assert found["messages"][1]["content"] == "  a"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"instruction": "q", "input": "  ", "output": "a"}, "q"),
        ({"instruction": "q", "input": float("nan"), "output": "a"}, "q"),
        ({"prompt": "q", "completion": "a", "system": " "}, "q"),
    ],
)
def test_blank_columns_are_none(read, row, message):
    """Blanks, and the NaN of pandas."""
    (found,) = read(instruction_rows, [row])
    assert [turn["content"] for turn in found["messages"]] == [message, "a"]
    with user_error("too_many_bad_rows", "null"):
        read(instruction_rows, [{"prompt": "q", "completion": float("nan")}])


@pytest.mark.parametrize(
    "row",
    [
        {"question": "2+2?", "choices": ["1", "4"], "answer": 1},
        {"question": "2+2?", "options": ["1", "4"], "answer": "B"},
        {"question": "2+2?", "A": "1", "B": "4", "C": "5", "D": "6", "answer": "B"},
    ],
)
def test_the_letter_of_a_candidate_is_no_answer_to_learn(read, row):
    with user_error("too_many_bad_rows", "multiple choice"):
        read(instruction_rows, [row])
    (found,) = read(instruction_rows, [{**row, "answer": "four"}])
    assert found["messages"][1]["content"] == "four"


@pytest.mark.parametrize(
    "answers",
    [
        "{'text': ['x'], 'answer_start': [5]}",
        '{"text": ["x"], "answer_start": [5]}',
        "['x', 'ex']",
        '["x"]',
        {"number": "", "date": {"day": "", "month": "", "year": ""}, "spans": ["x"]},
    ],
)
def test_answers_in_the_cells_of_a_table(read, answers):
    (found,) = read(instruction_rows, [{"question": "q", "answers": answers}])
    assert found["messages"][1]["content"] == "x"


def test_answers_that_are_no_lists(read):
    """Texts that begin so; numpy's text is refused; DROP's dates; what is only plausible."""
    texts = ["[1, 2, 3]", "{'a': 1}", '{"text": "hi"}', "[sic]", "['"]
    found = read(instruction_rows, [{"question": "q", "answers": text} for text in texts])
    assert [row["messages"][1]["content"] for row in found] == texts
    for numpys in ("['a' 'b']", "{'text': array(['x'], dtype=object)}"):
        with user_error("too_many_bad_rows", "numpy"):
            read(instruction_rows, [{"question": "q", "answers": numpys}])
    date = {"number": "", "date": {"day": "12", "month": "May", "year": "1900"}, "spans": []}
    rows = [{"question": "q", "answer": date}, {"question": "q", "answer": "a", "answerable": False}]
    rows.append({"question": "q", "answers": {"text": ["plausible"]}, "is_impossible": True})
    assert [row["messages"][1]["content"] for row in read(instruction_rows, rows)] == ["12 May 1900"]
