# SPDX-License-Identifier: Apache-2.0
"""How many bits per byte of held-out text a model of some size will need after some text, by a scaling law fitted here.

L = K (E + A N^-a + B D^-b): the form of Hoffmann et al. 2022 (hf.co/papers/2203.15556, section 3.3) with N parameters
outside the embeddings and D bytes of text, in millions. K is a measurement of the text, what an 8-gram model of its bytes
needs, so that one law serves languages and scripts. Text that is read again counts less and less (Muennighoff et al.
2023, hf.co/papers/2305.16264, section 5). It holds for running text: 10,000 captions of one sentence came out 10% above.

`scaling_fit.json` holds the constants, the runs that they were fitted to, and the command.
"""

import dataclasses
import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import numpy as np

from scratch_gpt.evaluation.metrics.baselines import ngram_bits_per_byte


MILLION = 1e6
# Passes after which most of what repeats are worth is used up. Muennighoff et al. 2023, section 5, found 15.39 for models
# of millions to billions of parameters; 2 is near to our runs of 0.05 to 2.2 million and to a book that was read 8 times.
PASSES_WORTH = 2.0
# The bytes of every text that the 8-gram model learns from, so that texts compare, and that it is asked about. Order and
# exponent were chosen on earlier runs than those of `scaling_fit.json`; on seven others order 5 compares texts as well.
NGRAM_ORDER, NGRAM_TRAINING_BYTES, NGRAM_HELD_OUT_BYTES = 8, 300_000, 64_000
# From less text it learns less: its bits grow as this power of what is missing.
NGRAM_EXPONENT = 0.11

# Tried by `fit`: published laws have 0.28 to 0.37, and what lies far from these follows from few runs.
EXPONENTS = np.arange(0.20, 0.51, 0.025)
# E, A and B are at least this. Small runs cannot tell E from nothing; the largest published models need about a fifth of
# an 8-gram model's bits.
LEAST_CONSTANTS = (0.2, 0.02, 0.1)


class Point(NamedTuple):
    """A run and what it came to.

    Args:
        parameters: outside the embeddings.
        text_bytes: of the training text, each once.
        seen_bytes: trained on, repeats counted.
        difficulty: of the text, bits per byte of the 8-gram model.
        bits_per_byte: measured on held-out text.
    """

    parameters: float
    text_bytes: float
    seen_bytes: float
    difficulty: float
    bits_per_byte: float = math.nan


@dataclass(frozen=True)
class ScalingLaw:
    """The constants of the law; N and D in millions."""

    E: float
    A: float
    a: float
    B: float
    b: float

    def bits_per_byte(self, point: Point) -> float:
        """The expected bits per byte of held-out text."""
        share, sizes, texts = self.terms(point)
        return point.difficulty * (self.E * share + self.A * sizes + self.B * texts)

    def terms(self, point: Point) -> tuple[float, float, float]:
        """What E, A and B are multiplied with."""
        unique = min(point.text_bytes, point.seen_bytes) / MILLION
        repeats = max(point.seen_bytes / point.text_bytes - 1, 0)
        data = unique * (1 + PASSES_WORTH * (1 - math.exp(-repeats / PASSES_WORTH)))
        return 1.0, (point.parameters / MILLION) ** -self.a, data**-self.b


def fit(points: Sequence[Point]) -> tuple[ScalingLaw, float]:
    """The law nearest to the points by relative error, and the mean of that error.

    Exponents are tried on a grid; the other constants follow by least squares.
    """
    law, best = ScalingLaw(*LEAST_CONSTANTS[:2], 0.35, LEAST_CONSTANTS[2], 0.35), math.inf
    targets = np.array([point.bits_per_byte / point.difficulty for point in points])
    for a, b in itertools.product(EXPONENTS.round(3).tolist(), repeat=2):
        trial = dataclasses.replace(law, a=a, b=b)
        terms = np.array([trial.terms(point) for point in points])
        constants = _positive_least_squares(terms / targets[:, None])
        error = float(np.abs(terms @ constants / targets - 1).mean())
        if error < best:
            E, A, B = (float(f"{each:.4g}") for each in constants)
            law, best = ScalingLaw(E, A, a, B, b), error
    return law, best


def _positive_least_squares(terms: np.ndarray) -> np.ndarray:
    """The constants whose sums of terms, (N, 3), are nearest to 1, none below `LEAST_CONSTANTS`."""
    constants = np.array(LEAST_CONSTANTS)
    free = [0, 1, 2]
    while free:
        held = [place for place in range(3) if place not in free]
        rest = 1 - terms[:, held] @ constants[held]
        constants[free] = np.linalg.lstsq(terms[:, free], rest, rcond=None)[0]
        below = [place for place in free if constants[place] < LEAST_CONSTANTS[place]]
        if not below:
            break
        for place in below:
            constants[place] = LEAST_CONSTANTS[place]
            free.remove(place)
    return constants


def text_difficulty(training: Sequence[str], held_out: Sequence[str]) -> float:
    """Bits per byte of an 8-gram model of bytes: K of the law.

    Args:
        training, held_out: pieces of the two sides, evenly spread.
    """
    learned = _spread(training, NGRAM_TRAINING_BYTES)
    bits = ngram_bits_per_byte(learned, _spread(held_out, NGRAM_HELD_OUT_BYTES), NGRAM_ORDER)
    return bits * min(1.0, len(learned) / NGRAM_TRAINING_BYTES) ** NGRAM_EXPONENT


def _spread(pieces: Sequence[str], size: int) -> bytes:
    """Beginnings of pieces, of together about `size` bytes."""
    data = [piece.encode() for piece in pieces]
    share = min(1.0, size / sum(map(len, data)))
    return b"\n".join(each[: math.ceil(share * len(each))] for each in data)


@cache
def stored() -> dict[str, Any]:
    """What `scaling_fit.json` holds: constants, error, runs, command, examples."""
    text = resources.files("scratch_gpt.new").joinpath("scaling_fit.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def stored_law() -> ScalingLaw:
    """The law with the constants that were fitted."""
    return ScalingLaw(**stored()["law"])


def example_of(bits_per_byte: float, difficulty: float) -> str:
    """What a model of such quality writes: the stored example whose share of the 8-gram model's bits is nearest."""
    examples = stored()["examples"]
    nearest = min(examples, key=lambda each: abs(each["share"] - bits_per_byte / difficulty))
    return str(nearest["text"])
