# SPDX-License-Identifier: Apache-2.0
"""Word-by-word translation learned from pairs: the baseline that a translation model has to beat.

IBM Model 1 (Brown et al. 1993, "The Mathematics of Statistical Machine Translation", section 4.2).
"""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np


# What stands for the words of a translation that no word of the source explains.
NULL = ""
TOKEN = re.compile(r"\w+|[^\w\s]")
BEFORE_PUNCTUATION = re.compile(r"\s+(?=[.,;:!?])")
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
        return BEFORE_PUNCTUATION.sub("", " ".join(words))
