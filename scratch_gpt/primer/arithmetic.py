# SPDX-License-Identifier: Apache-2.0
"""Sums and differences of small numbers, by counting on and back.

A counted step names its own number ("2 more is 10"), so that each one follows from the step before and the
end is seen without counting words. A held-out pair is never the task of any text; its steps may pass by
inside a longer count from the same number.
"""

import random
from dataclasses import dataclass

from scratch_gpt.primer.splits import SPLITS, Item, distinct, split_of
from scratch_gpt.tasks.example import Example


LARGEST = 20
LARGEST_STEP = 9


@dataclass(frozen=True)
class Sum:
    """`start` + or - `step`."""

    start: int
    sign: str
    step: int

    @property
    def key(self) -> str:
        return f"sum:{self.task()}"

    @property
    def result(self) -> int:
        return self.start + self.step if self.sign == "+" else self.start - self.step

    def task(self) -> str:
        return f"{self.start} {self.sign} {self.step}"

    def equation(self) -> str:
        return f"{self.task()} = {self.result}"

    def counting(self) -> str:
        """The way to the result, as "Start at 8: 1 more is 9, 2 more is 10." """
        word, unit = ("more", 1) if self.sign == "+" else ("less", -1)
        steps = ", ".join(f"{i} {word} is {self.start + unit * i}" for i in range(1, self.step + 1))
        return f"Start at {self.start}: {steps}."

    def answer(self, result: int) -> str:
        """The model answer's form, for a right or a wrong result."""
        return f"{self.task()}: {self.counting()} The answer is {result}."


SUMS = [
    Sum(start, sign, step)
    for start in range(LARGEST + 1)
    for step in range(1, LARGEST_STEP + 1)
    for sign in "+-"
    if sign == "+" or start >= step
]
_BY_SPLIT = {split: [task for task in SUMS if split_of(task.key) == split] for split in SPLITS}
_QUESTIONS = ("What is {task}?", "How much is {task}?", "Can you tell me what {task} is?")


def question(rng: random.Random, task: Sum) -> str:
    """One way to ask for the result."""
    return rng.choice(_QUESTIONS).format(task=task.task())


def training_question(rng: random.Random) -> str:
    """A question about a pair that is not held out (for quiz sheets)."""
    return question(rng, rng.choice(_BY_SPLIT["train"]))


def document(rng: random.Random) -> str:
    """Equations, one counted out or several in a list, or a row of numbers. Held-out pairs never occur.

    A count says its task first: where to stop is then known, and learned.
    """
    shape = rng.random()
    if shape < 0.6:
        chosen = rng.sample(_BY_SPLIT["train"], rng.randint(1, 3))
        ends = rng.choice(("The answer is {result}.", "So {equation}.", "So the answer is {result}."))
        return "\n".join(
            f"{task.task()}{rng.choice((':', '.'))} {task.counting()} "
            + ends.format(result=task.result, equation=task.equation())
            for task in chosen
        )
    if shape < 0.85:
        chosen = rng.sample(_BY_SPLIT["train"], rng.randint(4, 8))
        return rng.choice((" ", "\n")).join(f"{task.equation()}." for task in chosen)
    start, stride = rng.randint(0, 10), rng.choice((1, 1, 2))
    numbers = [str(start + stride * i) for i in range(rng.randint(6, 12))]
    if rng.random() < 0.4:
        numbers.reverse()
        return "Count back: " + ", ".join(numbers) + "."
    return "Count: " + ", ".join(numbers) + "."


def item(rng: random.Random, task: Sum) -> Item:
    """The question for a result, with answers that are off by a little."""
    example = Example(question(rng, task), (task.answer(task.result),), "sum", task.key)
    wrong = [task.result + off for off in (-3, -2, -1, 1, 2, 3) if task.result + off >= 0]
    return Item(example, tuple(task.answer(result) for result in wrong))


def items(rng: random.Random, split: str, count: int) -> list[Item]:
    """Questions about the pairs of one side."""
    return distinct(lambda: item(rng, rng.choice(_BY_SPLIT[split])), count)
