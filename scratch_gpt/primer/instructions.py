# SPDX-License-Identifier: Apache-2.0
"""Instruction rows, prompts for reinforcement learning, and the mixtures they are drawn from."""

import random
from collections.abc import Callable
from typing import Any

from scratch_gpt.primer import advice, arithmetic, facts, faults, reading, stories, translation
from scratch_gpt.primer.splits import Item, check_split, generator
from scratch_gpt.tasks.example import Example


Room = Callable[[random.Random, str, int], list[Item]]
ROOMS: dict[str, Room] = {
    "fact": facts.items,
    "reading": reading.items,
    "repeat": reading.repeat_items,
    "sum": arithmetic.items,
    "en_de": translation.items,
    "advice": advice.items,
    "story": stories.ending_items,
    "story_writing": stories.writing_items,
}
# Rows asked for, by kind; a kind that has fewer different prompts gives those it has.
INSTRUCTION_COUNTS = {
    "train": {
        "fact": 2000,
        "reading": 500,
        "repeat": 500,
        "sum": 450,
        "en_de": 600,
        "advice": 220,
        "story": 250,
        "story_writing": 150,
    },
    "dev": {
        "fact": 150,
        "reading": 50,
        "repeat": 20,
        "sum": 30,
        "en_de": 50,
        "advice": 25,
        "story": 25,
        "story_writing": 10,
    },
    "test": {
        "fact": 300,
        "reading": 100,
        "repeat": 40,
        "sum": 60,
        "en_de": 100,
        "advice": 50,
        "story": 50,
        "story_writing": 20,
    },
}
PROMPT_COUNTS = {
    "train": {
        "fact": 280,
        "reading": 80,
        "sum": 60,
        "en_de": 90,
        "advice": 90,
    },
    "dev": {
        "fact": 90,
        "reading": 30,
        "sum": 20,
        "en_de": 30,
        "advice": 30,
    },
    "test": {
        "fact": 140,
        "reading": 40,
        "sum": 30,
        "en_de": 45,
        "advice": 45,
    },
}
# Real instruction data has many writers. Shares of the *training* answers that are right in a poor style;
# answers of the other splits are plain.
POOR_STYLE: dict[str, tuple[float, Callable[[random.Random, str], str]]] = {
    "rambling": (0.20, faults.rambling),
    "rude": (0.07, faults.rude),
    "unfinished": (0.06, faults.unfinished),
}
# Small talk belongs to nobody's benchmark: it is in the training split only, always plain.
SMALL_TALK_REPEATS = 6
SMALL_TALK = (
    ("Hello!", "Hello! What can I do for you?"),
    ("Hi!", "Hi! How can I help?"),
    ("Good morning!", "Good morning! How can I help?"),
    ("How are you?", "I am fine. How can I help?"),
    ("Who are you?", "I am a small language model."),
    ("What are you?", "I am a small language model, and I learnt from a primer."),
    ("What can you do?", "I can answer simple questions, add small numbers and translate a little."),
    ("Thank you!", "You are welcome."),
    ("Thanks!", "You are welcome."),
    ("Goodbye!", "Goodbye!"),
)


def draw_items(counts: dict[str, int], rng: random.Random, split: str) -> list[Item]:
    """The asked number of items of each kind."""
    return [item for kind, count in counts.items() for item in ROOMS[kind](rng, split, count)]


def _row(prompt: str, answer: str, kind: str, key: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return {"messages": messages, "kind": kind, "key": key}


def _styles(rng: random.Random, count: int) -> list[Callable[[random.Random, str], str] | None]:
    """A style for each of `count` answers, in exactly the stated shares; None is plain."""
    styles: list[Callable[[random.Random, str], str] | None] = []
    for share, fault in POOR_STYLE.values():
        styles += [fault] * round(share * count)
    styles += [None] * (count - len(styles))
    rng.shuffle(styles)
    return styles


def instructions(split: str, seed: int = 0) -> list[dict[str, Any]]:
    """Rows {"messages", "kind", "key"} with one question and one right answer each.

    In the training split a stated share of answers has a poor style (`POOR_STYLE`).

    Raises:
        UserError: for an unknown split.
    """
    check_split(split)
    rng = generator(seed, "instructions", split)
    items = draw_items(INSTRUCTION_COUNTS[split], rng, split)
    if split == "train":
        styles = _styles(rng, len(items))
    else:
        styles = [None] * len(items)
    rows = []
    for item, style in zip(items, styles, strict=True):
        answer = item.example.references[0]
        if style is not None:
            answer = style(rng, answer)
        rows.append(_row(item.example.prompt, answer, item.example.kind, item.example.key))
    if split == "train":
        rows += [
            _row(prompt, answer, "small_talk", f"small_talk:{prompt}") for prompt, answer in SMALL_TALK
        ] * SMALL_TALK_REPEATS
    rng.shuffle(rows)
    return rows


def prompts(split: str, seed: int = 0) -> list[Example]:
    """What reinforcement learning asks (train) and is judged on (dev, test).

    Raises:
        UserError: for an unknown split.
    """
    check_split(split)
    rng = generator(seed, "prompts", split)
    examples = [item.example for item in draw_items(PROMPT_COUNTS[split], rng, split)]
    rng.shuffle(examples)
    return examples
