# SPDX-License-Identifier: Apache-2.0
"""Scores of one answer or one text: plain functions that tasks, rewards and the `evaluate` modules share."""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal

import numpy as np
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.metrics.base import Metric as CorpusMetric

from scratch_gpt.tasks.words import SINGLE, normalized, spaced, units, without_punctuation, words


ARTICLES = re.compile(r"\b(a|an|the)\b")
# Arabic separators, the typographic minus, the wide one.
SIGNS = str.maketrans("٬٫−－", ",.--")
# Of wide signs between wide digits: the comma is Chinese punctuation too.
WIDE_SIGNS = re.compile(r"(?<=[０-９])(?:．(?=[０-９])|，(?=[０-９]{3}(?!\d)))")
# What separates thousands: commas (also India's 12,34,567), points where there are two or a comma follows, spaces that
# do not break, apostrophes. A plain space may be one between two numbers.
THOUSANDS = r"(?!0)\d{1,3}(?:(?:,\d{2,3})*,\d{3}(?!,?\d)|(?:\.\d{3})+(?=,\d)|(?:\.\d{3}){2,}(?!\d)|(?:[\u00a0\u2009\u202f'\u2019]\d{3})+(?!\d))"
# A sign counts only where it cannot be a minus between two numbers, as in "7-2", or a hyphen, as in "B-2": behind the
# letters of scripts without spaces, and Korean's particles, it is neither. A comma between two of more numbers, as in
# "1,2,3", is part of none.
NUMBER = re.compile(
    rf"((?<![^\W{SINGLE}\uac00-\ud7af])(?<![\d.])-)?"
    rf"(?:({THOUSANDS})(?:[.,](\d+))?|(?<!\d,)(\d+),(\d+)(?![.,]?\d)|(\d+)(?:\.(\d+))?)"
)


def normalize_answer(text: str) -> str:
    """Without case, punctuation, English articles and spare blanks: the convention of SQuAD v1.1, for every script.

    ASCII text is normalized exactly as SQuAD's script does it. Beyond ASCII, Unicode's punctuation goes too, texts are
    compared in NFKC, and characters of scripts without spaces are words, as in MLQA (Lewis et al. 2020) for Chinese.
    """
    return " ".join(units(ARTICLES.sub(" ", without_punctuation(normalized(text)))))


def exact_match(prediction: str, references: Sequence[str]) -> float:
    """1.0 if the normalized prediction equals one of the normalized references, else 0.0."""
    answer = normalize_answer(prediction)
    return float(any(answer == normalize_answer(reference) for reference in references))


def token_f1(prediction: str, references: Sequence[str]) -> float:
    """Harmonic mean of precision and recall over words (SQuAD v1.1), for the reference that fits best."""
    found = normalize_answer(prediction).split()
    return max(_word_f1(found, normalize_answer(reference).split()) for reference in references)


def _word_f1(found: list[str], reference: list[str]) -> float:
    if not found or not reference:
        return float(found == reference)
    return _overlap_f1(found, reference, 1)


def last_number(text: str) -> Decimal | None:
    """The last number that is written in digits of any script, with the signs for decimals and thousands of any language.

    A single sign before three digits is read as in English: 1,234 is a thousand, 1.234 is one.
    """
    text = WIDE_SIGNS.sub(lambda sign: unicodedata.normalize("NFKC", sign[0]), text).translate(SIGNS)
    numbers = NUMBER.findall(text)
    if not numbers:
        return None
    sign, *parts = numbers[-1]
    whole, decimals = re.sub(r"\D", "", "".join(parts[::2])), "".join(parts[1::2])
    return Decimal(f"{sign}{whole}.{decimals}")


def last_number_match(prediction: str, references: Sequence[str]) -> float:
    """1.0 if the last numbers of prediction and a reference are equal: the convention of GSM8K."""
    answer = last_number(prediction)
    return float(answer is not None and any(answer == last_number(reference) for reference in references))


def rouge(prediction: str, references: Sequence[str]) -> dict[str, float]:
    """ROUGE-1, ROUGE-2 and ROUGE-L (Lin 2004): F1 over words, word pairs and the longest common subsequence.

    The best reference counts. Of ASCII text equal to the rouge_score package without stemming, which knows no other
    letters than a-z; here a word is a word in every script.
    """
    found = _rouge_words(prediction)
    rows = []
    for reference in references:
        right = _rouge_words(reference)
        rows.append(
            {
                "rouge_1": _overlap_f1(found, right, 1),
                "rouge_2": _overlap_f1(found, right, 2),
                "rouge_l": _f1(_common_subsequence(found, right), len(found), len(right)),
            }
        )
    return {name: max(row[name] for row in rows) for name in rows[0]}


def _rouge_words(text: str) -> list[str]:
    return words(text.replace("_", " "))


def _f1(common: int, predicted: int, right: int) -> float:
    return 2 * common / (predicted + right) if common else 0.0


def _overlap_f1(found: list[str], right: list[str], order: int) -> float:
    grams, wanted = (Counter(_runs(side, order)) for side in (found, right))
    return _f1((grams & wanted).total(), grams.total(), wanted.total())


def _common_subsequence(one: list[str], other: list[str]) -> int:
    """Length of the longest common subsequence."""
    lengths = [0] * (len(other) + 1)
    for word in one:
        diagonal = 0
        for place, against in enumerate(other, start=1):
            longest = diagonal + 1 if word == against else max(lengths[place], lengths[place - 1])
            diagonal, lengths[place] = lengths[place], longest
    return lengths[-1]


def self_bleu(texts: Sequence[str]) -> list[float]:
    """BLEU of each text against all others, 0 to 100 (Zhu et al. 2018, "Texygen"): high where texts are alike.

    Smoothed and up to the text's own length in words where that is below four, so that short texts count. A text alone
    is like no other: 0. Characters of scripts without spaces are words.
    """
    texts = [spaced(text) for text in texts]
    if len(texts) < 2:
        return [0.0] * len(texts)
    bleu = BLEU(effective_order=True)
    return [
        float(bleu.sentence_score(text, [*texts[:place], *texts[place + 1 :]]).score)
        for place, text in enumerate(texts)
    ]


def best_choice(log_likelihoods: Sequence[float], lengths: Sequence[int]) -> int:
    """Index of the candidate with the highest log-likelihood per byte, so that short ones have no advantage."""
    per_byte = [total / length for total, length in zip(log_likelihoods, lengths, strict=True)]
    return per_byte.index(max(per_byte))


def ngrams(text: str, order: int) -> list[tuple[str, ...]]:
    """All runs of `order` words (split at blanks, in scripts without any at characters; lower-case), in order."""
    return _runs(units(text.lower()), order)


def _runs(found: list[str], order: int) -> list[tuple[str, ...]]:
    return list(zip(*(found[start:] for start in range(order)), strict=False))


def repetition(text: str, order: int = 4) -> float:
    """Share of n-grams that occurred earlier in the same text (seq-rep-n of Welleck et al. 2020); 0 if it has none."""
    found = ngrams(text, order)
    return 1 - len(set(found)) / len(found) if found else 0.0


def distinct(texts: Sequence[str], order: int) -> float:
    """Different n-grams over all n-grams of all texts (distinct-n of Li et al. 2016); 0 if there are none."""
    counts = Counter(gram for text in texts for gram in ngrams(text, order))
    return len(counts) / counts.total() if counts else 0.0


def bits_per_byte(nats: float, length: float) -> float:
    """Negative log-likelihood in nats over `length` bytes of text, as bits per byte."""
    return nats / math.log(2) / length


def corpus_metrics(tokenizer: str = "13a") -> dict[str, CorpusMetric]:
    """BLEU and chrF with sacreBLEU's default settings, on 0..100; BLEU counts the words of this tokenizer of sacreBLEU."""
    return {"bleu": BLEU(tokenize=tokenizer), "chrf": CHRF()}


def sentence_statistics(
    metric: CorpusMetric, predictions: Sequence[str], references: Sequence[Sequence[str]]
) -> np.ndarray:
    """Match counts of each sentence, shape (sentences, statistics): their sum over a corpus decides its score.

    sacreBLEU has no public name for them; its own significance test takes them from the same place.
    """
    most = max(map(len, references))
    streams = [[row[number] if number < len(row) else None for row in references] for number in range(most)]
    return np.array(metric._extract_corpus_statistics(predictions, streams), dtype=np.float64)


def corpus_score(metric: CorpusMetric, statistics: np.ndarray) -> float:
    """The score of a corpus from its sentences' statistics, shape (sentences, statistics), or their sum."""
    return float(metric._compute_score_from_stats(list(np.atleast_2d(statistics).sum(axis=0))).score)
