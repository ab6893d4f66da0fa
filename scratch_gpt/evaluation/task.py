# SPDX-License-Identifier: Apache-2.0
"""Tasks: what is asked, how a base model is asked it, what an answer scores and what ignorance would score.

The embedded corpus's tasks are in `TASKS`; `file_tasks.py` makes the same thing of a user's own rows.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scratch_gpt.data import primer
from scratch_gpt.data.example import Example
from scratch_gpt.errors import UserError
from scratch_gpt.evaluation import scores


Scores = dict[str, float]

# How an answer comes about. The model writes it; or it finds one of the candidates the likeliest, in nats a byte
# (CHOICE) or in nats (PAIR); or the one reference is weighed (CLOZE).
WRITTEN, CHOICE, PAIR, CLOZE = "written", "choice", "pair", "cloze"

# Stands for the subject in the form of a fact's answer.
SUBJECT = "\0"
# The phrase that a question of the primer asks to translate: in quotes, or after a colon.
PHRASE = re.compile(r"'(.+)'|: (.+)$")


def question_line(example: Example) -> str:
    """A question as a text for a base model to continue: on a line of its own."""
    return example.prompt + "\n"


def first_line(text: str) -> str:
    """The first line that is not blank."""
    return text.strip().split("\n", 1)[0].strip()


def majority_answer(task: "Task", examples: Sequence[Example]) -> Scores:
    """What the most frequent acceptable answer gets if it is given every time."""
    counts = Counter(reference for example in examples for reference in dict.fromkeys(example.references))
    answer = counts.most_common(1)[0][0]
    return task.mean_scores([answer] * len(examples), examples)


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
    """What drawing one of the passage's details ("a red ball" of "Tom has a red ball") gets on average."""
    rows = []
    for example in examples:
        sentences = [sentence.split(": ")[-1] for sentence in example.prompt.split(". ")[:-1]]
        answers = [f"The answer is {sentence.split(' ', 2)[2]}." for sentence in sentences]
        rows.append(task.mean_scores(answers, [example] * len(answers)))
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def random_choice(task: "Task", examples: Sequence[Example]) -> Scores:
    """What drawing one of the candidates gets on average."""
    return {"accuracy": float(np.mean([1 / len(example.choices) for example in examples]))}


def longest_choice(task: "Task", examples: Sequence[Example]) -> Scores:
    """What the longest candidate gets, always."""
    return task.mean_scores([max(example.choices, key=len) for example in examples], examples)


def commonest_place(task: "Task", examples: Sequence[Example]) -> Scores:
    """What the candidate at the place gets at which the right one stands most often."""
    ((place, _),) = Counter(example.label for example in examples).most_common(1)
    answers = [example.choices[min(place, len(example.choices) - 1)] for example in examples]
    return task.mean_scores(answers, examples)


MAJORITY = {"majority": majority_answer}
CHOICE_BASELINES = {"longest": longest_choice, "commonest_place": commonest_place}


@dataclass(frozen=True)
class Task:
    """One benchmark.

    Args:
        name: prefix of its metrics in a result.
        examples: the examples of a split, always the same ones in the same order.
        score: what one prediction gets; the first score is the main one.
        message: what a chat model is asked.
        continuation: the text that a base model, which knows no chat, is given to continue.
        cut: where in its continuation a base model's answer ends, since it knows no end of a turn.
        chance: what a baseline without knowledge gets.
        baselines: what strategies get that are trivial and yet better than ignorance.
        source: the sentence to translate.
        form: how an answer comes about: WRITTEN, CHOICE, PAIR or CLOZE.
        as_text: a chat model too is given the text to continue, since nothing is asked.
        delimiter: stands between the text to continue and a candidate.
    """

    name: str
    examples: Callable[[str], list[Example]]
    score: Callable[[str, Example], Scores]
    continuation: Callable[[Example], str] = question_line
    chance: Callable[["Task", Sequence[Example]], Scores] = majority_answer
    message: Callable[[Example], str] = lambda example: example.prompt
    cut: Callable[[str], str] = first_line
    baselines: Mapping[str, Callable[["Task", Sequence[Example]], Scores]] = field(default_factory=dict)
    source: Callable[[Example], str] = lambda example: example.prompt
    form: str = WRITTEN
    as_text: bool = False
    delimiter: str = ""

    @property
    def by_likelihood(self) -> bool:
        """Whether the model writes nothing: candidates or a reference are weighed."""
        return self.form != WRITTEN

    def prompts(self, examples: Sequence[Example], chat: bool) -> list[str]:
        """What the model is given: the user's message, or a text to continue."""
        return [self.message(example) if chat else self.continuation(example) for example in examples]

    def mean_scores(self, predictions: Sequence[str], examples: Sequence[Example]) -> Scores:
        """The mean of each score over the examples."""
        rows = [self.score(*pair) for pair in zip(predictions, examples, strict=True)]
        return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def score_answer(prediction: str, example: Example) -> Scores:
    """Exact match and word F1 (SQuAD v1.1)."""
    return {
        "exact_match": scores.exact_match(prediction, example.references),
        "f1": scores.token_f1(prediction, example.references),
    }


def score_number(prediction: str, example: Example) -> Scores:
    """Whether the last number is right (GSM8K)."""
    return {"last_number": scores.last_number_match(prediction, example.references)}


def score_choice(prediction: str, example: Example) -> Scores:
    """Whether the right candidate was chosen."""
    return {"accuracy": float(prediction == example.choices[example.label])}


def score_translation(prediction: str, example: Example) -> Scores:
    """Whether the translation is letter for letter one of the references; BLEU and chrF need the whole corpus."""
    return {"exact_match": float(prediction.strip() in example.references)}


def score_story(prediction: str, example: Example) -> Scores:
    """How well an ending fits the story's beginning."""
    return {"coherence": primer.story_coherence(example, prediction)}


def other_references(task: Task, examples: Sequence[Example]) -> Scores:
    """What the right answer to another example gets, such as the ending of another story."""
    answers = [example.references[0] for example in examples]
    return task.mean_scores(answers[1:] + answers[:1], examples)


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
            message = f"unknown task {name!r}; known tasks: {', '.join(known)}"
            raise UserError("wrong_value", message, setting="task", value=name)
    return [TASKS[name] for name in asked or (known if default else ())]


def load_examples(tasks: Sequence[Task], split: str, limit: int | None) -> dict[str, list[Example]]:
    """The first `limit` examples of each task, by its name.

    Raises:
        UserError: no task, a task without examples in this split, an example without a right answer.
    """
    if not tasks:
        raise UserError("nothing_to_evaluate", "nothing to evaluate: name tasks or sources")
    examples = {task.name: task.examples(split)[:limit] for task in tasks}
    for task in tasks:
        rows = examples[task.name]
        if not rows:
            message = f"task {task.name!r} has no examples in split {split!r} (limit {limit})"
            raise UserError("no_examples", message, task=task.name)
        for number, example in enumerate(rows):
            if not example.references or (task.form in (CHOICE, PAIR) and len(example.choices) < 2):
                missing = "candidates" if example.references else "references"
                message = f"task {task.name!r}: example {number} has no {missing}: {example.prompt!r:.60}"
                raise UserError("incomplete_example", message, task=task.name, missing=missing)
    return examples
