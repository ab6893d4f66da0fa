# SPDX-License-Identifier: Apache-2.0
"""Bits per byte: a language model's loss in a unit that does not depend on its tokenizer."""

from typing import Any

import datasets
import evaluate

from scratch_gpt.tasks import scores


class BitsPerByte(evaluate.Metric):
    """Predictions are negative log-likelihoods of texts in nats, references the texts' lengths in UTF-8 bytes."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=__doc__,
            citation="Gao et al. 2020, The Pile (section 3.1: bits per UTF-8 encoded byte)",
            features=datasets.Features(
                {"predictions": datasets.Value("float64"), "references": datasets.Value("int64")}
            ),
        )

    def _compute(self, predictions: list[float], references: list[int]) -> dict[str, Any]:
        return {"bits_per_byte": scores.bits_per_byte(sum(predictions), sum(references))}
