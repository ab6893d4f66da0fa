# SPDX-License-Identifier: Apache-2.0
"""Tasks: what is asked, how a base model is asked it, what an answer scores and what ignorance would score.

The embedded corpus's tasks are in `TASKS`; `file_tasks.py` makes the same thing of a user's own rows.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from unicodedata import normalize

import numpy as np

from scratch_gpt.errors import UserError
from scratch_gpt.tasks import scores
from scratch_gpt.tasks.example import Example
from scratch_gpt.tasks.words import warn_wordless


Scores = dict[str, float]

# How an answer comes about. The model writes it; or it finds one of the candidates the likeliest, in nats a byte
# (CHOICE) or in nats (PAIR); or the one reference is weighed (CLOZE).
WRITTEN, CHOICE, PAIR, CLOZE = "written", "choice", "pair", "cloze"


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


def random_choice(task: "Task", examples: Sequence[Example]) -> Scores:
    """What drawing one of the candidates gets on average."""
    return {"accuracy": float(np.mean([1 / len(example.choices) for example in examples]))}


def longest_choice(task: "Task", examples: Sequence[Example]) -> Scores:
    """What the longest candidate gets, always."""
    return task.mean_scores([max(example.choices, key=len) for example in examples], examples)


def most_common_position(task: "Task", examples: Sequence[Example]) -> Scores:
    """What the candidate at the place gets at which the right one stands most often."""
    ((place, _),) = Counter(example.label for example in examples).most_common(1)
    answers = [example.choices[min(place, len(example.choices) - 1)] for example in examples]
    return task.mean_scores(answers, examples)


MAJORITY = {"majority": majority_answer}
CHOICE_BASELINES = {"longest": longest_choice, "most_common_position": most_common_position}


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
    """Whether the translation is letter for letter one of the references, in NFC; BLEU and chrF need the whole corpus."""
    answer, *references = (normalize("NFC", text.strip()) for text in (prediction, *example.references))
    return {"exact_match": float(answer in references)}


def other_references(task: Task, examples: Sequence[Example]) -> Scores:
    """What the right answer to another example gets, such as the ending of another story."""
    answers = [example.references[0] for example in examples]
    return task.mean_scores(answers[1:] + answers[:1], examples)


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
        if task.form == WRITTEN:
            warn_wordless(
                f"references of {task.name}", (text for example in rows for text in example.references)
            )
    return examples
