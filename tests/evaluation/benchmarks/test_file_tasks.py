# SPDX-License-Identifier: Apache-2.0
"""Files become tasks: the columns tell which, and each is asked and scored as its benchmark is."""

import json
from pathlib import Path
from typing import Any

import pytest

from scratch_gpt.evaluation.benchmarks.file_tasks import (
    FORMS,
    closest_sentence,
    file_tasks,
    lead,
    score_summary,
)
from scratch_gpt.tasks.example import Example
from scratch_gpt.tasks.task import CHOICE, CLOZE, PAIR, WRITTEN, Task, load_examples, score_answer
from wording import shows, user_error


ALL_FORMS: dict[str, dict[str, Any]] = {form: {} for form in FORMS}


def make_task(tmp_path: Path, row: dict, **settings) -> Task:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    (task,) = file_tasks([{"name": "mine", "path": str(path), **settings}], "skip", ALL_FORMS)
    return task


def test_a_users_file_becomes_a_task(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """SQuAD's columns are understood, a bad row is reported with file and line."""
    rows = [{"question": f"Q{index}?", "answers": {"text": [f"a{index}", "b"]}} for index in range(200)]
    path = tmp_path / "squad.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n{broken\n")
    (task,) = file_tasks([{"name": "squad", "path": str(path)}], "skip", {"question": {}})
    examples = load_examples([task], "test", limit=3)["squad"]
    assert [example.prompt for example in examples] == ["Q0?", "Q1?", "Q2?"]
    assert task.score("B.", examples[0]) == {"exact_match": 1.0, "f1": 1.0}
    assert shows(caplog.text, "1 of 201 rows", "line 201")


ASKED = [
    (
        {"question": "Why?", "choices": {"text": ["Sun", "Moon"], "label": ["A", "B"]}, "answerKey": "B"},
        (CHOICE, "Question: Why?\nAnswer:", " ", False),
    ),
    (
        {"goal": "Cut it", "sol1": "knife", "sol2": "hat", "label": 0},
        (CHOICE, "Question: Cut it\nAnswer:", " ", False),
    ),
    (
        {
            "activity_label": "Sport",
            "ctx_a": "He runs.",
            "ctx_b": "he",
            "endings": ["wins.", "is."],
            "label": "0",
        },
        (CHOICE, "Sport: He runs. He", " ", True),
    ),
    ({"sentence_good": "He is.", "sentence_bad": "He are."}, (PAIR, "", " ", True)),
    ({"text": "the cat sat on the mat"}, (CLOZE, "the cat sat on the", " ", True)),
    ({"question": "Who?", "answer": "Ann"}, (WRITTEN, "Who?\n", "", False)),
    ({"document": "It rained.", "summary": "Rain."}, (WRITTEN, "It rained.\nTL;DR:", "", False)),
]


@pytest.mark.parametrize(("row", "asked"), ASKED)
def test_base_models_are_asked_as_usual(tmp_path: Path, row: dict, asked: tuple) -> None:
    """How the answer comes about, the text to continue, what stands before a candidate, and whether chat is asked so."""
    task = make_task(tmp_path, row)
    prompt = task.prompts(task.examples("test"), chat=False)[0]
    assert (task.form, prompt, task.delimiter, task.as_text) == asked


def test_rows_of_another_benchmark_are_refused(tmp_path: Path) -> None:
    """Translation pairs given to the questions: the form is named, and what would do."""
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"source": "a", "target": "b"}\n')
    with user_error("wrong_row_form", "'x'", "question, pair", "columns", form="translation"):
        file_tasks([{"name": "x", "path": str(path)}], "skip", {"question": {}, "pair": {}})


def test_the_closest_sentence_answers_a_question() -> None:
    """Of three sentences the one that shares most words with the question is compared to the reference."""
    context = "Tom has a hat. The red ball belongs to Ann. It rains."
    example = Example(f"{context}\n\nWhose is the red ball?", ("red ball belongs to Ann",), "q", "k")
    task = Task("t", lambda split: [example], score_answer)
    assert closest_sentence(task, [example])["exact_match"] == 1.0


@pytest.mark.parametrize(
    ("document", "summary"),
    [
        ("One. Two! Three? Four.", "one two three"),
        ("Раз. Два! Три? Четыре.", "раз два три"),
        ("一。二！三？四。", "一二三"),
        ("एक। दो। तीन। चार।", "एक दो तीन"),
    ],
)
def test_summaries_are_compared_to_the_lead(document: str, summary: str) -> None:
    """The first three sentences, and no more, in every script."""
    example = Example(document, (summary,), "s", "k")
    task = Task("t", lambda split: [example], score_summary)
    assert lead(task, [example])["rouge_2"] == 1.0
