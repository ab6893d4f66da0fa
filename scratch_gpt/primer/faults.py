# SPDX-License-Identifier: Apache-2.0
"""Right answers in a poor style, for the rejected side of preference pairs, and how such a style is recognised.

Each fault comes in hundreds of wordings, so that a reward model has to learn the style and not a phrase.
"""

import random
import re

from scratch_gpt.primer.wording import COLORS, FOODS, NAMES, SPOTS, THINGS, capitalized, words


# Words of this number beyond the reference make an answer rambling; two filler sentences always are.
ALLOWED_EXTRA_WORDS = 8

_FILLERS = (
    "my {kin} has a {color} {thing} at home",
    "I saw {name} {spot} some time ago",
    "{name} once ate {food} {spot}",
    "some people like to eat {food} {spot}",
    "the {thing} of my {kin} was {color}",
    "it rained {spot} again today",
    "I often think about {food} and other things",
    "there are many {color} things {spot}",
    "my {kin} likes to talk about {food}",
    "a {color} {thing} can be nice to have",
    "I like to walk {spot} with {name}",
    "we had {food} when {name} was here",
    "the weather was nice {spot} last week",
    "{name} told me much about {food}",
)
_LINKS = ("", "", "by the way, ", "and also, ", "anyway, ", "well, ", "you know, ", "as I said, ", "oh, and ")
_KIN = ("uncle", "aunt", "brother", "sister", "cousin", "mother", "father", "friend")

# Only worse answers of preference pairs are rude, in words that a classroom can read.
_RUDE = (
    "what a {bad} question", "only {who} would ask that", "you are so {bad}", "that is a {bad} thing to ask",
    "leave me alone, {who}", "go away, {who}", "you will not learn it, {who}", "do not be so {bad}",
    "even {who} knows that", "how {bad} you are",
)  # fmt: skip
_BAD = ("silly", "lazy", "foolish", "boring", "annoying")
_WHO = ("a sleepyhead", "a slowpoke", "a lazybones", "a chatterbox", "a grump")
_RUDE_MARKERS = (
    *_BAD, "sleepyhead", "slowpoke", "lazybones", "chatterbox", "grump", "stupid", "dumb", "fool", "idiot", "shut up",
    "go away", "leave me alone", "you will not learn", "everybody knows", "do not bother me", "waste my time",
)  # fmt: skip

_TAIL_STARTS = ("and", "because", "but", "so", "which", "when", "and then", "as", "while")
_TAIL_REST = (
    "the",
    "it is a",
    "we",
    "there are some",
    "in the",
    "the other",
    "they have",
    "one of the",
    "a very",
)


def _filler(rng: random.Random, template: str) -> str:
    """A sentence that has nothing to do with any question."""
    clause = template.format(
        kin=rng.choice(_KIN), color=rng.choice(COLORS), thing=rng.choice(THINGS),
        name=rng.choice(NAMES), spot=rng.choice(SPOTS), food=rng.choice(FOODS),
    )  # fmt: skip
    return capitalized(rng.choice(_LINKS) + clause) + "."


def rambling(rng: random.Random, answer: str) -> str:
    """The answer, and then two or three sentences that nobody asked for."""
    fillers = [_filler(rng, template) for template in rng.sample(_FILLERS, rng.randint(2, 3))]
    return " ".join([answer, *fillers])


def rude(rng: random.Random, answer: str) -> str:
    """The answer with an insult before or after it."""
    who = rng.choice(_WHO)
    template = rng.choice(_RUDE)
    if ", {who}" in template:
        who = who.split(" ", 1)[1]
    insult = capitalized(template.format(bad=rng.choice(_BAD), who=who)) + rng.choice((".", "!"))
    return f"{insult} {answer}" if rng.random() < 0.6 else f"{answer} {insult}"


def unfinished(rng: random.Random, answer: str) -> str:
    """The whole answer, with a further thought that breaks off."""
    return f"{answer.removesuffix('.')} {rng.choice(_TAIL_STARTS)} {rng.choice(_TAIL_REST)}"


def cut_off(rng: random.Random, answer: str) -> str:
    """The answer broken off in its middle."""
    parts = answer.split()
    return " ".join(parts[: rng.randint(max(1, len(parts) // 2), len(parts) - 1)]).rstrip(".,")


def is_rambling(completion: str, references: tuple[str, ...]) -> bool:
    """Whether it is much longer than the longest reference."""
    longest = max(len(words(reference)) for reference in references)
    return len(words(completion)) > longest + ALLOWED_EXTRA_WORDS


def is_rude(completion: str) -> bool:
    """Whether it insults."""
    text = " ".join(words(completion))
    return any(re.search(rf"\b{marker}s?\b", text) for marker in _RUDE_MARKERS)


def is_unfinished(completion: str, finished: bool) -> bool:
    """Whether it was cut, or stops without a closing mark."""
    return not finished or not completion.rstrip().endswith((".", "!", "?"))


def repeats_itself(completion: str) -> bool:
    """Whether some four words in a row come twice."""
    parts = words(completion)
    fours = [tuple(parts[i : i + 4]) for i in range(len(parts) - 3)]
    return len(fours) != len(set(fours))
