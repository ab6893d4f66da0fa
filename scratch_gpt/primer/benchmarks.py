# SPDX-License-Identifier: Apache-2.0
"""Benchmarks over what fine-tuning never answered."""

import random
from collections.abc import Callable

from scratch_gpt.errors import UserError, did_you_mean
from scratch_gpt.primer import arithmetic, conversation, facts, reading, stories, translation
from scratch_gpt.primer.splits import check_split, generator
from scratch_gpt.primer.wording import as_sentence
from scratch_gpt.tasks.example import Example


CHOICES = 4
# Most items of one benchmark; facts are asked once in known and once in new words.
SIZE = 200


def _facts(rng: random.Random, split: str) -> list[Example]:
    """Whatever states the fact is right: the model answer first, then the other wordings of the pretraining text."""
    examples = []
    for fact in facts.in_split(split):
        wordings = tuple(dict.fromkeys(map(as_sentence, fact.right_clauses())))
        for kind, questions in (("fact", fact.questions()), ("fact_new_phrasing", fact.held_out_questions())):
            examples.append(Example(rng.choice(questions), wordings, kind, fact.key))
    return examples


def _choices(rng: random.Random, split: str) -> list[Example]:
    """The label takes all places equally often: position tells nothing."""
    examples = []
    for index, fact in enumerate(facts.in_split(split)):
        item = facts.item(fact, rng.choice(fact.questions()))
        label = index % CHOICES
        choices = rng.sample(item.wrong, CHOICES - 1)
        choices.insert(label, fact.answer())
        examples.append(
            Example(item.example.prompt, item.example.references, "choices", fact.key, tuple(choices), label)
        )
    return examples


def _sums(rng: random.Random, split: str) -> list[Example]:
    return [item.example for item in arithmetic.items(rng, split, SIZE)]


def _reading(rng: random.Random, split: str) -> list[Example]:
    return [item.example for item in reading.items(rng, split, SIZE)]


def _translation(rng: random.Random, split: str) -> list[Example]:
    return [item.example for item in translation.items(rng, split, SIZE)]


def _stories(rng: random.Random, split: str) -> list[Example]:
    return [item.example for item in stories.ending_items(rng, split, SIZE)]


def _unanswerable(rng: random.Random, split: str) -> list[Example]:
    return [item.example for item in conversation.unanswerable_items(rng, split, SIZE)]


BENCHMARKS: dict[str, Callable[[random.Random, str], list[Example]]] = {
    "facts": _facts,
    "choices": _choices,
    "sums": _sums,
    "reading": _reading,
    "translation": _translation,
    "stories": _stories,
    "unanswerable": _unanswerable,
}


def benchmark(name: str, split: str, seed: int = 0) -> list[Example]:
    """The examples of one benchmark, in random order.

    facts: kinds "fact" and "fact_new_phrasing"; choices: four objects of one relation; sums: the
    last number of the answer counts; reading; translation: kind "en_de"; stories: the prompt is a beginning, judged by
    `story_coherence`; unanswerable: questions about names that the corpus never names, which the right answer refuses.

    Raises:
        UserError: for an unknown benchmark or split.
    """
    check_split(split)
    if name not in BENCHMARKS:
        message = (
            f"unknown benchmark {name!r}{did_you_mean(name, BENCHMARKS)} (known: {', '.join(BENCHMARKS)})"
        )
        raise UserError("wrong_value", message, setting="benchmark", value=name)
    rng = generator(seed, "benchmark", name, split)
    examples = BENCHMARKS[name](rng, split)
    rng.shuffle(examples)
    return examples
