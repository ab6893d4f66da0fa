# SPDX-License-Identifier: Apache-2.0
"""Tasks: what is asked, how a base model is asked it, what an answer scores and what ignorance would score.

The embedded corpus's tasks are in `TASKS`; `file_tasks.py` makes the same thing of a user's own rows.
"""

import random
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
# (CHOICE) or in nats (PAIR); or the one reference is weighed, after the prompt (CLOZE) or after each candidate in its
# place (ENDING, such as Winogrande's sentences).
WRITTEN, CHOICE, PAIR, CLOZE, ENDING = "written", "choice", "pair", "cloze", "ending"

# Between two examples of a few-shot prompt, as in lm-eval.
SHOT_DELIMITER = "\n\n"


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
    """What the candidate at the most common position of the right one gets."""
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
        form: how an answer comes about: WRITTEN, CHOICE, PAIR, CLOZE or ENDING.
        as_text: a chat model too is given the text to continue, since nothing is asked.
        delimiter: comes between the text to continue and a candidate.
        rate: what the candidates' log-likelihoods score; None: the likeliest one is the prediction.
        stop: strings that end a written answer; by default a base model's ends at its first line.
        max_new_tokens: the longest written answer, in tokens, unless the user sets another.
        num_fewshot: examples with their answers before each question, unless the user sets another number.
        shots: where these examples come from; None: the train split, of a user's own rows all of them.
        first_shots: the first ones of the same kind, in place of drawn ones.
        description: comes before the examples; a chat model's system message.
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
    rate: Callable[[Sequence[float], Example], Scores] | None = None
    stop: tuple[str, ...] = ()
    max_new_tokens: int = 32
    num_fewshot: int = 0
    shots: Callable[[], list[Example]] | None = None
    first_shots: bool = False
    description: Callable[[Example], str] = lambda example: ""

    @property
    def by_likelihood(self) -> bool:
        """Whether the model writes nothing: candidates or a reference are weighed."""
        return self.form != WRITTEN

    def prompts(
        self, examples: Sequence[Example], chat: bool, shots: Sequence[Sequence[Example]] | None = None
    ) -> list[str | list[dict[str, str]]]:
        """What the model is given: the user's message or a conversation, or a text to continue.

        Args:
            shots: of each example, those that come before it with their answers, see `draw_shots`.
        """
        ask = self.message if chat else self.continuation
        return [
            self.prompt(ask(example), example, chat, shots[place] if shots else ())
            for place, example in enumerate(examples)
        ]

    def prompt(
        self, question: str, example: Example, chat: bool, shots: Sequence[Example]
    ) -> str | list[dict[str, str]]:
        """The question of an example behind the description and the shots."""
        ask = self.message if chat else self.continuation
        turns = [(ask(shot), self.weighed_reference(shot)) for shot in shots]
        description = self.description(example)
        if not chat:
            answered = (f"{asked}{self.delimiter}{answer}{SHOT_DELIMITER}" for asked, answer in turns)
            return "".join([description, *answered, question])
        if not turns and not description:
            return question
        messages = [{"role": "system", "content": description}] if description else []
        for asked, answer in turns:
            messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
        return [*messages, {"role": "user", "content": question}]

    def weighed_reference(self, example: Example) -> str:
        """The right answer; the word of a cloze text with the blank before it, which lm-eval weighs with it."""
        return self.delimiter * (self.form == CLOZE) + example.references[0]

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


def draw_shots(task: Task, examples: Sequence[Example], count: int, seed: int) -> list[list[Example]]:
    """Of each example, `count` others to put before it with their answers; equal to lm-eval's of the same seed.

    Raises:
        UserError: there are fewer others.
    """
    if not count:
        return [[] for _ in examples]
    pool = task.shots() if task.shots else task.examples("train")
    known, generator = set(pool), random.Random(seed)
    drawn = []
    for example in examples:
        others = pool
        if not task.first_shots:
            # lm-eval draws one more where the example may be among them, and takes it out
            others = generator.sample(pool, min(count + (example in known), len(pool)))
        shots = [shot for shot in others if shot != example]
        if task.first_shots:
            shots = [shot for shot in shots if shot.kind == example.kind]
        elif len(shots) < count and len(rest := [shot for shot in pool if shot != example]) >= count:
            shots = generator.sample(rest, count)  # the example is in the pool more than once
        if len(shots) < count:
            message = f"task {task.name!r}: num_fewshot {count} needs as many other examples, there are {len(shots)}"
            raise UserError("too_few_shots", message, task=task.name, num_fewshot=count, found=len(shots))
        drawn.append(shots[:count])
    return drawn


def other_references(task: Task, examples: Sequence[Example]) -> Scores:
    """What the right answer to another example gets, such as the ending of another story."""
    answers = [example.references[0] for example in examples]
    return task.mean_scores(answers[1:] + answers[:1], examples)


def load_examples(tasks: Sequence[Task], split: str, limit: int | None) -> dict[str, list[Example]]:
    """The first `limit` examples of each task, by its name.

    Raises:
        UserError: no task, two of one name, a name with "/", a task without examples in this split, an example without a right answer.
    """
    if not tasks:
        raise UserError("nothing_to_evaluate", "nothing to evaluate: name tasks or sources")
    names = [task.name for task in tasks]
    if twice := [name for name in names if names.count(name) > 1]:
        message = f"the task {twice[0]!r} is there twice; each needs a name of its own"
        raise UserError("duplicate_name", message, name=twice[0])
    if parted := [name for name in names if "/" in name]:
        message = (
            f'the name {parted[0]!r} has a "/", which parts the names of results: give the source another one'
        )
        raise UserError("wrong_name", message, name=parted[0])
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
