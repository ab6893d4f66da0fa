# SPDX-License-Identifier: Apache-2.0
"""Scores of one answer or one text: plain functions that tasks, rewards and the `evaluate` modules share."""

import math
import re
import string
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal


ARTICLES = re.compile(r"\b(a|an|the)\b")
# A sign counts only where it cannot be a minus between two numbers, as in "7-2".
NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?|(?<=[\w.])\d[\d,]*(?:\.\d+)?")


def normalize_answer(text: str) -> str:
    """Lower-case, without punctuation, English articles and spare blanks: the convention of SQuAD v1.1."""
    text = "".join(character for character in text.lower() if character not in string.punctuation)
    return " ".join(ARTICLES.sub(" ", text).split())


def exact_match(prediction: str, references: Sequence[str]) -> float:
    """1.0 if the normalised prediction equals one of the normalised references, else 0.0."""
    answer = normalize_answer(prediction)
    return float(any(answer == normalize_answer(reference) for reference in references))


def token_f1(prediction: str, references: Sequence[str]) -> float:
    """Harmonic mean of precision and recall over words (SQuAD v1.1), for the reference that fits best."""
    words = normalize_answer(prediction).split()
    return max(_word_f1(words, normalize_answer(reference).split()) for reference in references)


def _word_f1(words: list[str], reference: list[str]) -> float:
    if not words or not reference:
        return float(words == reference)
    common = sum((Counter(words) & Counter(reference)).values())
    return 2 * common / (len(words) + len(reference))


def last_number(text: str) -> Decimal | None:
    """The last number that is written in digits; a thousands comma is read over."""
    numbers = NUMBER.findall(text)
    return Decimal(numbers[-1].replace(",", "")) if numbers else None


def last_number_match(prediction: str, references: Sequence[str]) -> float:
    """1.0 if the last numbers of prediction and a reference are equal: the convention of GSM8K."""
    answer = last_number(prediction)
    return float(answer is not None and any(answer == last_number(reference) for reference in references))


def best_choice(log_likelihoods: Sequence[float], lengths: Sequence[int]) -> int:
    """Index of the candidate with the highest log-likelihood per byte, so that short ones are not favoured."""
    per_byte = [total / length for total, length in zip(log_likelihoods, lengths, strict=True)]
    return per_byte.index(max(per_byte))


def ngrams(text: str, order: int) -> list[tuple[str, ...]]:
    """All runs of `order` words (split at blanks, lower-case), in order."""
    words = text.lower().split()
    return list(zip(*(words[start:] for start in range(order)), strict=False))


def repetition(text: str, order: int = 4) -> float:
    """Share of n-grams that stood earlier in the same text (seq-rep-n of Welleck et al. 2020); 0 if it has none."""
    found = ngrams(text, order)
    return 1 - len(set(found)) / len(found) if found else 0.0


def distinct(texts: Sequence[str], order: int) -> float:
    """Different n-grams over all n-grams of all texts (distinct-n of Li et al. 2016); 0 if there are none."""
    counts = Counter(gram for text in texts for gram in ngrams(text, order))
    return len(counts) / counts.total() if counts else 0.0


def bits_per_byte(nats: float, length: float) -> float:
    """Negative log-likelihood in nats over `length` bytes of text, as bits per byte."""
    return nats / math.log(2) / length
