# SPDX-License-Identifier: Apache-2.0
"""Lists of keys with their values, said again and again in new orders: the shortest lesson in looking something up.

Which value belongs to which key is drawn anew for each document, so nothing can be known beforehand: after a key, the
value must be found where the key was seen before. Names and things of the passages (`reading`) are among the keys and
values; what is learned with other words alone does not carry over to them.
"""

import random

from scratch_gpt.primer.wording import COLORS, FOODS, NAMES, SPOTS, THINGS, with_article
from scratch_gpt.primer.world import JOBS, PETS, PRODUCTS


KEYS = (*NAMES, *JOBS, *PETS)
VALUES = (*COLORS, *THINGS, *FOODS, *(spot.split()[-1] for spot in SPOTS), *PRODUCTS)
# The value comes right behind its key, one token later, two tokens later.
FORMS = ("{key} {value}.", "{key}: {value}.", "{key} has {a_value}.")
TIMES = 4


def document(rng: random.Random, form: str) -> str:
    """Two to four pairs in one of the `FORMS`, all of them four times, each time in another order."""
    count = rng.randint(2, 4)
    pairs = zip(rng.sample(KEYS, count), rng.sample(VALUES, count), strict=True)
    sentences = [form.format(key=key, value=value, a_value=with_article(value)) for key, value in pairs]
    return " ".join(sentence for _ in range(TIMES) for sentence in rng.sample(sentences, count))
