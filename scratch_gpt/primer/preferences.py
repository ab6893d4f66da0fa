# SPDX-License-Identifier: Apache-2.0
"""Preference pairs: one answer is better than the other for exactly one stated reason.

No chosen answer carries a phrase that would be a bonus by itself: a reward model that is given such a phrase
learns the phrase, and the policy then says it and nothing else.
"""

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from scratch_gpt.primer import faults
from scratch_gpt.primer.conversation import I_DO_NOT_KNOW
from scratch_gpt.primer.facts import BY_ANSWER, BY_RELATION, Fact
from scratch_gpt.primer.instructions import draw_items
from scratch_gpt.primer.splits import Item, check_split, generator, split_of
from scratch_gpt.tasks.example import Example


PAIR_COUNTS = {
    "train": {
        "fact": 1350,
        "reading": 450,
        "sum": 300,
        "en_de": 550,
        "advice": 220,
        "unanswerable": 150,
    },
    "dev": {
        "fact": 140,
        "reading": 45,
        "sum": 30,
        "en_de": 50,
        "advice": 25,
        "unanswerable": 15,
    },
    "test": {
        "fact": 150,
        "reading": 45,
        "sum": 30,
        "en_de": 55,
        "advice": 30,
        "unanswerable": 20,
    },
}
# More to learn from: a question comes with another worse answer each time.
PAIRS_PER_PROMPT = {"train": 2, "dev": 1, "test": 1}
# The hardest kind gets most of the training pairs; what is held out has all four about equally.
KINDS = ("right_wrong", "clear_rambling", "kind_rude", "finished_unfinished")
KIND_WEIGHTS = {"train": (0.64, 0.12, 0.12, 0.12), "dev": (0.25,) * 4, "test": (0.25,) * 4}
# Shares among the wrong answers: a right sentence that answers another prompt; else a plausible wrong answer.
ANSWERS_ANOTHER_PROMPT = 0.4
# Share of the other wrong answers about facts that refuse what is known: a refusal is no better by itself.
REFUSED = 0.12
# Share of answers about facts, good or wrong, that need not be in the model answer's words.
OTHER_WORDS = 0.3

_WORSE: dict[str, tuple[Callable[[random.Random, str], str], ...]] = {
    "clear_rambling": (faults.rambling,),
    "kind_rude": (faults.rude,),
    "finished_unfinished": (faults.unfinished, faults.cut_off),
}
FAULTS_OF_STYLE = tuple(_WORSE)


def _in_some_words(rng: random.Random, fact: Fact) -> str:
    """A fact, true or false: the share of other wordings is the same, or the wording would give it away."""
    return fact.statement(rng) if rng.random() < OTHER_WORDS else fact.answer()


def _good_answer(rng: random.Random, example: Example) -> str:
    answer = rng.choice(example.references)
    return _in_some_words(rng, BY_ANSWER[answer]) if example.kind == "fact" else answer


def _false_fact(rng: random.Random, fact: Fact) -> Fact | None:
    """The fact with the object of another one of its relation and split, or None.

    Among such pairs every object is as often wrong as it is right on average, for this fact gets that one's object as often as that one gets this
    one's (Metropolis' rule; a continent with most of the countries finds too few partners, hence None). Otherwise a
    reward model learns which names are good without looking at the question, and held-out names, which were never right
    in its training, are bad to it.
    """
    peers = [peer for peer in BY_RELATION[fact.relation] if split_of(peer.key) == split_of(fact.key)]
    same = Counter(peer.object for peer in peers)
    others = [peer for peer in peers if peer.object != fact.object]
    if not others:
        return None
    other = rng.choice(others)
    if other.object == fact.subject or rng.random() > len(others) / (len(peers) - same[other.object]):
        return None
    return Fact(fact.subject, fact.relation, other.object)


def _wrong_answer(rng: random.Random, item: Item, others: list[Item]) -> str | None:
    if rng.random() < ANSWERS_ANOTHER_PROMPT:
        strangers = [rng.choice(others).example for _ in range(8)]
        for stranger in strangers:
            if stranger.key != item.example.key and stranger.references[0] not in item.example.references:
                return _good_answer(rng, stranger)
    if item.example.kind == "fact":
        if rng.random() < REFUSED:
            return I_DO_NOT_KNOW
        false = _false_fact(rng, BY_ANSWER[item.example.references[0]])
        return _in_some_words(rng, false) if false else None
    return rng.choice(item.wrong)


def preferences(split: str, seed: int = 0) -> list[dict[str, Any]]:
    """Rows {"prompt", "chosen", "rejected", "kind", "key"}; the three texts are lists of messages.

    Kinds: right_wrong, clear_rambling, kind_rude, finished_unfinished.

    Raises:
        UserError: for an unknown split.
    """
    check_split(split)
    rng = generator(seed, "preferences", split)
    items = draw_items(PAIR_COUNTS[split], rng, split)
    rows = []
    for item in items * PAIRS_PER_PROMPT[split]:
        (kind,) = rng.choices(KINDS, KIND_WEIGHTS[split])
        chosen = _good_answer(rng, item.example)
        rejected = _wrong_answer(rng, item, items) if kind == "right_wrong" else None
        if rejected is None:
            kind = rng.choice(FAULTS_OF_STYLE) if kind == "right_wrong" else kind
            rejected = rng.choice(_WORSE[kind])(rng, chosen)
        rows.append(
            {
                "prompt": [{"role": "user", "content": item.example.prompt}],
                "chosen": [{"role": "assistant", "content": chosen}],
                "rejected": [{"role": "assistant", "content": rejected}],
                "kind": kind,
                "key": item.example.key,
            }
        )
    rng.shuffle(rows)
    return rows
