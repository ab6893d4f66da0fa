# SPDX-License-Identifier: Apache-2.0
"""Lists of keys with their values, said again and again in new orders: the shortest lesson in looking something up.

Which value belongs to which key is drawn anew for each document, so nothing can be known beforehand: after a key, the
value must be found where the key was seen before. Keys and values are the names and things of the passages (`reading`).
"""

import random
from dataclasses import dataclass

from scratch_gpt.primer.reading import WHATS
from scratch_gpt.primer.splits import split_of
from scratch_gpt.primer.wording import COLORS, FOODS, NAMES, THINGS
from scratch_gpt.tasks.example import Example


@dataclass(frozen=True)
class Lesson:
    """What one kind of list is made of.

    Looking up "Nina:" where "Nina: ball." was said takes two things at once: to find what stands two tokens behind a name,
    and to remember the name for one token. With "Nina ball" in the same list, each of the two pays alone. In the new form
    alone, one run of twelve never learned it.

    Args:
        form: how a pair is said; the value is further from its key than in the lesson before.
        known: a second form of the same list, or the same one.
        values: what the keys may have.
        relation: of the passages, if the values are theirs.
    """

    form: str
    known: str
    values: tuple[str, ...]
    relation: str | None = None


KEYS = NAMES
VALUES = (*COLORS, *THINGS, *FOODS)
LESSONS = {
    "beside_pairs": Lesson("{key} {value}", "{key} {value}", VALUES),
    "colon_pairs": Lesson("{key}: {value}.", "{key} {value}", VALUES),
    # After 1,000 steps of one seed, 0.79 of the things of held-out passages were said; 0.41 with lists in two forms, and 0.60
    # with lists of single words.
    "has_pairs": Lesson("{key} has {value}.", "{key} has {value}.", tuple(WHATS["has"]), "has"),
    "is_pairs": Lesson("{key} is {value}.", "{key}: {value}.", tuple(WHATS["is"]), "is"),
}
PAIRS, TIMES = 4, 4


def _draw(rng: random.Random, kind: str, words: int | None) -> list[tuple[str, str]]:
    """Different keys with different values; what the passages hold out stays held out."""
    lesson = LESSONS[kind]
    while True:
        keys, values = (rng.sample(known[:words], PAIRS) for known in (KEYS, lesson.values))
        pairs = list(zip(keys, values, strict=True))
        if lesson.relation is None or all(
            split_of(f"reading:{lesson.relation}:{key}:{value}") == "train" for key, value in pairs
        ):
            return pairs


def document(rng: random.Random, kind: str, words: int | None = None) -> str:
    """Four pairs, all of them four times, each time in another order and in one of the lesson's forms.

    Args:
        kind: one of the `LESSONS`.
        words: use the first of the keys and of the values only.
    """
    lesson, pairs = LESSONS[kind], _draw(rng, kind, words)
    lines = []
    for _ in range(TIMES):
        form = rng.choice((lesson.form, lesson.known))
        lines += [form.format(key=key, value=value) for key, value in rng.sample(pairs, PAIRS)]
    return " ".join(lines)


def example(rng: random.Random, kind: str) -> Example:
    """A list of pairs in the lesson's form, to continue behind one of its keys; the choices are the values of the list."""
    form, pairs = LESSONS[kind].form, _draw(rng, kind, None)
    sentences = [form.format(key=key, value=value) for key, value in pairs]
    until_value, _, stop = form.partition(" {value}")
    label = rng.randrange(PAIRS)
    return Example(
        prompt=" ".join([*sentences, until_value.format(key=pairs[label][0])]),
        references=(sentences[label],),
        kind="pairs",
        key=f"pairs:{sentences[label]}",
        choices=tuple(f" {value}{stop}" for _, value in pairs),
        label=label,
    )
