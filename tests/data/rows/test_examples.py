# SPDX-License-Identifier: Apache-2.0
"""Benchmark rows in the layouts of public data sets, written here by hand."""

import json

import pytest

from scratch_gpt.data.rows.examples import example_rows
from scratch_gpt.data.sources.bad_rows import BadRows
from scratch_gpt.data.sources.source import parse_sources
from scratch_gpt.tasks.task import score_answer
from wording import user_error


@pytest.fixture
def read(tmp_path):
    """Writes rows to a file and reads them back: (form, examples)."""

    def run(rows, **settings):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        run.bad_rows = BadRows()
        return example_rows(parse_sources([{"name": "s", "path": str(path), **settings}])[0], run.bad_rows)

    return run


QUESTIONS = [
    ({"question": "Who?", "answers": ["Ann", "Ann B.", "Ann"]}, "Who?", ("Ann", "Ann B.")),
    ({"question": "Who?", "answer": "Ann"}, "Who?", ("Ann",)),
    ({"question": "Who?", "answers": '["Ann", "A."]'}, "Who?", ("Ann", "A.")),
    ({"question": "Who?", "answer": "[Ann] came"}, "Who?", ("[Ann] came",)),
    ({"question": "Who?", "answers": [{"text": "Ann", "answer_start": 0}]}, "Who?", ("Ann",)),
    ({"question": "Who?", "answer": {"value": "Ann", "aliases": ["Ann", "A."]}}, "Who?", ("Ann", "A.")),
    ({"question": "Who?", "answer": {"number": "", "spans": ["Ann"]}}, "Who?", ("Ann",)),
    (
        {"question": "Who?", "passage": "Ann came.", "answers_spans": {"spans": ["Ann"], "types": ["span"]}},
        "Ann came.\n\nWho?",
        ("Ann",),
    ),
    (
        {"question": "Who?", "context": "Ann came.", "answers": {"text": ["Ann"]}},
        "Ann came.\n\nWho?",
        ("Ann",),
    ),
]


@pytest.mark.parametrize(("row", "prompt", "references"), QUESTIONS)
def test_questions_become_examples(read, row, prompt, references):
    """Answers may be a list, a text or SQuAD's mapping; a context stands before its question."""
    form, (example,) = read([row])
    assert form == "question"
    assert (example.prompt, example.references, example.key, example.kind) == (
        prompt,
        references,
        prompt,
        "s",
    )


def test_translation_pairs_become_examples(read):
    """The roles `source` and `target` name the languages' columns, and with them the direction."""
    row = {"en": "a dog", "de": "ein Hund"}
    form, (example,) = read([row], columns={"source": "en", "target": "de"})
    assert (form, example.prompt, example.references) == ("translation", "a dog", ("ein Hund",))
    _, (example,) = read([row], columns={"source": "de", "target": "en"})
    assert (example.prompt, example.references) == ("ein Hund", ("a dog",))


CHOICES = [
    (
        {
            "id": "x",
            "question": "Which is hot?",
            "choices": {"text": ["ice", "fire", "snow"], "label": ["A", "B", "C"]},
            "answerKey": "B",
        },
        ("choice", "Which is hot?", ("ice", "fire", "snow"), 1),
    ),
    # some rows of ARC count from 1
    (
        {"question": "Hot?", "choices": {"text": ["ice", "fire"], "label": ["1", "2"]}, "answerKey": "1"},
        ("choice", "Hot?", ("ice", "fire"), 0),
    ),
    # MMLU
    (
        {"question": "2 + 2?", "subject": "maths", "choices": ["3", "4", "5", "22"], "answer": 1},
        ("choice", "2 + 2?", ("3", "4", "5", "22"), 1),
    ),
    # OpenBookQA
    (
        {
            "question_stem": "Ice is",
            "choices": {"text": ["cold", "hot"], "label": ["A", "B"]},
            "answerKey": "A",
        },
        ("choice", "Ice is", ("cold", "hot"), 0),
    ),
    # PIQA
    (
        {"goal": "To open a jar,", "sol1": "turn the lid.", "sol2": "lick the lid.", "label": 0},
        ("choice", "To open a jar,", ("turn the lid.", "lick the lid."), 0),
    ),
    # by text, by a truth value, candidates with their marks
    *(
        ({"question": "Q", "choices": choices, "answer": answer}, ("choice", "Q", ("x", "y"), 1))
        for choices, answer in (
            (["x", "y"], "y"),
            (["x", "y"], True),
            ({"A": "x", "B": "y"}, "B"),
            ([{"label": "A", "text": "x"}, {"label": "B", "text": "y"}], "B"),
        )
    ),
    (
        {"article": "P", "question": "Q", "options": ["x", "y"], "answer": "B"},
        ("choice", "P\n\nQ", ("x", "y"), 1),
    ),
    # HellaSwag, with the marks of its WikiHow part
    (
        {
            "ind": 4,
            "activity_label": "Baking",
            "ctx_a": "A man mixes flour. [header] How to bake [title] Mix it.",
            "ctx_b": "then he",
            "ctx": "unused",
            "endings": ["bakes  a cake. [substeps] Enjoy.", "eats a car."],
            "label": "0",
            "split": "val",
        },
        (
            "ending",
            "Baking: A man mixes flour. How to bake. Mix it. Then he",
            ("bakes a cake. Enjoy.", "eats a car."),
            0,
        ),
    ),
]


@pytest.mark.parametrize(("row", "expected"), CHOICES)
def test_choices_become_examples(read, row, expected):
    """Question, candidates and the right one's place; the right one is the reference."""
    form, (example,) = read([row])
    assert (form, example.prompt, example.choices, example.label) == expected
    assert example.references == (example.choices[example.label],)


def test_minimal_pairs_have_no_prompt_and_no_order(read):
    """BLiMP's sentences stand in the order of the alphabet; its paradigm is the kind that is reported."""
    rows = [
        {"sentence_good": "Who left?", "sentence_bad": "Left who?", "UID": "wh"},
        {"sentence_good": "A dog is.", "sentence_bad": "A dog are.", "UID": "agreement"},
    ]
    form, (first, second) = read(rows)
    assert form == "pair"
    assert (first.prompt, first.choices, first.label, first.kind) == ("", ("Left who?", "Who left?"), 1, "wh")
    assert second.references == ("A dog is.",)
    assert second.choices[second.label] == "A dog is."


def test_the_last_word_of_a_text_is_its_cloze(read):
    """LAMBADA's only column; line breaks belong to the text."""
    form, (example,) = read([{"text": 'She said:\n"come here," and he came'}])
    assert (form, example.prompt, example.references) == (
        "cloze",
        'She said:\n"come here," and he',
        ("came",),
    )


@pytest.mark.parametrize(
    "row",
    [
        {"document": "A long text.", "summary": "Short."},
        {"article": "A long text.", "highlights": "Short."},
        {"dialogue": "A long text.", "summary": "Short."},
    ],
)
def test_summaries_become_examples(read, row):
    """XSum, CNN/DailyMail and SAMSum."""
    form, (example,) = read([row])
    assert (form, example.prompt, example.references) == ("summary", "A long text.", ("Short.",))


GOOD = {"question": "Q?", "choices": ["a", "b"], "answer": 0}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (
            {"question": "Q?", "choices": ["a", "b"], "answer": 2},
            "no right answer: the label is 2, of 2 candidates",
        ),
        ({"question": "Q?", "choices": ["a", "b"], "answer": ""}, "no right answer: the label is ''"),
        ({"question": "Q?", "choices": ["a", "b"], "answer": -1}, "no right answer: the label is -1"),
        ({"question": "Q?", "choices": ["a", "b"], "answer": "ß"}, "no right answer: the label is 'ß'"),
        ({"question": "Q?", "choices": ["a"], "answer": 0}, "'choices' holds no list of at least two texts"),
        ({"question": "Q?", "choices": ["a", 7], "answer": 0}, "'choices' holds no text but int"),
        ({"sentence_good": "x", "sentence_bad": "y"}, "a row of the form pair among rows of the form choice"),
        ({"question": "Q?"}, "no columns"),
    ],
)
def test_rows_that_cannot_be_scored_are_bad_rows(read, bad, reason):
    """A missing or impossible right answer, too few candidates, another form: left out, and the reason is said."""
    assert len(read([GOOD] * 200 + [bad])[1]) == 200
    assert reason in read.bad_rows.report()[0]


@pytest.mark.parametrize("answers", [[], [""], {"text": [], "answer_start": []}, " "])
def test_a_question_without_an_answer_is_scored_as_squad_2_does(read, answers):
    """Right is who says nothing: the empty text equals the empty text and nothing else."""
    rows = [{"question": "Why?", "answers": answers}, {"question": "Who?", "answers": ["Ann"]}]
    example, _ = read(rows)[1]
    assert score_answer("", example) == {"exact_match": 1.0, "f1": 1.0}
    assert score_answer("Because.", example) == {"exact_match": 0.0, "f1": 0.0}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (5, "5"),
        (True, "True"),
        ([7, "seven"], "Seven"),
        (0.5, "0.5"),
        ("[1, 2]", "[1, 2]"),
        ('["a", "b"]', "b"),
    ],
)
def test_answers_need_not_be_texts(read, answer, said):
    """Numbers, truth values and several answers score like texts."""
    ((example,),) = read([{"question": "Why?", "answer": answer}])[1:]
    assert score_answer(said, example)["exact_match"] == 1.0


def test_a_file_without_right_answers_is_refused(read):
    """The hidden test split of a public data set: one line, with the place and the reason."""
    with user_error("too_many_bad_rows", "rows.jsonl:1", "label", -1):
        read([{"goal": "g", "sol1": "a", "sol2": "b", "label": -1}] * 3)
    with user_error("no_answers", "'s'", "rows.jsonl", source="s"):
        read([{"question": "Why?", "answers": {"text": [], "answer_start": []}}] * 3)


def test_candidates_in_columns_of_their_own(read):
    """C-Eval's, and CMMLU's with capitals; labels that count from 1 are named where they cannot be from 0."""
    row = {"question": "2+2?", "A": "1", "B": "4", "C": "5", "D": "6", "answer": "B"}
    for written in (row, {**row, "Question": "2+2?", "Answer": "B"}):
        form, (example,) = read([written])
        assert (form, example.choices, example.label) == ("choice", ("1", "4", "5", "6"), 1)
    with user_error("too_many_bad_rows", "subtract 1"):
        read([{"question": "Q?", "choices": ["a", "b"], "answer": 2}])
