# SPDX-License-Identifier: Apache-2.0
"""The tasks of the embedded corpus: how each is asked and scored, and what ignorance gets, read from its keys and wording."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from scratch_gpt import primer
from scratch_gpt.errors import UserError, did_you_mean
from scratch_gpt.primer.conversation import refuses
from scratch_gpt.tasks import scores
from scratch_gpt.tasks.example import Example
from scratch_gpt.tasks.task import (
    CHOICE,
    CHOICE_BASELINES,
    MAJORITY,
    Scores,
    Task,
    first_line,
    other_references,
    random_choice,
    score_answer,
    score_choice,
    score_number,
    score_translation,
)


# Stands for the subject in the form of a fact's answer.
SUBJECT = "\0"
# The phrase that a question of the primer asks to translate: in quotes, or after a colon.
PHRASE = re.compile(r"'(.+)'|: (.+)$")


def majority_number(task: "Task", examples: Sequence[Example]) -> Scores:
    """What the most frequent result gets if it is given every time."""
    counts = Counter(scores.last_number(example.references[0]) for example in examples)
    return task.mean_scores([str(counts.most_common(1)[0][0])] * len(examples), examples)


def guess_object(task: "Task", examples: Sequence[Example]) -> Scores:
    """What a sentence of the right form gets that names the relation's most frequent object in the train split."""
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for example in task.examples("train"):
        _, relation, subject = example.key.split(":")
        seen[relation][example.references[0].replace(subject, SUBJECT)] += 1
    guesses = []
    for example in examples:
        _, relation, subject = example.key.split(":")
        guesses.append(
            max(seen[relation], key=seen[relation].__getitem__, default="").replace(SUBJECT, subject)
        )
    return task.mean_scores(guesses, examples)


def random_detail(task: "Task", examples: Sequence[Example]) -> Scores:
    """What saying one of the passage's details ("a red ball" of "Tom has a red ball") of the one asked for gets on average."""
    rows = []
    for example in examples:
        sentences = [sentence.split(": ")[-1] for sentence in example.prompt.split(". ")[:-1]]
        begin = " ".join(example.references[0].split()[:5])  # "I read that Nina has"
        answers = [f"{begin} {sentence.split(' ', 2)[2]}." for sentence in sentences]
        rows.append(task.mean_scores(answers, [example] * len(answers)))
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def answer_anyway(task: "Task", examples: Sequence[Example]) -> Scores:
    """What a model gets that never says that it does not know."""
    return task.mean_scores([example.prompt for example in examples], examples)


def score_story(prediction: str, example: Example) -> Scores:
    """How well an ending fits the story's beginning."""
    return {"coherence": primer.story_coherence(example, prediction)}


def score_refusal(prediction: str, example: Example) -> Scores:
    """Whether the answer says that it does not know."""
    return {"refused": float(refuses(prediction))}


def translation_source(example: Example) -> str:
    """The English phrase in a question of the primer."""
    quoted, after_colon = PHRASE.search(example.prompt).groups()  # type: ignore[union-attr]
    return quoted or after_colon


def translation_line(example: Example) -> str:
    """The way pairs stand in the pretraining text."""
    return f"English: {translation_source(example)}. German:"


def first_pair(text: str) -> str:
    """What stands before the next pair."""
    return first_line(text).split(" English:")[0]


def _primer_task(name: str, score: Callable[[str, Example], Scores], **settings: Any) -> Task:
    return Task(name, lambda split: primer.benchmark(name, split), score, **settings)


TASKS = {
    task.name: task
    for task in (
        _primer_task("facts", score_answer, chance=guess_object, baselines=MAJORITY),
        _primer_task("choices", score_choice, chance=random_choice, baselines=CHOICE_BASELINES, form=CHOICE),
        _primer_task("sums", score_number, chance=majority_number),
        _primer_task("reading", score_answer, chance=random_detail, baselines=MAJORITY),
        _primer_task("unanswerable", score_refusal, chance=answer_anyway),
        _primer_task(
            "translation",
            score_translation,
            continuation=translation_line,
            cut=first_pair,
            source=translation_source,
        ),
        _primer_task(
            "stories", score_story, continuation=lambda example: example.prompt, chance=other_references
        ),
    )
}


def choose_tasks(asked: list[str], known: Sequence[str], default: bool) -> list[Task]:
    """The asked tasks of the embedded corpus; if none is asked, all known ones where that is the `default`.

    Raises:
        UserError: a name that is not known.
    """
    for name in asked:
        if name not in known:
            message = f"unknown task {name!r}{did_you_mean(name, known)} (known: {', '.join(known)})"
            raise UserError("wrong_value", message, setting="task", value=name)
    return [TASKS[name] for name in asked or (known if default else ())]
