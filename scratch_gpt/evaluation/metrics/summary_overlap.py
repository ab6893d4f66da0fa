# SPDX-License-Identifier: Apache-2.0
"""ROUGE-1, ROUGE-2 and ROUGE-L of summaries, equal to the rouge_score package without stemming."""

from typing import Any

import datasets
import evaluate

from scratch_gpt.tasks import scores


class SummaryOverlap(evaluate.Metric):
    """Predictions are strings, references lists of acceptable summaries; the mean over the best reference each."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=__doc__,
            citation="Lin 2004, ROUGE: A Package for Automatic Evaluation of Summaries",
            features=datasets.Features(
                {
                    "predictions": datasets.Value("string"),
                    "references": datasets.List(datasets.Value("string")),
                }
            ),
        )

    def _compute(self, predictions: list[str], references: list[list[str]]) -> dict[str, Any]:
        rows = [scores.rouge(*pair) for pair in zip(predictions, references, strict=True)]
        return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
