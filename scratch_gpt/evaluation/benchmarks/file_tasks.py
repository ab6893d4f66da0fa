# SPDX-License-Identifier: Apache-2.0
"""Tasks of a user's own rows, from files or Hub datasets: the rows' columns decide the kind of task."""

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

from scratch_gpt.data.rows.examples import example_rows
from scratch_gpt.data.sources.bad_rows import BadRows
from scratch_gpt.data.sources.source import CORPUS_SETTINGS, parse_sources
from scratch_gpt.errors import UserError
from scratch_gpt.tasks import scores
from scratch_gpt.tasks.example import Example
from scratch_gpt.tasks.task import (
    CHOICE,
    CHOICE_BASELINES,
    CLOZE,
    PAIR,
    Scores,
    Task,
    other_references,
    random_choice,
    score_answer,
    score_choice,
    score_translation,
)


logger = logging.getLogger(__name__)

# East Asian sentences have no space between them.
SENTENCE_END = re.compile(r"(?<=[.!?।؟۔])\s+|(?<=[。！？])\s*+(?![。！？」』）”]|\Z)")
LEAD_SENTENCES = 3


def bare_prompt(example: Example) -> str:
    """A text to continue just as it is."""
    return example.prompt


def answer_line(example: Example) -> str:
    """A question with its answer to come on a line of its own, as lm-eval asks ARC and PIQA."""
    return f"Question: {example.prompt}\nAnswer:"


def summary_line(example: Example) -> str:
    """A document with its summary to come (Radford et al. 2019, section 3.6)."""
    return f"{example.prompt}\nTL;DR:"


def score_word(prediction: str, example: Example) -> Scores:
    """Whether the last word is right."""
    return {"accuracy": float(prediction == example.references[0])}


def score_summary(prediction: str, example: Example) -> Scores:
    """ROUGE-1, -2 and -L."""
    return scores.rouge(prediction, example.references)


def closest_sentence(task: Task, examples: Sequence[Example]) -> Scores:
    """What the sentence of the context gets that shares most words with the question."""
    answers = []
    for example in examples:
        context, _, question = example.prompt.rpartition("\n\n")
        asked = set(scores.normalize_answer(question).split())
        answers.append(
            max(
                SENTENCE_END.split(context),
                key=lambda sentence: len(asked & set(scores.normalize_answer(sentence).split())),
            )
        )
    return task.mean_scores(answers, examples)


def lead(task: Task, examples: Sequence[Example]) -> Scores:
    """What a document's first three sentences get."""
    answers = [" ".join(SENTENCE_END.split(example.prompt)[:LEAD_SENTENCES]) for example in examples]
    return task.mean_scores(answers, examples)


# Form of the rows -> settings of the task. Prompts and candidates are lm-eval's, so that numbers compare.
FORMS: dict[str, dict[str, Any]] = {
    "question": {"score": score_answer, "baselines": {"closest_sentence": closest_sentence}},
    "choice": {
        "score": score_choice,
        "continuation": answer_line,
        "delimiter": " ",
        "chance": random_choice,
        "baselines": CHOICE_BASELINES,
        "form": CHOICE,
    },
    "ending": {
        "score": score_choice,
        "continuation": bare_prompt,
        "delimiter": " ",
        "as_text": True,
        "chance": random_choice,
        "baselines": CHOICE_BASELINES,
        "form": CHOICE,
    },
    "pair": {
        "score": score_choice,
        "continuation": bare_prompt,
        "delimiter": " ",
        "as_text": True,
        "chance": random_choice,
        "baselines": {"longest": CHOICE_BASELINES["longest"]},
        "form": PAIR,
    },
    "cloze": {
        "score": score_word,
        "continuation": bare_prompt,
        "delimiter": " ",
        "as_text": True,
        "form": CLOZE,
    },
    "summary": {
        "score": score_summary,
        "message": lambda example: f"Summarize this text.\n\n{example.prompt}",
        "continuation": summary_line,
        "chance": other_references,
        "baselines": {"lead": lead},
    },
    "translation": {"score": score_translation, "source": lambda example: example.key},
}


def file_tasks(
    declared: list[dict[str, Any]], on_bad_row: str, forms: Mapping[str, Mapping[str, Any]]
) -> list[Task]:
    """A task of each of the user's sources, named like it; bad rows are reported in the log.

    Args:
        forms: those that the benchmark takes, see `example_rows`, each with settings that go before the usual ones.

    Raises:
        UserError: a source that cannot be read, holds no rows or rows of another form, too many bad rows.
    """
    tasks = []
    bad_rows = BadRows(on_bad_row)
    for source in parse_sources(declared, CORPUS_SETTINGS):
        form, rows = example_rows(source, bad_rows)
        if form not in forms:
            message = (
                f"source {source.name!r}: {source.path} holds rows of the form {form}, this benchmark takes "
                f"{', '.join(forms)}; name the roles in `columns`"
            )
            raise UserError("wrong_row_form", message, form=form)
        settings = {**FORMS[form], **forms[form]}
        tasks.append(Task(source.name, lambda split, rows=rows: rows, **settings))  # type: ignore[misc]
    for line in bad_rows.report():
        logger.warning(line)
    return tasks
