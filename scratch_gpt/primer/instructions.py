# SPDX-License-Identifier: Apache-2.0
"""Instruction rows, prompts for reinforcement learning, and the mixtures they are drawn from."""

import random
from collections.abc import Callable
from typing import Any

from scratch_gpt.primer import advice, arithmetic, conversation, facts, reading, stories, translation
from scratch_gpt.primer.splits import Item, check_split, generator
from scratch_gpt.tasks.example import Example


Room = Callable[[random.Random, str, int], list[Item]]
ROOMS: dict[str, Room] = {
    "fact": facts.items,
    "fact_casual": conversation.casual_items,
    "reading": reading.items,
    "repeat": reading.repeat_items,
    "sum": arithmetic.items,
    "en_de": translation.items,
    "advice": advice.items,
    "story": stories.ending_items,
    "story_writing": stories.writing_items,
    "unanswerable": conversation.unanswerable_items,
}
# Rows asked for, by kind; a kind that has fewer different prompts gives those it has.
INSTRUCTION_COUNTS = {
    "train": {
        "fact": 1800,
        "fact_casual": 450,
        "reading": 500,
        "repeat": 500,
        "sum": 600,
        "en_de": 600,
        "advice": 220,
        "story": 250,
        "story_writing": 150,
        "unanswerable": 300,
    },
    "dev": {
        "fact": 150,
        "fact_casual": 20,
        "reading": 50,
        "repeat": 20,
        "sum": 30,
        "en_de": 50,
        "advice": 25,
        "story": 25,
        "story_writing": 10,
        "unanswerable": 20,
    },
    "test": {
        "fact": 300,
        "fact_casual": 40,
        "reading": 100,
        "repeat": 40,
        "sum": 60,
        "en_de": 100,
        "advice": 50,
        "story": 50,
        "story_writing": 20,
        "unanswerable": 40,
    },
}
# Most about what a chat model of the demo has half right: what it always has right teaches nothing, and a counted sum, the
# longest answer, makes a whole batch slow.
PROMPT_COUNTS = {
    "train": {
        "fact": 60,
        "reading": 110,
        "sum": 10,
        "en_de": 200,
        "advice": 60,
        "unanswerable": 60,
    },
    "dev": {
        "fact": 60,
        "reading": 30,
        "sum": 20,
        "en_de": 45,
        "advice": 30,
        "unanswerable": 15,
    },
    "test": {
        "fact": 100,
        "reading": 45,
        "sum": 30,
        "en_de": 60,
        "advice": 40,
        "unanswerable": 25,
    },
}
# Everyday conversation is in the training split only.
CONVERSATIONS = 1500
# Share of the training rows that stand behind one or two other ones in the same conversation.
FOLLOWING_TURNS = 0.15


def draw_items(counts: dict[str, int], rng: random.Random, split: str) -> list[Item]:
    """The asked number of items of each kind."""
    return [item for kind, count in counts.items() for item in ROOMS[kind](rng, split, count)]


def _row(turns: conversation.Turns, kind: str, key: str) -> dict[str, Any]:
    messages = []
    for said, answer in turns:
        messages += [{"role": "user", "content": said}, {"role": "assistant", "content": answer}]
    return {"messages": messages, "kind": kind, "key": key}


def instructions(split: str, seed: int = 0) -> list[dict[str, Any]]:
    """Rows {"messages", "kind", "key"} with one question and one right answer each.

    The training split also has everyday conversations, and rows that follow another one in the same conversation. No answer has
    a fault of style: those of preference pairs are planted nowhere else.

    Raises:
        UserError: for an unknown split.
    """
    check_split(split)
    rng = generator(seed, "instructions", split)
    items = draw_items(INSTRUCTION_COUNTS[split], rng, split)
    rows = [
        _row([(item.example.prompt, item.example.references[0])], item.example.kind, item.example.key)
        for item in items
    ]
    if split == "train":
        rows += [
            _row(conversation.exchange(rng), "conversation", "conversation") for _ in range(CONVERSATIONS)
        ]
    rng.shuffle(rows)
    return _continued(rng, rows) if split == "train" else rows


def _continued(rng: random.Random, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, a stated share of them behind one or two other ones: people ask more than one thing."""
    continued = []
    for row in rows:
        before: list[dict[str, str]] = []
        if rng.random() < FOLLOWING_TURNS:
            for other in rng.sample(rows, rng.randint(1, 2)):
                before += other["messages"]
        continued.append({**row, "messages": before + row["messages"]})
    return continued


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
