# SPDX-License-Identifier: Apache-2.0
"""What models without a neural network get on the same text: gzip, n-grams, word-by-word translation."""

import gzip
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerFast

from scratch_gpt.data.shards.blocks import PackedBlocks
from scratch_gpt.tasks.words import WORD, joined


def blocks_text(blocks: PackedBlocks, tokenizer: PreTrainedTokenizerFast) -> bytes:
    """The text of packed blocks, documents in the order of the blocks, one line break between two rows."""
    rows = [blocks[index] for index in range(len(blocks))]
    return "\n".join(tokenizer.batch_decode(rows, skip_special_tokens=True)).encode()


def gzip_bits_per_byte(text: bytes) -> float:
    """Size of `gzip -9` of the text, in bits for each byte of it."""
    return 8 * len(gzip.compress(text, compresslevel=9)) / len(text)


def ngram_bits_per_byte(training: bytes, held_out: bytes, order: int = 5) -> float:
    """Cross-entropy of an n-gram model of bytes that looks at `order` of them, the predicted one included."""
    symbols = [np.frombuffer(text, dtype=np.uint8).astype(np.int64) for text in (training, held_out)]
    probabilities = NGram(symbols[0], 256, order).probabilities(symbols[1])
    return float(-np.log2(probabilities).mean())


def blocks_tokens(blocks: PackedBlocks, tokenizer: PreTrainedTokenizerFast) -> np.ndarray:
    """The tokens of packed blocks one after the other, without padding."""
    tokens = np.concatenate([blocks[index] for index in range(len(blocks))])
    return tokens[tokens != tokenizer.pad_token_id]


class _Level(NamedTuple):
    """What was counted of runs of one length.

    Args:
        grams: each run that occurs, as (number of its beginning in the level below) x V + its last symbol; sorted.
        counts: how often each occurs.
        totals, kinds: of each run of the level below, how often, and by how many different symbols, it is followed.
    """

    grams: np.ndarray
    counts: np.ndarray
    totals: np.ndarray
    kinds: np.ndarray


class NGram:
    """An interpolated n-gram model with Witten-Bell smoothing.

    p_n(x | c) = (count(c x) + kinds(c) p_{n-1}(x | c')) / (count(c) + kinds(c)), where c is the last n - 1 symbols, c'
    all but the first of these, kinds(c) the number of different symbols seen after c; below n = 1, p = 1/V
    (Witten and Bell 1991; Chen and Goodman 1999, hf.co/papers/cmp-lg/9606011, section 2.6).

    Args:
        training: symbols from 0 to V - 1.
        vocab_size: V.
        order: n, the symbols that the model looks at, the predicted one included.
    """

    def __init__(self, training: np.ndarray, vocab_size: int, order: int) -> None:
        self.vocab_size = vocab_size
        self.levels: list[_Level] = []
        runs, below = np.zeros(len(training) + 1, dtype=np.int64), 1
        for length in range(1, order + 1):
            keys = runs[:-1] * vocab_size + training[length - 1 :]
            grams, runs, counts = np.unique(keys, return_inverse=True, return_counts=True)
            begins = grams // vocab_size
            totals = np.bincount(begins, weights=counts, minlength=below)
            self.levels.append(_Level(grams, counts, totals, np.bincount(begins, minlength=below)))
            below = len(grams)

    def probabilities(self, text: np.ndarray) -> np.ndarray:
        """The probability of each symbol of a text after those before it, shape (len(text),)."""
        probabilities = np.full(len(text), 1 / self.vocab_size)
        for length, runs in enumerate(self._runs(text), start=1):
            level, shorter = self.levels[length - 1], probabilities[length - 1 :]
            known = np.flatnonzero(runs >= 0)
            known = known[level.totals[runs[known]] > 0]
            begins = runs[known]
            places = _places(level.grams, begins * self.vocab_size + text[length - 1 :][known])
            counts = np.where(places >= 0, level.counts[places], 0)
            kinds = level.kinds[begins]
            shorter[known] = (counts + kinds * shorter[known]) / (level.totals[begins] + kinds)
        return probabilities

    def likeliest(self, text: np.ndarray, places: np.ndarray) -> np.ndarray:
        """The likeliest symbol at each of the places of a text after those before it, shape (len(places),)."""
        runs_before = list(self._runs(text))
        guesses = np.empty(len(places), dtype=np.int64)
        for number, place in enumerate(places):
            probabilities = np.full(self.vocab_size, 1 / self.vocab_size)
            for length, (level, runs) in enumerate(zip(self.levels, runs_before, strict=True), start=1):
                run = runs[place - length + 1] if place >= length - 1 else -1
                if run < 0 or not level.totals[run]:
                    continue
                first, last = np.searchsorted(
                    level.grams, [run * self.vocab_size, (run + 1) * self.vocab_size]
                )
                probabilities *= level.kinds[run]
                probabilities[level.grams[first:last] % self.vocab_size] += level.counts[first:last]
                probabilities /= level.totals[run] + level.kinds[run]
            guesses[number] = probabilities.argmax()
        return guesses

    def _runs(self, text: np.ndarray) -> Iterator[np.ndarray]:
        """For each length n: the number of the n - 1 symbols before each one that has that many, -1 if never seen."""
        runs = np.zeros(len(text), dtype=np.int64)
        for length, level in enumerate(self.levels, start=1):
            yield runs
            keys = np.where(runs >= 0, runs * self.vocab_size + text[length - 1 :], -1)
            runs = _places(level.grams, keys)[:-1]


def _places(keys: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """The index of each key asked for, -1 if it is missing; `keys` are sorted."""
    places = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
    return np.where(keys[places] == asked, places, -1)


# In place of the words of a translation that no word of the source explains.
NULL = ""
TOKEN = re.compile(rf"{WORD}|[^\w\s]")
BEFORE_PUNCTUATION = re.compile(r"\s+(?=[.,;:!?。，、；：！？।،؛؟])")
ITERATIONS = 5


class WordTranslation:
    """The likeliest word for each word, in the order of the source; an unknown word stays as it is.

    Words are learned in lower case, and written as the translations mostly write them.

    Args:
        sources: sentences.
        targets: their translations.
        iterations: of expectation maximisation.
    """

    def __init__(self, sources: Sequence[str], targets: Sequence[str], iterations: int = ITERATIONS) -> None:
        spellings: dict[str, Counter[str]] = {}
        left_ids: dict[str, int] = {NULL: 0}
        right_ids: dict[str, int] = {}
        lefts: list[int] = []
        rights: list[int] = []
        candidates: list[int] = []  # of each target word
        for source, target in zip(sources, targets, strict=True):
            left = [0, *(left_ids.setdefault(word.lower(), len(left_ids)) for word in TOKEN.findall(source))]
            for word in TOKEN.findall(target):
                spellings.setdefault(word.lower(), Counter())[word] += 1
                lefts += left
                rights.append(right_ids.setdefault(word.lower(), len(right_ids)))
                candidates.append(len(left))
        # All possible links of a source word to a target word of its pair: which words, and of which target word.
        owner = np.repeat(np.arange(len(candidates)), candidates)
        pairs = np.array(lefts) * len(right_ids) + np.array(rights)[owner]
        kinds, kind = np.unique(pairs, return_inverse=True)  # the different pairs of words, and each link's
        source_of_kind = kinds // len(right_ids)
        probability = np.full(len(kinds), 1 / len(right_ids))  # t(target word | source word)
        for _ in range(iterations):
            share = probability[kind]
            share /= np.bincount(owner, share)[owner]
            counts = np.bincount(kind, share)
            probability = counts / np.bincount(source_of_kind, counts)[source_of_kind]
        written = [spellings[word].most_common(1)[0][0] for word in right_ids]
        words = list(left_ids)
        # the last of each source word in this order is its likeliest translation
        self.best = {
            words[source_of_kind[index]]: written[kinds[index] % len(right_ids)]
            for index in np.argsort(probability, kind="stable")
        }

    def translate(self, sentence: str) -> str:
        """The sentence with each word in its likeliest translation."""
        words = [self.best.get(word.lower(), word) for word in TOKEN.findall(sentence)]
        return BEFORE_PUNCTUATION.sub("", joined(words))
