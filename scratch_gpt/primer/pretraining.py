# SPDX-License-Identifier: Apache-2.0
"""The endless pretraining text: short documents of several kinds, mixed by share of characters."""

import random
from collections.abc import Callable, Iterator

from scratch_gpt.primer import arithmetic, reading, stories, translation
from scratch_gpt.primer.facts import BY_RELATION, BY_SUBJECT, FACTS
from scratch_gpt.primer.phrasings import RELATIONS
from scratch_gpt.primer.quiz import QuizSheets
from scratch_gpt.primer.splits import Deck, generator
from scratch_gpt.primer.wording import NAMES, as_sentence


# Kind of document -> share of all characters. The one place to change what the text is made of.
MIXTURE = {
    "profile": 0.19,  # all facts of one subject, shuffled
    "statement": 0.12,  # one to three single facts
    "list": 0.08,  # one relation for many subjects, in one phrasing
    "mention": 0.05,  # a fact inside a little narrative
    "quiz": 0.06,  # questions only
    "story": 0.09,
    "recall": 0.19,  # random details said twice
    "repeat": 0.10,  # rows of words said twice
    "arithmetic": 0.06,
    "translation": 0.06,
}

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


def documents(seed: int = 0) -> Iterator[str]:
    """Endless pretraining documents, the same for the same seed; the caller stops at its budget.

    Every fact is stated, held-out ones too, but no document answers a question. Held-out sums, adjective-noun
    pairs of translations, details of passages and stories do not occur at all.
    """
    for _, text in documents_with_kinds(seed):
        yield text


def documents_with_kinds(seed: int = 0) -> Iterator[tuple[str, str]]:
    """The same with the kind of each document. Next comes the kind that lags furthest behind its share."""
    rng = generator(seed, "documents")
    facts, quiz = _FactWriter(rng), QuizSheets(rng)
    writers: dict[str, Callable[[], str]] = {
        "profile": facts.profile,
        "statement": facts.statement,
        "list": facts.listing,
        "mention": facts.mention,
        "quiz": quiz.document,
        "story": lambda: stories.document(rng),
        "recall": lambda: reading.recall_document(rng),
        "repeat": lambda: reading.repeat_document(rng),
        "arithmetic": lambda: arithmetic.document(rng),
        "translation": lambda: translation.document(rng),
    }
    written = dict.fromkeys(MIXTURE, 0)
    while True:
        kind = min(MIXTURE, key=lambda name: written[name] / MIXTURE[name])
        text = writers[kind]()
        written[kind] += len(text)
        yield kind, text
