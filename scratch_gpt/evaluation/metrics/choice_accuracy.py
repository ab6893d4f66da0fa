# SPDX-License-Identifier: Apache-2.0
"""Multiple choice by log-likelihood: the candidate with the highest log-likelihood per byte is the answer."""

from typing import Any

import datasets
import evaluate

from scratch_gpt.tasks import scores


class ChoiceAccuracy(evaluate.Metric):
    """Predictions are the candidates' log-likelihoods, references the right index; `lengths` are their bytes."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=__doc__,
            citation="Brown et al. 2020, Language Models are Few-Shot Learners (section 2.4: per-token likelihood)",
            features=datasets.Features(
                {
                    "predictions": datasets.List(datasets.Value("float64")),
                    "references": datasets.Value("int64"),
                }
            ),
        )

    def _compute(
        self, predictions: list[list[float]], references: list[int], lengths: list[list[int]]
    ) -> dict[str, Any]:
        chosen = [scores.best_choice(*pair) for pair in zip(predictions, lengths, strict=True)]
        right = [choice == label for choice, label in zip(chosen, references, strict=True)]
        return {"accuracy": sum(right) / len(right)}
