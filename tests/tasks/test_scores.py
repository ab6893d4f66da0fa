# SPDX-License-Identifier: Apache-2.0
"""Scores against values worked out by hand."""

import importlib.util
import itertools
import math
import random
import re
import string
from decimal import Decimal

import pytest

from scratch_gpt.tasks import scores


@pytest.mark.parametrize(
    ("prediction", "references", "match", "f1"),
    [
        ("The capital of France is Paris.", ["capital of france is paris"], 1.0, 1.0),
        ("Paris", ["The capital is Paris."], 0.0, 2 * 1 / (1 + 3)),
        ("red red ball", ["a red ball"], 0.0, 2 * 2 / (3 + 2)),
        ("no", ["yes", "no"], 1.0, 1.0),
        ("", ["yes"], 0.0, 0.0),
        ("the", ["an"], 1.0, 1.0),
    ],
)
def test_answers_are_compared_as_in_squad(
    prediction: str, references: list[str], match: float, f1: float
) -> None:
    """Case, punctuation and articles do not count, repeated words count as often as both have them."""
    assert scores.exact_match(prediction, references) == match
    assert scores.token_f1(prediction, references) == pytest.approx(f1)


@pytest.mark.parametrize(
    ("prediction", "reference"),
    [
        ("北京。", "北京"),
        ("「東京」", "東京"),
        ("cafe\u0301", "café"),
        ("“Paris”…", "paris"),
        ("ＡＢＣ", "abc"),
        ("القاهرة\u200f؟", "القاهرة"),
        ("दिल्ली।", "दिल्ली"),
        ("Straße", "STRASSE"),
    ],
)
def test_answers_of_other_scripts_match(prediction: str, reference: str) -> None:
    """Unicode's punctuation, spellings and invisible characters do not count; another answer is still wrong."""
    assert scores.exact_match(prediction, [reference]) == scores.token_f1(prediction, [reference]) == 1.0
    assert scores.exact_match(prediction, [reference + "x"]) == 0.0


def test_characters_are_words_without_spaces() -> None:
    """Two of three characters of the prediction stand in the reference, which has four."""
    assert scores.token_f1("北京市", ["在北京。吗"]) == pytest.approx(2 * 2 / (3 + 4))


SUMMARIES = [
    "Шторм обрушился на город.",
    "风暴袭击了城市。",
    "พายุพัดเข้าเมือง",
    "ضربت العاصفة المدينة.",
    "तूफान ने शहर को मारा।",
]


@pytest.mark.parametrize("summary", SUMMARIES)
def test_rouge_of_a_perfect_summary_is_1(summary: str) -> None:
    """And of one in another script 0."""
    assert set(scores.rouge(summary, [summary]).values()) == {1.0}
    others = [other for other in SUMMARIES if other != summary]
    assert set(scores.rouge(summary, others).values()) == {0.0}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("\u2068القاهرة\u2069", "القاهرة"),
        ("محمـــد", "محمد"),
        ("❤\ufe0f", "❤"),
        ("\u180eᠮᠣ\u180bᠩ", "ᠮᠣᠩ"),
        ("co\u00adop\u2060", "coop"),
        ("İSTANBUL", "istanbul"),
        ("istanbul", "İstanbul"),
        ("DIŞ", "dış"),
        ("ISPARTA", "ısparta"),
    ],
)
def test_what_looks_the_same_matches(one: str, other: str) -> None:
    """Invisible characters, stretched letters and Turkish capitals make no other answer."""
    assert scores.exact_match(one, [other]) == 1.0
    assert scores.token_f1(one, [other]) == 1.0


@pytest.mark.parametrize("phrase", ["我不知道。", "ฉันไม่รู้", "分かりません", "😊🎉", "не знаю ", "I do not "])
def test_loops_are_seen_in_every_script(phrase: str) -> None:
    """Said once, nothing is repeated; said forty times, nearly all is."""
    assert scores.repetition(phrase) == 0.0
    assert scores.repetition(phrase * 40) > 0.9


ENGLISH = [
    "The cat sat on the mat. The cat sat on the mat!",
    "It's a well-known, state-of-the-art result: 1,234.5 (or so).",
    'An answer_with underscores\tand\n\nblank lines, e.g. "quotes".',
    "",
]


def test_english_scores_are_what_they_were() -> None:
    """By the definitions before there were other scripts: SQuAD's script, rouge_score's words, words between blanks."""

    def squad(text: str) -> list[str]:
        text = "".join(character for character in text.lower() if character not in string.punctuation)
        return re.sub(r"\b(a|an|the)\b", " ", text).split()

    for text in ENGLISH:
        assert scores.normalize_answer(text).split() == squad(text)
        assert scores._rouge_words(text) == re.findall("[a-z0-9]+", text.lower())
        split = text.lower().split()
        assert scores.ngrams(text, 2) == list(itertools.pairwise(split))
    assert scores.token_f1(ENGLISH[0], [ENGLISH[1]]) == 0.0
    assert scores.rouge(ENGLISH[0], [ENGLISH[1]]) == {"rouge_1": 2 / 27, "rouge_2": 0.0, "rouge_l": 2 / 27}
    assert scores.repetition(ENGLISH[0]) == 1 - 7 / 9


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("答案是 ４２。", Decimal(42)),
        ("الجواب ٣٫٥", Decimal("3.5")),
        ("Start at 8: 1 more is 9. The answer is 10.", Decimal(10)),
        ("#### 1,234", Decimal(1234)),
        ("It costs $2.50.", Decimal("2.5")),
        ("The result is -3", Decimal(-3)),
        ("7-2", Decimal(2)),
        ("B-2", Decimal(2)),
        ("答案是-5", Decimal(-5)),
        ("答えは-5です", Decimal(-5)),
        ("It is \u22125.", Decimal(-5)),
        ("none", None),
        # decimal commas, and thousands of any language
        ("Das sind 3,5 m", Decimal("3.5")),
        ("0,125", Decimal("0.125")),
        ("12,34", Decimal("12.34")),
        ("3,14159", Decimal("3.14159")),
        ("1234,567", Decimal("1234.567")),
        ("1.234,5", Decimal("1234.5")),
        ("1.234.567", Decimal(1234567)),
        ("1.234.567,89", Decimal("1234567.89")),
        ("1,234,567.89", Decimal("1234567.89")),
        ("\u20b91,23,456", Decimal(123456)),
        ("1\u00a0234", Decimal(1234)),
        ("1\u202f234\u202f567,5", Decimal("1234567.5")),
        ("1'234.50", Decimal("1234.5")),
        ("1\u2019234", Decimal(1234)),
        # as in English, where both readings are usual
        ("1,234", Decimal(1234)),
        ("1.234", Decimal("1.234")),
        ("12 345", Decimal(345)),
        ("1,2,3", Decimal(3)),
        ("5,2.5", Decimal("2.5")),
        ("It costs $1,000,", Decimal(1000)),
        # wide signs, and signs behind letters of scripts without spaces
        ("答案是－５", Decimal(-5)),
        ("３．５", Decimal("3.5")),
        ("１，２３４", Decimal(1234)),
        ("１，２", Decimal(2)),
        ("1，234", Decimal(234)),
        ("คำตอบคือ-5", Decimal(-5)),
        ("ຄຳຕອບ-5", Decimal(-5)),
        ("\u0e57-\u0e52", Decimal(2)),
    ],
)
def test_the_last_number_is_read(text: str, number: Decimal | None) -> None:
    """Commas, decimals and signs are part of a number, a minus between two numbers is not."""
    assert scores.last_number(text) == number


def test_numbers_are_compared_by_value() -> None:
    """72.0 is 72, and a text without a number matches nothing, not even another such text."""
    assert scores.last_number_match("It is 72.0.", ["so 72"]) == 1.0
    assert scores.last_number_match("It is 71", ["so 72"]) == 0.0
    assert scores.last_number_match("no idea", ["none"]) == 0.0


def test_the_choice_is_by_likelihood_per_byte() -> None:
    """A long candidate with the lower sum wins if each of its bytes is more likely."""
    assert scores.best_choice([-4.0, -6.0], [2, 4]) == 1


def test_repetition_is_the_share_of_ngrams_seen_before() -> None:
    """ "a b a b a b" has five pairs, of which two are different."""
    assert scores.repetition("a b a b A b", 2) == pytest.approx(1 - 2 / 5)
    assert scores.repetition("a b c", 4) == 0.0


def test_distinct_counts_ngrams_over_all_texts() -> None:
    """Pairs do not reach over the end of a text."""
    assert scores.distinct(["a b c", "a b"], 1) == pytest.approx(3 / 5)
    assert scores.distinct(["a b c", "a b"], 2) == pytest.approx(2 / 3)
    assert scores.distinct(["", "a"], 2) == 0.0


def test_uniform_bytes_cost_eight_bits() -> None:
    """Ten bytes, each with probability 1/256."""
    assert scores.bits_per_byte(10 * math.log(256), 10) == pytest.approx(8.0)


def test_rouge_by_hand() -> None:
    """Four of five words agree, two of four pairs, the longest common subsequence has three words."""
    found = scores.rouge("The cat sat. On mats!", ["on mats the cat slept"])
    assert found == {
        "rouge_1": pytest.approx(2 * 4 / 10),
        "rouge_2": pytest.approx(2 * 2 / 8),
        "rouge_l": pytest.approx(2 * 2 / 10),
    }
    assert scores.rouge("", ["on mats"]) == {"rouge_1": 0.0, "rouge_2": 0.0, "rouge_l": 0.0}


@pytest.mark.skipif(importlib.util.find_spec("rouge_score") is None, reason="needs rouge_score")
def test_rouge_is_that_of_the_package() -> None:
    """Random word salads of ASCII with punctuation, several references, against rouge_score without stemming."""
    from rouge_score.rouge_scorer import RougeScorer

    draw = random.Random(0)
    words = ["the", "Dog,", "sleeps", "its_own", "3.5", "a-b", "on", "mats!", ""]

    def salad() -> str:
        return " ".join(draw.choices(words, k=draw.randint(0, 12)))

    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"])
    for _ in range(200):
        prediction, references = salad(), [salad() for _ in range(draw.randint(1, 3))]
        theirs = scorer.score_multi(references, prediction)
        ours = scores.rouge(prediction, references)
        assert list(ours.values()) == pytest.approx([theirs[name].fmeasure for name in theirs])


def test_self_bleu_tells_texts_alike() -> None:
    """Equal texts score 100, texts without a common word nearly nothing, and each is compared to the others alone."""
    same = "one two three four five"
    assert scores.self_bleu([same, same]) == [pytest.approx(100), pytest.approx(100)]
    found = scores.self_bleu([same, same, "six seven eight nine ten"])
    assert found[0] == pytest.approx(100)
    assert found[2] < 5
    assert scores.self_bleu([same]) == [0.0]
