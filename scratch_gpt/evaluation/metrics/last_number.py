# SPDX-License-Identifier: Apache-2.0
"""Accuracy of the last number of an answer, the convention of GSM8K for sums and word problems."""

from typing import Any

import datasets
import evaluate

from scratch_gpt.tasks import scores


class LastNumber(evaluate.Metric):
    """Predictions are strings, references lists of acceptable strings: only the last number of each counts."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=__doc__,
            citation="Cobbe et al. 2021, Training Verifiers to Solve Math Word Problems",
            features=datasets.Features(
                {
                    "predictions": datasets.Value("string"),
                    "references": datasets.List(datasets.Value("string")),
                }
            ),
        )

    def _compute(self, predictions: list[str], references: list[list[str]]) -> dict[str, Any]:
        matches = [scores.last_number_match(*pair) for pair in zip(predictions, references, strict=True)]
        return {"last_number": sum(matches) / len(matches)}
