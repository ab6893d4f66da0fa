# SPDX-License-Identifier: Apache-2.0
"""Exact match and word F1 of free answers, by the conventions of SQuAD v1.1."""

from typing import Any

import datasets
import evaluate

from scratch_gpt.tasks import scores


class AnswerMatch(evaluate.Metric):
    """Predictions are strings, references lists of acceptable strings; the mean over the best reference each."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=__doc__,
            citation="Rajpurkar et al. 2016, SQuAD: 100,000+ Questions for Machine Comprehension of Text",
            features=datasets.Features(
                {
                    "predictions": datasets.Value("string"),
                    "references": datasets.List(datasets.Value("string")),
                }
            ),
        )

    def _compute(self, predictions: list[str], references: list[list[str]]) -> dict[str, Any]:
        pairs = list(zip(predictions, references, strict=True))
        return {
            "exact_match": sum(scores.exact_match(*pair) for pair in pairs) / len(pairs),
            "f1": sum(scores.token_f1(*pair) for pair in pairs) / len(pairs),
        }
