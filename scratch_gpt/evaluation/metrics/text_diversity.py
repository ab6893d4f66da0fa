# SPDX-License-Identifier: Apache-2.0
"""How varied generated texts are: repeated 4-grams within a text; distinct words and pairs, self-BLEU over all texts."""

from typing import Any

import datasets
import evaluate

from scratch_gpt.tasks import scores


class TextDiversity(evaluate.Metric):
    """Predictions are the texts; there are no references."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=__doc__,
            citation="Welleck et al. 2020 (seq-rep-n); Li et al. 2016 (distinct-n); Zhu et al. 2018 (self-BLEU)",
            features=datasets.Features({"predictions": datasets.Value("string")}),
        )

    def _compute(self, predictions: list[str]) -> dict[str, Any]:
        return {
            "repetition": sum(scores.repetition(text) for text in predictions) / len(predictions),
            "distinct_1": scores.distinct(predictions, 1),
            "distinct_2": scores.distinct(predictions, 2),
            "self_bleu": sum(scores.self_bleu(predictions)) / len(predictions),
        }
