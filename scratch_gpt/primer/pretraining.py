# SPDX-License-Identifier: Apache-2.0
"""The endless pretraining text: short documents of several kinds, mixed by share of characters, after a curriculum."""

import itertools
import random
from collections.abc import Callable, Iterator
from functools import partial

from scratch_gpt.primer import arithmetic, conversation, pairs, reading, stories, translation
from scratch_gpt.primer.facts import BY_RELATION, BY_SUBJECT, FACTS
from scratch_gpt.primer.phrasings import RELATIONS
from scratch_gpt.primer.quiz import QuizSheets
from scratch_gpt.primer.splits import Deck, generator
from scratch_gpt.primer.wording import NAMES, as_sentence


# Kind of document -> share of all characters, after the curriculum. The one place to change what the text is made of.
MIXTURE = {
    "profile": 0.20,  # all facts of one subject, shuffled
    "statement": 0.14,  # one to three single facts
    "list": 0.07,  # one relation for many subjects, in one phrasing
    "mention": 0.03,  # a fact inside a little narrative
    "quiz": 0.03,  # questions only
    "worksheet": 0.05,  # questions with gaps
    "story": 0.07,
    "recall": 0.185,  # random details said two or three times
    "repeat": 0.01,  # rows of words said twice
    "has_pairs": 0.03,  # random keys and values, said four times
    "is_pairs": 0.03,  # random keys and places
    "arithmetic": 0.05,
    "translation": 0.095,
    "talk": 0.01,  # everyday conversation without its questions, for the words in it
}


def _blend(one: dict[str, float], other: dict[str, float], part: float) -> dict[str, float]:
    return {kind: (1 - part) * one.get(kind, 0) + part * other.get(kind, 0) for kind in {**one, **other}}


def _lessons(**shares: float) -> dict[str, float]:
    """Lessons beside a little of the mixture, so that no word is quite new when the mixture comes."""
    return _blend(shares, MIXTURE, 0.15)


# How the text begins: characters written so far -> shares at that point, in between on the straight line between them.
# Attention learns to look a value up by its key where the two are neighbors, and not from passages alone; then the
# distance grows, then come passages, then all the rest. The first lesson is alone: beside other text, two runs of seven
# did not learn it.
CURRICULUM: tuple[tuple[int, dict[str, float]], ...] = (
    (0, {"beside_pairs": 1.0}),
    (1_670_000, {"beside_pairs": 1.0}),
    (1_870_000, _lessons(beside_pairs=0.4, colon_pairs=0.6)),
    (2_270_000, _lessons(beside_pairs=0.3, colon_pairs=0.7)),
    (2_320_000, _lessons(beside_pairs=0.1, colon_pairs=0.3, has_pairs=0.3, is_pairs=0.3)),
    (2_520_000, _lessons(has_pairs=0.4, is_pairs=0.4, recall=0.2)),
    (2_920_000, _lessons(has_pairs=0.2, is_pairs=0.2, recall=0.6)),
    (3_270_000, MIXTURE),
)

# The first two lessons begin with this many keys and values, and have all of them at the end of these stretches of
# characters. Of eight keys attention learns to match each in 80 to 210 steps of 1,024 tokens. It loses that as others
# come, and matches all within 180 steps more. Where others came at step 150, one run of four never learned to look up; now
# they come at step 240. Of all 24 at once it did so after 200 steps in one run, and not in 320 of another.
FIRST_WORDS = 8
GROWTH = {"beside_pairs": (950_000, 1_500_000), "colon_pairs": (1_970_000, 2_170_000)}

_MENTIONS = (
    "{a} reads a book. The book says that {clause}. {a} tells {b} about it.",
    "{a} and {b} sit by the fire. {a} says that {clause}. Now {b} knows that {again}.",
    "{a} did not know that {clause}. Today {b} told {a} about it.",
    "Everybody at school learns that {clause}. {a} writes it down. {b} writes that {again}.",
    "{a} is sure that {clause}. {b} knows it too.",
    "In a letter to {b}, {a} writes that {clause}.",
)
# Facts that are the only one about their subject.
_ALONE = [facts[0] for facts in BY_SUBJECT.values() if len(facts) == 1]


class _FactWriter:
    """Writes the documents that state facts, each fact about equally often."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        alone = rng.sample(_ALONE, len(_ALONE))
        groups = [facts for facts in BY_SUBJECT.values() if len(facts) > 1]
        groups += [alone[i : i + 4] for i in range(0, len(alone), 4)]
        self._groups = Deck(rng, groups)
        self._facts = Deck(rng, FACTS)
        self._mentioned = Deck(rng, FACTS)
        self._relations = Deck(rng, [fact.relation for fact in FACTS])
        self._lists = {relation: Deck(rng, facts) for relation, facts in BY_RELATION.items()}

    def profile(self) -> str:
        facts = self._groups.draw()
        return " ".join(fact.statement(self._rng) for fact in self._rng.sample(facts, len(facts)))

    def statement(self) -> str:
        facts = [self._facts.draw() for _ in range(self._rng.randint(1, 3))]
        return " ".join(fact.statement(self._rng) for fact in facts)

    def listing(self) -> str:
        relation = self._relations.draw()
        phrasing = self._rng.randrange(len(RELATIONS[relation].statements))
        facts = [self._lists[relation].draw() for _ in range(self._rng.randint(4, 7))]
        lines = [as_sentence(fact.clauses()[phrasing]) for fact in facts]
        return self._rng.choice(("\n", " ")).join(lines)

    def mention(self) -> str:
        rng = self._rng
        clauses = self._mentioned.draw().clauses()
        a, b = rng.sample(NAMES, 2)
        return rng.choice(_MENTIONS).format(a=a, b=b, clause=rng.choice(clauses), again=rng.choice(clauses))


def _talk(rng: random.Random) -> str:
    """Short lines of everyday conversation that ask nothing. Those around a refusal would name what is in no document."""
    turns = [turn for _ in range(6) for turn in conversation.exchange(rng)]
    lines = [line for turn in turns if turn[1] != conversation.I_DO_NOT_KNOW for line in turn]
    return "\n".join(["Hello!", *(line for line in lines if "?" not in line and len(line) < 100)])


def shares_after(characters: int) -> dict[str, float]:
    """The share of each kind at a point of the text."""
    for (start, before), (stop, after) in itertools.pairwise(CURRICULUM):
        if characters < stop:
            part = (characters - start) / (stop - start)
            return _blend(before, after, part)
    return MIXTURE


def words_after(characters: int, kind: str) -> int | None:
    """Keys and values in the lists of a lesson at a point of the text; None: all of them."""
    if kind not in GROWTH:
        return None
    start, stop = GROWTH[kind]
    part = min(max((characters - start) / (stop - start), 0.0), 1.0)
    return round(FIRST_WORDS + part * (len(pairs.VALUES) - FIRST_WORDS))


def documents(seed: int = 0, curriculum: bool = False) -> Iterator[str]:
    """Endless pretraining documents, the same for the same seed; the caller stops at its budget.

    With `curriculum` they begin with the `CURRICULUM`, and are to be read in this order. Every fact is stated, held-out ones too, but
    no document answers a question. Held-out sums, adjective-noun pairs of translations, details of passages and stories
    do not occur at all.
    """
    for _, text in documents_with_kinds(seed, curriculum):
        yield text


def documents_with_kinds(seed: int = 0, curriculum: bool = False) -> Iterator[tuple[str, str]]:
    """The same with the kind of each document. Next comes the kind that is owed the most characters."""
    rng = generator(seed, "documents")
    facts, quiz = _FactWriter(rng), QuizSheets(rng)

    def write_pairs(kind: str) -> str:
        return pairs.document(rng, kind, words_after(written, kind))

    writers: dict[str, Callable[[], str]] = {
        "profile": facts.profile,
        "statement": facts.statement,
        "list": facts.listing,
        "mention": facts.mention,
        "quiz": quiz.document,
        "worksheet": quiz.worksheet,
        "story": lambda: stories.document(rng),
        **{kind: partial(write_pairs, kind) for kind in pairs.LESSONS},
        "recall": lambda: reading.recall_document(rng),
        "repeat": lambda: reading.repeat_document(rng),
        "arithmetic": lambda: arithmetic.document(rng),
        "translation": lambda: translation.document(rng),
        "talk": lambda: _talk(rng),
    }
    written, owed = 0 if curriculum else CURRICULUM[-1][0], dict.fromkeys(writers, 0.0)
    while True:
        shares = shares_after(written)
        kind = max(shares, key=owed.__getitem__)
        text = writers[kind]()
        written += len(text)
        owed[kind] -= len(text)
        for name, share in shares.items():
            owed[name] += share * len(text)
        yield kind, text
