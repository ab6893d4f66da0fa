# SPDX-License-Identifier: Apache-2.0
"""Short passages whose content is random, so that a question about one can only be answered by reading it."""

import random
from collections import defaultdict
from dataclasses import dataclass

from scratch_gpt.primer.facts import FACTS
from scratch_gpt.primer.splits import Item, distinct, split_of
from scratch_gpt.primer.wording import COLORS, FOODS, NAMES, SPOTS, THINGS, as_sentence, listed, with_article
from scratch_gpt.primer.world import made_up_word
from scratch_gpt.tasks.example import Example


# relation -> (statement, question about the person, turned statement)
_FORMS = {
    "has": ("{who} has {what}", "What does {who} have?", "{what} belongs to {who}"),
    "is": ("{who} is {what}", "Where is {who}?", "{what} is {who}"),
    "likes": ("{who} likes {what}", "What does {who} like?", "{what} is what {who} likes"),
}


@dataclass(frozen=True)
class Detail:
    """One thing that a passage says about somebody."""

    who: str
    relation: str
    what: str

    @property
    def key(self) -> str:
        return f"reading:{self.relation}:{self.who}:{self.what}"

    def clause(self) -> str:
        return _FORMS[self.relation][0].format(who=self.who, what=self.what)

    def turned(self) -> str:
        return _FORMS[self.relation][2].format(who=self.who, what=self.what.replace("a ", "the ", 1))

    def answer(self) -> str:
        # The name stands right before what is looked up by it. Not "Nina has ...": see the note on the first statement
        # in phrasings.py.
        return f"I read that {self.clause()}."

    def question(self) -> str:
        return _FORMS[self.relation][1].format(who=self.who)


# What a passage may say with each relation.
WHATS = {
    "has": [with_article(f"{color} {thing}") for color in COLORS for thing in THINGS],
    "is": list(SPOTS),
    "likes": list(FOODS),
}
_BY_SPLIT: dict[tuple[str, str], list[Detail]] = defaultdict(list)
for _relation, _whats in WHATS.items():
    for _who in NAMES:
        for _what in _whats:
            _detail = Detail(_who, _relation, _what)
            _BY_SPLIT[split_of(_detail.key), _relation].append(_detail)


def _details(rng: random.Random, split: str, count: int) -> list[Detail]:
    """What is said about `count` different people, all different, all combinations from one side."""
    pool = _BY_SPLIT[split, rng.choice(("has", "has", "is", "likes"))]
    details: list[Detail] = []
    while len(details) < count:
        detail = rng.choice(pool)
        if all(detail.who != other.who and detail.what != other.what for other in details):
            details.append(detail)
    return details


def _made_up_details(rng: random.Random, count: int) -> list[Detail]:
    """The same with words that never come again: nothing but copying helps."""
    names: set[str] = set()
    while len(names) < count:
        names.add(made_up_word(rng).capitalize())
    return [Detail(name, "has", f"a {rng.choice(COLORS)} {made_up_word(rng)}") for name in sorted(names)]


def recall_document(rng: random.Random) -> str:
    """A passage that says everything two or three times, each time in another order or form."""
    count = rng.randint(2, 4)
    details = _details(rng, "train", count) if rng.random() < 0.75 else _made_up_details(rng, count)
    again = [_said_again(rng, rng.sample(details, count)) for _ in range(rng.randint(1, 2))]
    return " ".join([as_sentence(detail.clause()) for detail in details] + again)


def _said_again(rng: random.Random, details: list[Detail]) -> str:
    form = rng.random()
    clauses = [detail.clause() for detail in details]
    if form < 0.35:
        return f"So {listed(clauses)}."
    if form < 0.55:
        return "\n".join(map(as_sentence, clauses))
    if form < 0.65:
        return "\n".join(f"{detail.who}: {detail.what}." for detail in details)
    if form < 0.75 and details[0].relation == "has":
        return " ".join(as_sentence(detail.turned()) for detail in details)
    return " ".join(f"I {rng.choice(('read', 'know'))} that {clause}." for clause in clauses)


# Every word that an answer may have to take over from its question.
_COPIED_WORDS = sorted(
    {*NAMES, *THINGS, *COLORS, *FOODS, *map(str, range(31))}
    | {word for fact in FACTS for phrase in (fact.subject, fact.object) for word in phrase.split()}
)


def _row_of_words(rng: random.Random, length: int) -> str:
    return " ".join(
        rng.choice(_COPIED_WORDS) if rng.random() < 0.85 else made_up_word(rng) for _ in range(length)
    )


def repeat_document(rng: random.Random) -> str:
    """A row of words, said two or three times: the shortest lesson in copying."""
    line = _row_of_words(rng, rng.randint(5, 14)) + "."
    return rng.choice(("\n", " ", " Again: ")).join([line] * rng.randint(2, 3))


def item(rng: random.Random, split: str) -> Item:
    """A passage with a question; the wrong answers say of the person asked what is true of the others."""
    details = _details(rng, split, rng.randint(2, 4))
    asked = rng.choice(details)
    passage = " ".join(as_sentence(detail.clause()) for detail in details)
    example = Example(
        prompt=f"{rng.choice(('', 'Read: ', 'Read this: '))}{passage} {asked.question()}",
        references=(asked.answer(),),
        kind="reading",
        key=asked.key,
    )
    wrong = [Detail(asked.who, asked.relation, other.what) for other in details if other != asked]
    return Item(example, tuple(detail.answer() for detail in wrong))


def items(rng: random.Random, split: str, count: int) -> list[Item]:
    """Passages with questions, all combinations from one side."""
    return distinct(lambda: item(rng, split), count)


def recall_example(rng: random.Random, split: str, count: int) -> Example:
    """A passage about `count` people, to continue where it comes back to one; the choices are what it says of them."""
    details = _details(rng, split, count)
    asked = rng.choice(details)
    passage = " ".join(as_sentence(detail.clause()) for detail in details)
    return Example(
        prompt=f"{passage} {asked.answer().removesuffix(f' {asked.what}.')}",
        references=(asked.answer(),),
        kind="recall",
        key=asked.key,
        choices=tuple(f" {detail.what}." for detail in details),
        label=details.index(asked),
    )


def repeat_item(rng: random.Random, split: str) -> Item:
    """Random words to be said again; no two splits hold the same row of them."""
    while True:
        words = _row_of_words(rng, rng.randint(1, 6))
        key = f"repeat:{words}"
        if split_of(key) == split:
            return Item(Example(f"Say this again: {words}", (f"Again: {words}.",), "repeat", key), ())


def repeat_items(rng: random.Random, split: str, count: int) -> list[Item]:
    """Rows of words of one side."""
    return distinct(lambda: repeat_item(rng, split), count)
