# SPDX-License-Identifier: Apache-2.0
"""Everyday troubles with short helpful advice: questions that have many right answers."""

import random
from dataclasses import dataclass

from scratch_gpt.primer.splits import SPLITS, Item, distinct, split_of
from scratch_gpt.primer.wording import mentions
from scratch_gpt.tasks.example import Example


_FAMILY = ("brother", "sister", "mother", "father", "friend", "aunt", "uncle", "son", "cousin", "teacher")


@dataclass(frozen=True)
class Trouble:
    """A trouble with {x}, advice for it, and the words of which good advice has at least one."""

    problem: str
    things: tuple[str, ...]
    advice: tuple[str, ...]
    topic: tuple[str, ...]


TROUBLES: dict[str, Trouble] = {
    "lost": Trouble(
        "I lost my {x}.",
        ("hat", "key", "book", "ball", "bag", "cup", "coat", "ring", "pen", "scarf"),
        ("Look for your {x} under the bed.", "Go back to the place where you had your {x}."),
        ("look", "search", "find", "ask", "back"),
    ),
    "broken": Trouble(
        "My {x} is broken.",
        ("chair", "cup", "lamp", "kite", "bike", "clock", "door", "cart", "boat", "box"),
        ("Fix your {x} with some glue.", "Take your {x} to somebody who can fix it."),
        ("fix", "mend", "repair", "glue"),
    ),
    "dirty": Trouble(
        "My {x} is dirty.",
        ("shirt", "coat", "floor", "cup", "car", "dog", "room", "hat", "window", "bag"),
        ("Wash your {x} with soap and warm water.", "Clean your {x} with a wet cloth."),
        ("wash", "clean", "soap"),
    ),
    "sick": Trouble(
        "My {x} is sick.",
        ("dog", "cat", "horse", *_FAMILY),
        ("Take your {x} to a doctor.", "Let your {x} rest and bring some warm soup."),
        ("doctor", "rest", "soup", "bed"),
    ),
    "sad": Trouble(
        "My {x} is sad.",
        _FAMILY,
        ("Sit with your {x} and listen.", "Talk to your {x} and be kind."),
        ("listen", "talk", "kind", "hug"),
    ),
    "birthday": Trouble(
        "My {x} has a birthday.",
        _FAMILY,
        ("Bake a cake for your {x}.", "Make a nice card for your {x}."),
        ("cake", "card", "gift", "sing"),
    ),
    "learn": Trouble(
        "I want to learn how to {x}.",
        ("swim", "read", "cook", "draw", "sing", "dance", "ride", "paint", "sew", "write"),
        ("Find a good teacher and {x} every day.", "Start slowly and {x} a little every day."),
        ("teacher", "practice", "every day", "start", "slowly"),
    ),
    "afraid": Trouble(
        "I am afraid of {x}.",
        ("dogs", "snakes", "storms", "bees", "spiders", "mice", "ghosts", "horses", "fire", "owls"),
        ("Stay calm and talk to a friend about {x}.", "Read a book about {x} and stay calm."),
        ("calm", "talk", "breath", "read"),
    ),
    "grow": Trouble(
        "I want to grow {x}.",
        ("roses", "beans", "carrots", "apples", "plums", "nuts", "herbs", "berries", "corn", "grapes"),
        ("Plant the {x} in the sun and give them water.", "Put seeds of {x} in good ground."),
        ("plant", "sun", "water", "seeds", "ground"),
    ),
}
_QUESTIONS = ("{problem} What should I do?", "{problem} Can you help me?", "{problem} What can I do?")
_CASES = {
    split: [
        (name, thing)
        for name, trouble in TROUBLES.items()
        for thing in trouble.things
        if split_of(f"advice:{name}:{thing}") == split
    ]
    for split in SPLITS
}


def training_question(rng: random.Random) -> str:
    """A trouble with its question, not a held-out one (for quiz sheets)."""
    return item(rng, "train").example.prompt


def item(rng: random.Random, split: str) -> Item:
    """A trouble of one side; all its good answers are references, and advice for other things or troubles is wrong."""
    name, thing = rng.choice(_CASES[split])
    trouble = TROUBLES[name]
    good = [answer.format(x=thing) for answer in rng.sample(trouble.advice, len(trouble.advice))]
    example = Example(
        prompt=rng.choice(_QUESTIONS).format(problem=trouble.problem.format(x=thing)),
        references=tuple(good),
        kind="advice",
        key=f"advice:{name}:{thing}",
    )
    # the same trouble with another thing, too: there only the question tells
    mistaken = [trouble.advice[0].format(x=other) for other in trouble.things if other != thing]
    wrong = mistaken + [
        rng.choice(TROUBLES[other].advice).format(x=rng.choice(TROUBLES[other].things))
        for other in TROUBLES
        if other != name
    ]
    return Item(example, tuple(answer for answer in wrong if not on_topic(example.key, answer)))


def items(rng: random.Random, split: str, count: int) -> list[Item]:
    """Troubles of one side."""
    return distinct(lambda: item(rng, split), count)


def on_topic(key: str, answer: str) -> bool:
    """Whether the answer speaks of the thing and gives advice that fits the trouble."""
    _, name, thing = key.split(":")
    return mentions(answer, thing) and any(mentions(answer, word) for word in TROUBLES[name].topic)
