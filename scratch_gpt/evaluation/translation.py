# SPDX-License-Identifier: Apache-2.0
"""Translation: corpus BLEU and chrF by sacreBLEU, with intervals over sentences and copying as the baseline."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.metrics.base import Metric as CorpusMetric
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from scratch_gpt.data.example import Example
from scratch_gpt.evaluation.benchmark import EvalArguments
from scratch_gpt.evaluation.qa import predict
from scratch_gpt.evaluation.runner import Metric, bootstrap_ci, mean_metric
from scratch_gpt.evaluation.task import Task


TRANSLATION_TASKS = ("translation",)


def corpus_metrics() -> dict[str, CorpusMetric]:
    """BLEU and chrF with sacreBLEU's default settings, on 0..100."""
    return {"bleu": BLEU(), "chrf": CHRF()}


def sentence_statistics(
    metric: CorpusMetric, predictions: Sequence[str], references: Sequence[Sequence[str]]
) -> np.ndarray:
    """Match counts of each sentence, shape (sentences, statistics): their sum over a corpus decides its score.

    sacreBLEU has no public name for them; its own significance test takes them from the same place.
    """
    most = max(map(len, references))
    streams = [[row[number] if number < len(row) else None for row in references] for number in range(most)]
    return np.array(metric._extract_corpus_statistics(predictions, streams), dtype=np.float64)


def corpus_score(metric: CorpusMetric, statistics: np.ndarray) -> float:
    """The score of a corpus from its sentences' statistics, shape (sentences, statistics), or their sum."""
    return float(metric._compute_score_from_stats(list(np.atleast_2d(statistics).sum(axis=0))).score)


def signatures(examples: dict[str, list[Example]]) -> dict[str, str]:
    """sacreBLEU's signature of each corpus score of each task: what must agree for two numbers to compare."""
    found = {}
    for task, rows in examples.items():
        references = [example.references for example in rows]
        for name, metric in corpus_metrics().items():
            sentence_statistics(metric, [row[0] for row in references], references)  # counts the references
            found[f"{task}/{name}"] = str(metric.get_signature())
    return found


def evaluate_translation(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    examples: Sequence[Example],
    arguments: EvalArguments,
) -> dict[str, Metric]:
    """Scores of the model's translations; the chance level is that of the source sentence, copied.

    Returns:
        `TASK/bleu`, `TASK/chrf` and `TASK/exact_match`.
    """
    predictions = predict(model, tokenizer, task, examples, arguments)
    references = [example.references for example in examples]
    copies = [task.source(example) for example in examples]
    metrics = {}
    for name, metric in corpus_metrics().items():
        statistics = sentence_statistics(metric, predictions, references)
        interval = bootstrap_ci(statistics, arguments.seed, partial(corpus_score, metric))
        copied = corpus_score(metric, sentence_statistics(metric, copies, references))
        metrics[f"{task.name}/{name}"] = Metric(corpus_score(metric, statistics), interval, copied)
    matches = [task.score(*pair)["exact_match"] for pair in zip(predictions, examples, strict=True)]
    chance = task.mean_scores(copies, examples)["exact_match"]
    metrics[f"{task.name}/exact_match"] = mean_metric(matches, arguments.seed, chance)
    return metrics
