# SPDX-License-Identifier: Apache-2.0
"""How the items of a result become its number: by the name that is stored with them."""

import math
from collections.abc import Callable

import numpy as np

from scratch_gpt.tasks.scores import bits_per_byte, corpus_metrics, corpus_score


BLEU, CHRF = corpus_metrics().values()

# What a number is computed by, from the sum of its items' rows, shape (k,), and the number of items.
STATISTICS: dict[str, Callable[[np.ndarray, float], float]] = {
    "mean": lambda sums, count: float(sums[0] / count),
    "perplexity": lambda sums, count: math.exp(sums[0] / count),
    "weighted_perplexity": lambda sums, _: math.exp(sums[0] / sums[1]),
    "ratio": lambda sums, count: float(sums[0] / sums[1]),
    "bits_per_byte": lambda sums, count: bits_per_byte(*sums),
    "bleu": lambda sums, count: corpus_score(BLEU, sums),
    "chrf": lambda sums, count: corpus_score(CHRF, sums),
}
