# SPDX-License-Identifier: Apache-2.0
"""The embedded corpus: what it holds out is answered nowhere, and what it teaches is right."""

import itertools
import json
import os
import random
import re
import subprocess
import sys
from collections import Counter, defaultdict

import pytest

from scratch_gpt.primer import (
    BENCHMARKS,
    MIXTURE,
    SPLITS,
    arithmetic,
    benchmark,
    conversation,
    documents,
    facts,
    faults,
    gold_score,
    instructions,
    preferences,
    prompts,
    reading,
    split_of,
    tables,
    translation,
    world,
)
from scratch_gpt.primer.pairs import KEYS, LESSONS, PAIRS, TIMES
from scratch_gpt.primer.pretraining import CURRICULUM, documents_with_kinds, shares_after
from scratch_gpt.primer.wording import NAMES, capitalized, mentions, normalized, sentences, words
from wording import user_error


TWO_MILLION = 2_000_000


@pytest.fixture(scope="module")
def text():
    """The curriculum and two million characters after it, as (kind, document, where it begins)."""
    found, size = [], 0
    for kind, document in documents_with_kinds(seed=0, curriculum=True):
        found.append((kind, document, size))
        size += len(document)
        if size >= CURRICULUM[-1][0] + TWO_MILLION:
            return found


@pytest.fixture(scope="module")
def text_by_kind(text):
    """The documents by kind."""
    by_kind = defaultdict(list)
    for kind, document, _ in text:
        by_kind[kind].append(document)
    return by_kind


@pytest.fixture(scope="module")
def fine_tuning():
    """All that training answers: (prompt, answers, key) of the training splits."""
    rows = [
        (said["content"], [answer["content"]], row["key"])
        for row in instructions("train")
        for said, answer in zip(row["messages"][::2], row["messages"][1::2], strict=True)
    ]
    rows += [
        (
            row["prompt"][0]["content"],
            [row["chosen"][0]["content"], row["rejected"][0]["content"]],
            row["key"],
        )
        for row in preferences("train")
    ]
    rows += [(example.prompt, list(example.references), example.key) for example in prompts("train")]
    return rows


@pytest.mark.parametrize("split", ["dev", "test"])
def test_no_benchmark_content_is_answered_in_fine_tuning(split, fine_tuning):
    """No key, prompt or statement of a held-out benchmark occurs in any training row."""
    keys = {key for _, _, key in fine_tuning}
    asked = {normalized(prompt) for prompt, _, _ in fine_tuning}
    said = {normalized(part) for _, answers, _ in fine_tuning for text in answers for part in sentences(text)}
    for name in BENCHMARKS:
        for example in benchmark(name, split):
            assert example.key not in keys
            assert normalized(example.prompt) not in asked
    for fact in facts.in_split(split):
        assert not said & {normalized(clause) for clause in fact.right_clauses()}


def test_held_out_rows_and_prompts_are_of_their_split():
    """Every row of every split has a key of that split (everyday conversation, in training only, has no side)."""
    for split in SPLITS:
        rows = [row["key"] for row in instructions(split) + preferences(split)]
        rows += [example.key for example in prompts(split)]
        assert rows
        assert {split_of(key) for key in rows if key != "conversation"} == {split}


def test_held_out_question_phrasings_are_not_in_fine_tuning(fine_tuning):
    """A phrasing kept for the benchmark is used for no fact in training, known or not."""
    held_out = {question for fact in facts.FACTS for question in fact.held_out_questions()}
    assert not held_out & {prompt for prompt, _, _ in fine_tuning}


def test_nothing_that_a_model_learns_to_say_is_rude(text_by_kind, fine_tuning):
    """No document, fine-tuning answer or chosen answer insults; only rejected answers do, in tame words."""
    said = [text for texts in text_by_kind.values() for text in texts]
    said += [turn["content"] for row in instructions("train") for turn in row["messages"]]
    pairs = preferences("train")
    said += [row["chosen"][0]["content"] for row in pairs]
    assert not [text for text in said if faults.is_rude(text)]
    rejected = [row["rejected"][0]["content"] for row in pairs if row["kind"] == "kind_rude"]
    assert all(map(faults.is_rude, rejected))
    assert not [text for text in rejected if {"idiot", "stupid", "dumb", "fool"} & set(words(text))]


def test_nobody_can_answer_the_unanswerable(text_by_kind):
    """The names of questions that nobody can answer occur in no document, whole or in another case."""
    known = {word for texts in text_by_kind.values() for text in texts for word in words(text)}
    for split in SPLITS:
        for item in conversation.unanswerable_items(random.Random(0), split, 200):
            assert item.example.references == ("I do not know that.",)
            assert not known & set(words(item.example.key.removeprefix("unanswerable:")))


def test_the_name_decides_and_not_the_wording():
    """Each unusual wording asks about known and about unknown names, and known facts are answered in it."""
    known = conversation.casual_items(random.Random(0), "train", 450)
    unknown = conversation.unanswerable_items(random.Random(0), "train", 300)
    assert all(gold_score(item.example, item.example.references[0], finished=True) == 1 for item in known)
    for words_of_it in ("tell me", "what do you know about", "I want to know", "what?", "..."):
        for items in (known, unknown):
            asked = [item for item in items if words_of_it.lower() in item.example.prompt.lower()]
            assert len(asked) > 1, words_of_it
    # a relation of few facts is not one that is mostly refused
    weekdays = [item for item in unknown if "day" in item.example.prompt.split()]
    assert len(weekdays) < 15


def test_people_ask_more_than_one_thing():
    """A good part of the training conversations has several turns, each with its answer."""
    lengths = Counter(len(row["messages"]) // 2 for row in instructions("train"))
    assert 0.1 < 1 - lengths[1] / lengths.total() < 0.25
    assert set(lengths) <= {1, 2, 3, 4, 5, 6}


def test_capital_of_france_is_held_out():
    """The question that everybody tries is a test question."""
    capital = [example for example in benchmark("facts", "test") if example.key == "fact:capital:France"]
    assert {example.kind for example in capital} == {"fact", "fact_new_phrasing"}
    assert capital[0].references[:2] == (
        "The capital of France is Paris.",
        "Paris is the capital of France.",
    )


def test_pretraining_text_states_every_held_out_fact(text_by_kind):
    """Each fact of dev and test is stated at least 20 times in two million characters."""
    fact_of = {normalized(clause): fact for fact in facts.FACTS for clause in fact.clauses()}
    said = [normalized(part) for texts in text_by_kind.values() for text in texts for part in sentences(text)]
    stated = Counter(fact_of[sentence].key for sentence in said if sentence in fact_of)
    rare = [fact for split in ("dev", "test") for fact in facts.in_split(split) if stated[fact.key] < 20]
    assert not rare


def test_pretraining_text_never_shows_held_out_combinations(text_by_kind):
    """Held-out sums, translations and passage details occur in no document."""
    sums = {task.equation() for task in arithmetic.SUMS if split_of(task.key) != "train"}
    counted = {f"{task.counting()[:-1]}. " for task in arithmetic.SUMS if split_of(task.key) != "train"}
    for text in text_by_kind["arithmetic"]:
        assert not [equation for equation in sums if f" {equation}." in f" {text}".replace("\n", " ")]
        assert not [counting for counting in counted if counting in text]
    rng = random.Random(0)
    held_out = {pair.english for pair in (translation.pair(rng, "test") for _ in range(3000))}
    for text in text_by_kind["translation"]:
        lowered = f" {normalized(text)} "
        assert not [english for english in held_out if f" {english} " in lowered]
    details = {
        normalized(detail.clause())
        for (split, _), pool in reading._BY_SPLIT.items()
        if split != "train"
        for detail in pool
    }
    said = [*text_by_kind["recall"], *text_by_kind["is_pairs"]]
    recalled = {normalized(part) for text in said for part in sentences(text)}
    assert not details & recalled


def test_no_document_answers_a_question(text_by_kind):
    """A document with a question holds nothing but questions, or each with the beginning of its answer and a gap."""
    fact_of = {question: fact for fact in facts.FACTS for question in fact.questions()}
    for kind, texts in text_by_kind.items():
        for text in texts:
            if kind == "quiz":
                assert all(line.endswith("?") for line in text.splitlines())
            elif kind == "worksheet":
                title, *lines = text.splitlines()
                assert title == "Fill in."
                for question, gap in zip(lines[::2], lines[1::2], strict=True):
                    fact = fact_of[question]
                    assert gap == capitalized(fact.answer_beginning()) + " ..."
                    assert not mentions(gap.replace(fact.subject, ""), fact.object)
            else:
                assert "?" not in text


def test_an_answer_about_things_of_one_kind_names_one():
    """Subjects of a relation that are also its objects are not in the model answer: it could name the wrong one."""
    for relation, about in facts.BY_RELATION.items():
        if {fact.subject for fact in about} & set(facts.OBJECTS[relation]):
            assert not [fact for fact in about if mentions(fact.answer(), fact.subject)]
            assert all(mentions(fact.answer(), fact.object) for fact in about)


def test_opposites_are_named_in_either_order():
    """Both orders of the two words answer the question for one of them; the opposite of the other one does not."""
    (example,) = [
        example
        for split in SPLITS
        for example in benchmark("facts", split)
        if example.key == "fact:opposite:cold-hot" and example.kind == "fact" and "of hot?" in example.prompt
    ]
    assert {"The opposite is cold.", "Hot and cold are opposites.", "Cold and hot are opposites."} <= set(
        example.references
    )
    assert "The opposite of cold is hot." not in example.references


def test_quiz_sheets_ask_held_out_questions_too(text_by_kind):
    """Sheets begin with questions of all kinds, so that no question is strange to the base model."""
    first = {text.splitlines()[0] for text in text_by_kind["quiz"]}
    assert first & {question for fact in facts.in_split("test") for question in fact.held_out_questions()}
    assert all(4 <= len(text.splitlines()) <= 8 for text in text_by_kind["quiz"])


def shares_between(text, start, stop):
    """Shares of the characters of the documents that begin there."""
    sizes = Counter()
    for kind, document, position in text:
        if start <= position < stop:
            sizes[kind] += len(document)
    return {kind: size / sizes.total() for kind, size in sizes.items()}


def test_documents_follow_the_mixture(text):
    """After the curriculum each kind has its stated share of characters, and documents are short."""
    assert sum(MIXTURE.values()) == pytest.approx(1.0)
    end = CURRICULUM[-1][0]
    assert shares_between(text, end, end + TWO_MILLION) == pytest.approx(MIXTURE, abs=0.001)
    assert max(len(words(document)) for _, document, _ in text) <= 160


def test_text_begins_with_the_curriculum(text):
    """First neighbours alone; between two points shares change on a straight line, and they always add up to 1."""
    (_, first), (start, before), (stop, after) = CURRICULUM[0], CURRICULUM[-2], CURRICULUM[-1]
    assert shares_between(text, 0, 100_000) == first == {"beside_pairs": 1.0}
    middle = (start + stop) / 2
    assert shares_after(middle)["recall"] == pytest.approx((before["recall"] + after["recall"]) / 2)
    between = shares_between(text, middle - 50_000, middle + 50_000)
    assert between == pytest.approx(shares_after(middle), abs=0.01)
    for characters in range(0, stop + 50_000, 50_000):
        assert sum(shares_after(characters).values()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("kind", "patterns"),
    [
        ("beside_pairs", [r"(\w+) (\w+)"]),
        ("colon_pairs", [r"(\w+): (\w+)\.", r"(\w+) (\w+)(?= |$)"]),
        ("has_pairs", [r"(\w+) has (a [a-z ]+)\."]),
        ("is_pairs", [r"(\w+) is ([a-z ]+)\.", r"(\w+): ([a-z ]+)\."]),
    ],
)
def test_lists_say_each_pair_several_times(kind, patterns, text_by_kind):
    """Four pairs of a name and a thing of the passages, each time in one of the lesson's forms; no two things are the same."""
    forms = Counter()
    for document in text_by_kind[kind][:300]:
        said = [Counter(re.findall(pattern, document)) for pattern in patterns]
        counts = sum(said, Counter())
        assert list(counts.values()) == [TIMES] * PAIRS
        assert len({key for key, _ in counts}) == len({value for _, value in counts}) == PAIRS
        assert {key for key, _ in counts} < set(KEYS)
        assert {value for _, value in counts} < set(LESSONS[kind].values)
        forms.update(form for form, found in enumerate(said) for _ in range(found.total() // PAIRS))
    assert set(forms) == set(range(len(patterns)))


def test_common_vocabulary_is_small(text_by_kind):
    """The words met at least 20 times, made-up copying words aside, fit a small tokenizer."""
    counts = Counter(word for texts in text_by_kind.values() for text in texts for word in words(text))
    common = sum(count >= 20 for count in counts.values())
    assert 600 < common < 1500


def test_everything_is_the_same_in_another_process():
    """A seed gives the same text and rows whatever Python's hash seed is; another seed gives others."""
    program = (
        "import itertools, json\n"
        "from scratch_gpt.primer import *\n"
        "parts = [list(itertools.islice(documents(3), 300)), instructions('dev', 3), preferences('dev', 3)]\n"
        "parts += [[e.prompt for e in prompts('dev', 3)], [e.prompt for e in benchmark('reading', 'dev', 3)]]\n"
        "print(json.dumps(parts))\n"
    )
    elsewhere = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert json.loads(elsewhere) == [
        list(itertools.islice(documents(3), 300)),
        instructions("dev", 3),
        preferences("dev", 3),
        [example.prompt for example in prompts("dev", 3)],
        [example.prompt for example in benchmark("reading", "dev", 3)],
    ]
    assert list(itertools.islice(documents(3), 50)) != list(itertools.islice(documents(4), 50))


@pytest.fixture(scope="module")
def german_of():
    """Translations of so many random phrases that each possible one is among them."""
    rng = random.Random(0)
    pairs = (translation.pair(rng, split) for split in SPLITS for _ in range(80_000))
    return {pair.english: pair.german for pair in pairs}


@pytest.mark.parametrize(
    ("english", "german"),
    [
        ("the small dog sleeps", "der kleine Hund schläft"),
        ("a small dog", "ein kleiner Hund"),
        ("an old horse", "ein altes Pferd"),
        ("I see the small dog", "ich sehe den kleinen Hund"),
        ("we buy a red lamp", "wir kaufen eine rote Lampe"),
        ("she finds a beautiful book", "sie findet ein schönes Buch"),
        ("he has a black hat", "er hat einen schwarzen Hut"),
        ("the tired children sleep", "die müden Kinder schlafen"),
        ("the big mice", "die großen Mäuse"),
        ("a happy girl sings", "ein fröhliches Mädchen singt"),
        ("the young woman laughs", "die junge Frau lacht"),
        ("she paints the white house", "sie malt das weiße Haus"),
    ],
)
def test_german_is_right(german_of, english, german):
    """Articles, adjective endings, plurals and verbs agree with sentences translated by hand."""
    assert german_of[english] == german


def test_facts_are_consistent():
    """Each question has one answer, each answer is that of one fact, each relation has enough phrasings; 700 to 900 facts."""
    assert 700 <= len(facts.FACTS) == len(facts.BY_ANSWER) <= 900
    assert len({(fact.subject, fact.relation) for fact in facts.FACTS}) == len(facts.FACTS)
    for relation, about in facts.BY_RELATION.items():
        assert len(facts.OBJECTS[relation]) >= 5
        for fact in about:
            assert len(set(fact.clauses())) >= 6
            assert len(set(fact.questions() + fact.held_out_questions())) >= 5
    looked_up = {(fact.subject, fact.relation): fact.object for fact in facts.FACTS}
    assert looked_up["Japan", "currency"] == "yen"
    assert looked_up["Australia", "capital"] == "Canberra"
    assert looked_up["goose", "young"] == "gosling"
    assert looked_up["December", "month"] == "January"


@pytest.mark.parametrize(
    ("task", "answer"),
    [
        (
            arithmetic.Sum(8, "+", 3),
            "8 + 3: Start at 8: 1 more is 9, 2 more is 10, 3 more is 11. The answer is 11.",
        ),
        (arithmetic.Sum(5, "-", 2), "5 - 2: Start at 5: 1 less is 4, 2 less is 3. The answer is 3."),
    ],
)
def test_sums_are_counted_out(task, answer):
    """The model answer counts step by step to the right result."""
    assert task.answer(task.result) == answer


def test_choices_hold_the_answer_at_every_place():
    """The label points at the answer, the four choices differ, and the labels are even."""
    examples = benchmark("choices", "test")
    for example in examples:
        assert example.choices[example.label] == example.references[0]
        assert len(set(example.choices)) == 4
    counts = Counter(example.label for example in examples)
    assert max(counts.values()) - min(counts.values()) <= 1


def test_invented_names_are_new_words():
    """No invented place, river, ruler or person is called like anything else."""
    invented = [name for row in world.PLACES for name in row[:3]] + [row[0] for row in world.PEOPLE]
    assert len({name.lower() for name in invented}) == 60 * 4
    known = words(tables.COUNTRIES + tables.ANIMALS + tables.OPPOSITES + tables.MONTHS + " ".join(NAMES))
    known += [*world.PRODUCTS, *world.JOBS, *world.PETS]
    assert not set(known) & {name.lower() for name in invented}


def test_unknown_names_are_refused():
    """A wrong split or benchmark is named in the message, with what there is."""
    with user_error("wrong_value", "train", "dev", "test", setting="split", value="valid"):
        instructions("valid")
    with user_error("wrong_value", "facts", setting="benchmark", value="maths"):
        benchmark("maths", "test")
