# SPDX-License-Identifier: Apache-2.0
"""Lists of keys with their values, said again and again in new orders: the shortest lesson in looking something up.

Which value belongs to which key is drawn anew for each document, so nothing can be known beforehand: after a key, the
value must be found where the key was seen before. Keys and values are the names and things of the passages (`reading`).
"""

import random

from scratch_gpt.primer.splits import split_of
from scratch_gpt.primer.wording import COLORS, FOODS, NAMES, SPOTS, THINGS, with_article
from scratch_gpt.tasks.example import Example


KEYS = NAMES
VALUES = (*COLORS, *THINGS, *FOODS)
# The value comes right behind its key, one token later, two tokens later; the last has places, of several words.
FORMS = ("{key} {value}", "{key}: {value}.", "{key} has {a_value}.", "{key} is {place}.")
PAIRS, TIMES = 4, 4


def _sentences(rng: random.Random, form: str, words: int | None) -> list[str]:
    values_of_form = (*COLORS, *THINGS) if "{a_value}" in form else VALUES  # "a nuts" is no English
    keys, values, places = (rng.sample(known[:words], PAIRS) for known in (KEYS, values_of_form, SPOTS))
    # the passages' held-out places stay held out
    while "{place}" in form and any(
        split_of(f"reading:is:{key}:{place}") != "train" for key, place in zip(keys, places, strict=True)
    ):
        places = rng.sample(SPOTS, PAIRS)
    return [
        form.format(key=key, value=value, a_value=with_article(value), place=place)
        for key, value, place in zip(keys, values, places, strict=True)
    ]


def document(rng: random.Random, form: str, words: int | None = None) -> str:
    """Four pairs in one of the `FORMS`, all of them four times, each time in another order.

    Args:
        words: use the first of the keys and of the values only.
    """
    sentences = _sentences(rng, form, words)
    return " ".join(sentence for _ in range(TIMES) for sentence in rng.sample(sentences, PAIRS))


def example(rng: random.Random, form: str) -> Example:
    """A list of pairs to continue behind one of its keys; the choices are the values of the list."""
    sentences = _sentences(rng, form, None)
    words_before = form.count(" ", 0, form.rindex("{"))
    parts = [sentence.split(" ", words_before) for sentence in sentences]
    label = rng.randrange(PAIRS)
    return Example(
        prompt=" ".join([*sentences, *parts[label][:-1]]),
        references=(sentences[label],),
        kind="pairs",
        key=f"pairs:{sentences[label]}",
        choices=tuple(f" {part[-1]}" for part in parts),
        label=label,
    )
