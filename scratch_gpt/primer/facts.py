# SPDX-License-Identifier: Apache-2.0
"""Every fact of the primer as (subject, relation, object), real and invented ones alike."""

import random
from collections import defaultdict
from dataclasses import dataclass

from scratch_gpt.primer import tables, world
from scratch_gpt.primer.phrasings import RELATIONS
from scratch_gpt.primer.splits import Deck, Item, distinct, split_of
from scratch_gpt.primer.wording import as_sentence, capitalized, with_article
from scratch_gpt.tasks.example import Example


@dataclass(frozen=True)
class Fact:
    """One thing that is so: the `relation` of `subject` is `object`."""

    subject: str
    relation: str
    object: str

    @property
    def key(self) -> str:
        """Content key. Opposites work both ways: who was told one direction was told the other."""
        if self.relation == "opposite":
            return "fact:opposite:" + "-".join(sorted((self.subject, self.object)))
        return f"fact:{self.relation}:{self.subject}"

    def _fill(self, template: str) -> str:
        return template.format(
            s=self.subject, o=self.object, a_s=with_article(self.subject), a_o=with_article(self.object)
        )

    def clauses(self) -> list[str]:
        """All ways to state the fact, without capital and full stop."""
        return [self._fill(template) for template in RELATIONS[self.relation].statements]

    def statement(self, rng: random.Random) -> str:
        """The fact stated in one of its phrasings."""
        return as_sentence(self._fill(rng.choice(RELATIONS[self.relation].statements)))

    def right_clauses(self) -> list[str]:
        """All clauses that answer a question about the fact, the model answer first.

        "A and B are opposites" answers it in either order.
        """
        turned = Fact(self.object, self.relation, self.subject).clauses()
        either = [clause for clause in turned if clause.endswith("are opposites")]
        return [self._fill(RELATIONS[self.relation].answer), *self.clauses(), *either]

    def answer(self) -> str:
        """The model answer: a full sentence."""
        return as_sentence(self._fill(RELATIONS[self.relation].answer))

    def beginning(self) -> str:
        """The first statement up to the object."""
        return self._up_to_object(RELATIONS[self.relation].statements[0])

    def answer_beginning(self) -> str:
        """The model answer up to the object."""
        return self._up_to_object(RELATIONS[self.relation].answer)

    def _up_to_object(self, template: str) -> str:
        return self._fill(template[: template.rindex("{")]).strip()

    def questions(self) -> list[str]:
        """The question in the phrasings that fine-tuning uses."""
        return [capitalized(self._fill(template)) for template in RELATIONS[self.relation].questions]

    def held_out_questions(self) -> list[str]:
        """The question in phrasings that fine-tuning never uses."""
        return [capitalized(self._fill(template)) for template in RELATIONS[self.relation].held_out_questions]


def _from_table(table: str, relations: tuple[str, ...]) -> list[Fact]:
    facts = []
    for line in table.strip().splitlines():
        subject, *objects = (cell.replace("_", " ") for cell in line.split())
        facts += [
            Fact(subject, relation, thing)
            for relation, thing in zip(relations, objects, strict=True)
            if thing != "-"
        ]
    return facts


def _from_rows(rows: list[tuple[str, str, str, str]], relations: tuple[str, ...]) -> list[Fact]:
    return [
        Fact(subject, relation, thing)
        for subject, *objects in rows
        for relation, thing in zip(relations, objects, strict=True)
    ]


def _opposites() -> list[Fact]:
    pairs = [pair.split() for pair in tables.OPPOSITES.replace("\n", " ").strip().split(", ")]
    return [Fact(one, "opposite", two) for pair in pairs for one, two in (pair, pair[::-1])]


def _cycle(names: str, relation: str) -> list[Fact]:
    parts = names.split()
    return [Fact(one, relation, two) for one, two in zip(parts, parts[1:] + parts[:1], strict=True)]


FACTS: tuple[Fact, ...] = tuple(
    _from_table(tables.COUNTRIES, ("capital", "continent", "language", "currency"))
    + _from_table(tables.ANIMALS, ("class", "young", "sound"))
    + _opposites()
    + _cycle(tables.MONTHS, "month")
    + _cycle(tables.WEEKDAYS, "weekday")
    + _from_rows(world.PLACES, ("river", "ruler", "product"))
    + _from_rows(world.PEOPLE, ("job", "home", "pet"))
)

BY_RELATION: dict[str, list[Fact]] = defaultdict(list)
BY_SUBJECT: dict[str, list[Fact]] = defaultdict(list)
for _fact in FACTS:
    BY_RELATION[_fact.relation].append(_fact)
    BY_SUBJECT[_fact.subject].append(_fact)
OBJECTS: dict[str, list[str]] = {
    relation: sorted({fact.object for fact in facts}) for relation, facts in BY_RELATION.items()
}
BY_ANSWER: dict[str, Fact] = {fact.answer(): fact for fact in FACTS}


def in_split(split: str) -> list[Fact]:
    """The facts whose content key is on that side."""
    return [fact for fact in FACTS if split_of(fact.key) == split]


def wrong_facts(fact: Fact) -> list[Fact]:
    """The fact with every other object of its relation: false, but of the right kind."""
    return [
        Fact(fact.subject, fact.relation, thing)
        for thing in OBJECTS[fact.relation]
        if thing not in (fact.object, fact.subject)
    ]


def item(fact: Fact, question: str) -> Item:
    """The question about a fact, with its model answer and false answers of the same form."""
    example = Example(prompt=question, references=(fact.answer(),), kind="fact", key=fact.key)
    return Item(example, tuple(wrong.answer() for wrong in wrong_facts(fact)))


def items(rng: random.Random, split: str, count: int) -> list[Item]:
    """Questions in fine-tuning's phrasings about the facts of one side, every fact equally often."""
    deck = Deck(rng, in_split(split))

    def draw() -> Item:
        fact = deck.draw()
        return item(fact, rng.choice(fact.questions()))

    return distinct(draw, count)
