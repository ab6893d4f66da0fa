# SPDX-License-Identifier: Apache-2.0
"""Corpus BLEU and chrF as sacreBLEU computes them, so that the numbers compare with published ones."""

from typing import Any

import datasets
import evaluate

from scratch_gpt.tasks import scores


class TranslationQuality(evaluate.Metric):
    """Predictions are strings, references lists of acceptable translations (their number may differ)."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=__doc__,
            citation="Post 2018, A Call for Clarity in Reporting BLEU Scores; Popovic 2015, chrF",
            features=datasets.Features(
                {
                    "predictions": datasets.Value("string"),
                    "references": datasets.List(datasets.Value("string")),
                }
            ),
        )

    def _compute(self, predictions: list[str], references: list[list[str]]) -> dict[str, Any]:
        return {
            name: scores.corpus_score(metric, scores.sentence_statistics(metric, predictions, references))
            for name, metric in scores.corpus_metrics().items()
        }
