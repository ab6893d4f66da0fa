# SPDX-License-Identifier: Apache-2.0
"""The primer's gold score, style faults and preference pairs."""

import itertools
import random
from collections import Counter

import pytest

from scratch_gpt.primer import (
    SPLITS,
    arithmetic,
    benchmark,
    facts,
    faults,
    gold_score,
    instructions,
    preferences,
    prompts,
    story_coherence,
)
from scratch_gpt.primer.instructions import draw_items
from scratch_gpt.primer.preferences import PAIR_COUNTS
from scratch_gpt.primer.splits import generator
from scratch_gpt.primer.wording import words
from scratch_gpt.tasks.example import Example


CAPITAL = Example(
    "What is the capital of France?", ("The capital of France is Paris.",), "fact", "fact:capital:France"
)
OPPOSITE = Example(
    "What is the opposite of hot?",
    ("The opposite is cold.",),
    "fact",
    "fact:opposite:cold-hot",
)
SUM = Example("What is 8 + 2?", (arithmetic.Sum(8, "+", 2).answer(10),), "sum", "sum:8 + 2")
GERMAN = Example("Say in German: a small dog", ("ein kleiner Hund.",), "en_de", "translation:small dog")
READING = Example(
    "Read: Tom has a blue hat. Anna has a red ball. What does Tom have?",
    ("Tom has a blue hat.",),
    "reading",
    "reading:has:Tom:a blue hat",
)
ADVICE = Example(
    "I lost my hat. What should I do?", ("Look for your hat under the bed.",), "advice", "advice:lost:hat"
)


@pytest.mark.parametrize(
    ("example", "completion", "finished", "score"),
    [
        (CAPITAL, "The capital of France is Paris.", True, 1.0),
        (CAPITAL, "It is Paris!", True, 1.0),
        (CAPITAL, "The capital of France is Rome.", True, 0.0),
        (CAPITAL, "Paris or Rome.", True, 0.0),
        (CAPITAL, "", True, 0.0),
        (CAPITAL, "The capital of France is Paris", True, 0.5),
        (CAPITAL, "The capital of France is Paris.", False, 0.5),
        (CAPITAL, "What a silly question. The capital of France is Paris.", True, 0.5),
        (CAPITAL, "Paris is it. " + "My uncle has a red hat at home today. " * 2, True, 0.25),
        (
            CAPITAL,
            "The capital of France is Paris. I like soup, and I like to sit by the old river.",
            True,
            0.5,
        ),
        (CAPITAL, "You fool. The capital of France is Paris", False, 0.25),
        (OPPOSITE, "Hot is the opposite of cold.", True, 1.0),
        (OPPOSITE, "The opposite of hot is small.", True, 0.0),
        (SUM, "The answer is 10.", True, 1.0),
        (SUM, "8 + 2 is 11.", True, 0.0),
        (SUM, "It is many.", True, 0.0),
        (GERMAN, "Ein kleiner Hund.", True, 1.0),
        (GERMAN, "ein kleine Hund.", True, 0.0),
        (READING, "A blue hat.", True, 1.0),
        (READING, "Tom has a red ball.", True, 0.0),
        (ADVICE, "Ask somebody to find the hat.", True, 1.0),
        (ADVICE, "Bake a cake for your hat.", True, 0.0),
        (ADVICE, "Look for your book.", True, 0.0),
    ],
)
def test_gold_score_by_hand(example, completion, finished, score):
    """Wrong is 0, right is 1, each fault of style halves: cases worked out by hand."""
    assert gold_score(example, completion, finished) == score


@pytest.mark.parametrize("split", SPLITS)
def test_gold_score_accepts_all_references(split):
    """Every reference of every prompt is worth 1, in its first wording and, for facts, in all."""
    for example in prompts(split):
        for reference in example.references:
            assert gold_score(example, reference, finished=True) == 1.0
    for fact in facts.in_split(split):
        example = facts.item(fact, fact.questions()[0]).example
        for clause in fact.clauses():
            assert gold_score(example, clause + ".", finished=True) == 1.0


def test_gold_score_ranks_preference_pairs():
    """Chosen answers beat rejected ones in at least 99% of pairs, and score 1."""
    items = draw_items(PAIR_COUNTS["dev"], generator(0, "preferences", "dev"), "dev")
    by_prompt = {item.example.prompt: item.example for item in items}
    better = []
    for row in preferences("dev"):
        example = by_prompt[row["prompt"][0]["content"]]
        chosen = gold_score(example, row["chosen"][0]["content"], finished=True)
        assert chosen == 1.0
        better.append(chosen > gold_score(example, row["rejected"][0]["content"], finished=True))
    assert sum(better) / len(better) >= 0.99


def _found_faults(example, completion):
    return {
        "rambling": faults.is_rambling(completion, example.references),
        "rude": faults.is_rude(completion),
        "unfinished": faults.is_unfinished(completion, finished=True),
    }


def test_poor_styles_are_recognised_and_varied():
    """Each fault is found as itself alone, leaves the answer right, and comes in more than 50 wordings."""
    rng = random.Random(0)
    for name, fault in {"rambling": faults.rambling, "unfinished": faults.unfinished}.items():
        poor = [fault(rng, CAPITAL.references[0]) for _ in range(400)]
        assert len(set(poor)) > 50
        for text in poor:
            assert [found for found, there in _found_faults(CAPITAL, text).items() if there] == [name]
            assert 0 < gold_score(CAPITAL, text, finished=True) <= 0.5


def test_no_training_answer_has_a_fault_of_style():
    """Tuning teaches no rambling, rude or unfinished answer about facts: alignment has nothing planted to remove."""
    for row in instructions("train"):
        if row["kind"] in ("fact", "fact_casual"):
            answer = row["messages"][-1]["content"]
            example = Example("", (facts.BY_ANSWER[answer].answer(),), row["kind"], row["key"])
            assert not any(_found_faults(example, answer).values())


def test_preference_pairs_have_all_kinds_and_differ():
    """Each split has each kind of pair, and the two sides are never the same text."""
    for split in SPLITS:
        rows = preferences(split)
        kinds = Counter(row["kind"] for row in rows)
        assert set(kinds) == {"right_wrong", "clear_rambling", "kind_rude", "finished_unfinished"}
        assert all(row["chosen"] != row["rejected"] for row in rows)


def test_no_phrase_marks_the_chosen_side():
    """No pair of words is common on the chosen side and rare on the rejected one (a bonus to be hacked).

    Over three seeds, since a color of the reading questions may be 46 to 21 by chance in one.
    """
    sides = {}
    rows = [row for seed in range(3) for row in preferences("train", seed) if row["kind"] == "right_wrong"]
    for side in ("chosen", "rejected"):
        texts = [words(row[side][0]["content"]) for row in rows]
        sides[side] = Counter(pair for text in texts for pair in set(itertools.pairwise(text)))
    marked = [
        pair
        for pair, count in sides["chosen"].items()
        if count > 3 * 40 and count > 2 * sides["rejected"][pair]
    ]
    assert not marked


def test_story_coherence_by_hand():
    """The true ending scores 1; each missing requirement costs a fifth."""
    example = Example(
        "Anna is very thirsty. She wants some milk.",
        ("Anna drinks the milk.",),
        "story",
        "story:thirsty:Anna:milk",
    )
    assert story_coherence(example, "Anna drinks the milk.") == 1.0
    assert story_coherence(example, "Tom drinks the milk.") == pytest.approx(0.6)
    assert story_coherence(example, "Anna looks at the milk.") == pytest.approx(0.8)
    assert story_coherence(example, "Anna drinks milk. Anna drinks milk.") == pytest.approx(0.8)
    for story in benchmark("stories", "test"):
        # A few true endings speak of the main character as "he" or "she" only.
        assert story_coherence(story, story.references[0]) >= 0.8
