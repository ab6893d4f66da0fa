# SPDX-License-Identifier: Apache-2.0
"""Who stands on which side: the split is made by the content that is asked, never by row or wording."""

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from scratch_gpt.errors import UserError
from scratch_gpt.tasks.example import Example


SPLITS = ("train", "dev", "test")
TEST_PERCENT = 20
DEV_PERCENT = 10
# The question everybody tries first must be an honest one.
FORCED = {"fact:capital:France": "test"}

T = TypeVar("T")


@dataclass(frozen=True)
class Item:
    """An example with plausible wrong answers to it, from which choices and preference pairs are made."""

    example: Example
    wrong: tuple[str, ...]


def split_of(key: str) -> str:
    """Side of a content key: a stable hash, so that it is the same in every process and version."""
    if key in FORCED:
        return FORCED[key]
    bucket = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % 100
    if bucket < TEST_PERCENT:
        return "test"
    return "dev" if bucket < TEST_PERCENT + DEV_PERCENT else "train"


def check_split(split: str) -> None:
    """Raises UserError for a name that is no split."""
    if split not in SPLITS:
        message = f"unknown split {split!r}: choose one of {', '.join(SPLITS)}"
        raise UserError("wrong_value", message, setting="split", value=split)


def generator(seed: int, *purpose: str) -> random.Random:
    """A random generator of its own for each purpose (seeding by text is the same in every process)."""
    return random.Random(f"{seed}:{':'.join(purpose)}")


class Deck(Generic[T]):
    """Deals items in random order, each once before any comes again: nothing is rare by bad luck."""

    def __init__(self, rng: random.Random, items: Sequence[T]) -> None:
        self._rng = rng
        self._items = list(items)
        self._left: list[T] = []

    def draw(self) -> T:
        if not self._left:
            self._left = self._rng.sample(self._items, len(self._items))
        return self._left.pop()


def distinct(draw: Callable[[], Item], count: int) -> list[Item]:
    """Up to `count` items with different prompts; fewer where the content has no more to ask."""
    items: dict[str, Item] = {}
    for _ in range(20 * count):
        if len(items) == count:
            break
        item = draw()
        items.setdefault(item.example.prompt, item)
    return list(items.values())
