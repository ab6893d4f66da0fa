# SPDX-License-Identifier: Apache-2.0
"""An invented world: its facts stand in no other text, so that what a model knows of it, it learnt here."""

import random


PLACE_COUNT = 60
PERSON_COUNT = 60
PRODUCTS = (
    "wool", "salt", "iron", "silk", "wine", "glass", "paper", "tea", "coal", "silver",
    "wheat", "soap", "rope", "oil", "butter", "leather", "corn", "wax", "ink", "sugar",
)  # fmt: skip
JOBS = (
    "baker", "farmer", "teacher", "doctor", "painter", "sailor", "singer", "tailor", "hunter", "nurse",
    "cook", "judge", "miller", "gardener", "writer", "dancer", "potter", "weaver", "guard", "barber",
)  # fmt: skip
PETS = ("cat", "dog", "goat", "parrot", "rabbit", "turtle", "pony", "hamster", "lizard", "duck", "fox", "owl")

_NAME_PARTS = {
    "place": (
        ("Bel", "Dor", "Kar", "Lun", "Mor", "Nor", "Pel", "Ris", "Sal", "Tor", "Vel", "Zan"),
        ("mora", "vik", "dale", "stad", "burg", "wick", "holm", "garth"),
    ),
    "river": (
        ("Ala", "Bru", "Ceda", "Dra", "Ela", "Fi", "Gri", "Ila", "Ono", "Uri", "Wes", "Yar"),
        ("na", "sha", "ko", "mel", "ru", "vo", "zi", "thar"),
    ),
    "ruler": (
        ("Ar", "Bal", "Cor", "Dag", "Er", "Gar", "Hal", "Sig", "Mag", "Ost", "Thar", "Wul"),
        ("dan", "gon", "ric", "mund", "wen", "lia", "rad", "bert"),
    ),
    "person": (
        ("Bo", "Da", "Fe", "Ji", "Ka", "Lo", "Mi", "Nu", "Ra", "Si", "Te", "Zu"),
        ("rin", "sko", "bal", "van", "dru", "lok", "mas", "pen"),
    ),
}


def made_up_names(kind: str, count: int, rng: random.Random) -> list[str]:
    """Pronounceable names, all different; each kind has its own sounds, so that kinds never collide."""
    starts, ends = _NAME_PARTS[kind]
    return rng.sample([start + end for start in starts for end in ends], count)


def made_up_word(rng: random.Random) -> str:
    """A fresh word of two or three syllables, for passages that can only be completed by copying."""
    return "".join(rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(rng.randint(2, 3)))


_rng = random.Random("the invented world")
# place, river, ruler, product
PLACES = [
    (place, river, ruler, _rng.choice(PRODUCTS))
    for place, river, ruler in zip(
        *(made_up_names(kind, PLACE_COUNT, _rng) for kind in ("place", "river", "ruler")), strict=True
    )
]
# person, job, home, pet
PEOPLE = [
    (person, _rng.choice(JOBS), _rng.choice(PLACES)[0], _rng.choice(PETS))
    for person in made_up_names("person", PERSON_COUNT, _rng)
]
