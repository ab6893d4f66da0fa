# SPDX-License-Identifier: Apache-2.0
"""English phrases with their German translations, built from a small grammar.

Held out are pairs of adjective and noun: "small dog" may be met in no translation, while "small" and "dog" are
met with other words. German nouns of the weak declension (der Junge, den Jungen) are left out.
"""

import random
from dataclasses import dataclass

from scratch_gpt.primer.splits import SPLITS, Item, distinct, split_of
from scratch_gpt.tasks.example import Example


@dataclass(frozen=True)
class Noun:
    """A noun in both languages, with its German gender (m, f, n)."""

    english: str
    english_plural: str
    german: str
    german_plural: str
    gender: str


# english, plural, German, plural, gender
_PEOPLE = """
man     men         Mann    Männer      m
king    kings       König   Könige      m
friend  friends     Freund  Freunde     m
woman   women       Frau    Frauen      f
queen   queens      Königin Königinnen  f
child   children    Kind    Kinder      n
girl    girls       Mädchen Mädchen     n
"""
_ANIMALS = """
dog     dogs        Hund    Hunde       m
bird    birds       Vogel   Vögel       m
frog    frogs       Frosch  Frösche     m
cat     cats        Katze   Katzen      f
mouse   mice        Maus    Mäuse       f
cow     cows        Kuh     Kühe        f
duck    ducks       Ente    Enten       f
horse   horses      Pferd   Pferde      n
pig     pigs        Schwein Schweine    n
"""
_THINGS = """
tree    trees       Baum    Bäume       m
hat     hats        Hut     Hüte        m
flower  flowers     Blume   Blumen      f
lamp    lamps       Lampe   Lampen      f
cup     cups        Tasse   Tassen      f
house   houses      Haus    Häuser      n
book    books       Buch    Bücher      n
car     cars        Auto    Autos       n
"""


# English adjective -> German stem (the ending is added).
_ANY = {"small": "klein", "big": "groß", "old": "alt", "good": "gut", "beautiful": "schön"}
_LIVING = {"young": "jung", "tired": "müd", "strong": "stark", "happy": "fröhlich"}
_COLORS = {"red": "rot", "black": "schwarz", "white": "weiß", "brown": "braun"}
_NEW = {"new": "neu"}
# English singular, plural; German singular, plural.
_ACTING = [
    ("sleeps", "sleep", "schläft", "schlafen"), ("sings", "sing", "singt", "singen"),
    ("eats", "eat", "isst", "essen"), ("drinks", "drink", "trinkt", "trinken"),
    ("swims", "swim", "schwimmt", "schwimmen"), ("plays", "play", "spielt", "spielen"),
    ("laughs", "laugh", "lacht", "lachen"), ("comes", "come", "kommt", "kommen"),
    ("waits", "wait", "wartet", "warten"), ("jumps", "jump", "springt", "springen"),
]  # fmt: skip
_SEEING = [
    ("I see", "ich sehe"), ("we see", "wir sehen"), ("she finds", "sie findet"), ("she paints", "sie malt"),
]  # fmt: skip
_OWNING = [("I have", "ich habe"), ("he has", "er hat"), ("we buy", "wir kaufen")]

# Articles, and adjective endings after them, by case and gender; "p" is the plural.
_DEFINITE = {
    "nominative": {"m": "der", "f": "die", "n": "das", "p": "die"},
    "accusative": {"m": "den", "f": "die", "n": "das"},
}
_INDEFINITE = {
    "nominative": {"m": "ein", "f": "eine", "n": "ein"},
    "accusative": {"m": "einen", "f": "eine", "n": "ein"},
}
_AFTER_DEFINITE = {
    "nominative": {"m": "e", "f": "e", "n": "e", "p": "en"},
    "accusative": {"m": "en", "f": "e", "n": "e"},
}
_AFTER_INDEFINITE = {
    "nominative": {"m": "er", "f": "e", "n": "es"},
    "accusative": {"m": "en", "f": "e", "n": "es"},
}


@dataclass(frozen=True)
class Translation:
    """A phrase in both languages; `key` names the adjective and noun in it."""

    english: str
    german: str
    key: str


@dataclass(frozen=True)
class _Group:
    """Nouns of a kind, with the adjectives and verbs that go with them."""

    nouns: tuple[Noun, ...]
    adjectives: dict[str, str]
    acting: list[tuple[str, str, str, str]]
    acted_on: list[tuple[str, str]]


@dataclass(frozen=True)
class _Words:
    """The adjective and noun that a phrase is about."""

    adjective: str
    stem: str
    noun: Noun
    group: _Group

    @property
    def key(self) -> str:
        return f"translation:{self.adjective} {self.noun.english}"


def _nouns(table: str) -> tuple[Noun, ...]:
    return tuple(Noun(*line.split()) for line in table.strip().splitlines())


_GROUPS = (
    _Group(_nouns(_PEOPLE), {**_ANY, **_LIVING}, _ACTING, _SEEING),
    _Group(_nouns(_ANIMALS), {**_ANY, **_LIVING, **_COLORS}, _ACTING, _SEEING + _OWNING),
    _Group(_nouns(_THINGS), {**_ANY, **_COLORS, **_NEW}, [], _SEEING + _OWNING),
)


def _phrase(words: _Words, article: str, case: str, plural: bool = False) -> tuple[str, str]:
    """English and German noun phrase with "the" or "a", in the German case asked for."""
    noun = words.noun
    if plural:
        ending = _AFTER_DEFINITE[case]["p"]
        return (
            f"the {words.adjective} {noun.english_plural}",
            f"{_DEFINITE[case]['p']} {words.stem}{ending} {noun.german_plural}",
        )
    articles, endings = (_DEFINITE, _AFTER_DEFINITE) if article == "the" else (_INDEFINITE, _AFTER_INDEFINITE)
    if article == "a" and words.adjective[0] in "aeiou":
        article = "an"
    return (
        f"{article} {words.adjective} {noun.english}",
        f"{articles[case][noun.gender]} {words.stem}{endings[case][noun.gender]} {noun.german}",
    )


def _sentence(rng: random.Random, words: _Words) -> Translation:
    """The words alone, doing something, or as the object of somebody."""
    article = rng.choice(("the", "a"))
    plural = rng.random() < 0.3
    frame = rng.choice(("alone", "acting", "acted on") if words.group.acting else ("alone", "acted on"))
    if frame == "acted on":
        english, german = _phrase(words, article, "accusative")
        before = rng.choice(words.group.acted_on)
        return Translation(f"{before[0]} {english}", f"{before[1]} {german}", words.key)
    english, german = _phrase(words, article, "nominative", plural)
    if frame == "acting":
        verb = rng.choice(words.group.acting)
        english, german = f"{english} {verb[plural]}", f"{german} {verb[2 + plural]}"
    return Translation(english, german, words.key)


_ALL_WORDS = [
    _Words(adjective, stem, noun, group)
    for group in _GROUPS
    for noun in group.nouns
    for adjective, stem in group.adjectives.items()
]
_BY_SPLIT = {split: [words for words in _ALL_WORDS if split_of(words.key) == split] for split in SPLITS}
_QUESTIONS = (
    "How do you say '{english}' in German?",
    "What is '{english}' in German?",
    "What does '{english}' mean in German?",
)
_REQUESTS = ("Translate into German: {english}", "Say in German: {english}")


def pair(rng: random.Random, split: str) -> Translation:
    """A phrase around an adjective and noun of one side."""
    return _sentence(rng, rng.choice(_BY_SPLIT[split]))


def training_question(rng: random.Random) -> str:
    """A question for a translation that is not held out (for quiz sheets)."""
    return rng.choice(_QUESTIONS).format(english=pair(rng, "train").english)


def document(rng: random.Random) -> str:
    """A few phrases with their translations, side by side in one of several forms."""
    pairs = [pair(rng, "train") for _ in range(rng.randint(2, 5))]
    form = rng.choice(
        (
            "English: {english}. German: {german}.",
            "German: {german}. English: {english}.",
            "'{english}' means '{german}' in German.",
            "In German, '{english}' is '{german}'.",
            "We say '{english}' in English and '{german}' in German.",
        )
    )
    return rng.choice(("\n", " ")).join(form.format(english=p.english, german=p.german) for p in pairs)


def item(rng: random.Random, split: str) -> Item:
    """A request for a translation; the wrong ones are the same phrase with another adjective or noun."""
    words = rng.choice(_BY_SPLIT[split])
    shape = rng.random()
    asked = _sentence(random.Random(shape), words)
    example = Example(
        prompt=rng.choice(_QUESTIONS + _REQUESTS).format(english=asked.english),
        references=(f"{asked.german}.",),
        kind="en_de",
        key=asked.key,
    )
    near = [
        other
        for other in _BY_SPLIT["train"]
        if other.group is words.group and (other.noun is words.noun) != (other.adjective == words.adjective)
    ]
    wrong = [_sentence(random.Random(shape), other) for other in rng.sample(near, min(4, len(near)))]
    return Item(example, tuple(f"{other.german}." for other in wrong))


def items(rng: random.Random, split: str, count: int) -> list[Item]:
    """Requests around the adjective-noun pairs of one side."""
    return distinct(lambda: item(rng, split), count)
