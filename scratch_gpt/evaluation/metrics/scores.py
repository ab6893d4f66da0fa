# SPDX-License-Identifier: Apache-2.0
"""The scores as one module of `evaluate`: `evaluate.load("scratch_gpt/evaluation/metrics/scores.py", NAME)`, offline."""

# `evaluate` 0.4.6 reads the imports of such a file line by line: none may go over several.
from collections.abc import Callable
from typing import Any, NamedTuple

import datasets
import evaluate

from scratch_gpt.evaluation.metrics.bleu_tokenizers import choose_tokenizer
from scratch_gpt.tasks import scores
from scratch_gpt.tasks.words import warn_wordless


TEXT, NUMBER, INDEX = (datasets.Value(kind) for kind in ("string", "float64", "int64"))


class MetricSpec(NamedTuple):
    """One metric, by its name in `SCORES`."""

    description: str
    citation: str
    compute: Callable[..., dict[str, float]]
    predictions: Any = TEXT
    references: Any = datasets.List(TEXT)  # of each prediction, the acceptable ones


def mean(score: Callable[[str, list[str]], dict[str, float]]) -> Callable[..., dict[str, float]]:
    """A score of one prediction against its references, as the mean over all."""

    def compute(predictions: list[str], references: list[list[str]]) -> dict[str, float]:
        warn_wordless("references", (text for row in references for text in row))
        rows = [score(*pair) for pair in zip(predictions, references, strict=True)]
        return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}

    return compute


def answer_match(prediction: str, references: list[str]) -> dict[str, float]:
    """Exact match and word F1."""
    return {
        "exact_match": scores.exact_match(prediction, references),
        "f1": scores.token_f1(prediction, references),
    }


def last_number(prediction: str, references: list[str]) -> dict[str, float]:
    """Whether the last number is right."""
    return {"last_number": scores.last_number_match(prediction, references)}


def choice_accuracy(
    predictions: list[list[float]], references: list[int], lengths: list[list[int]]
) -> dict[str, float]:
    """How often the candidate with the highest log-likelihood per byte is the right one."""
    chosen = [scores.best_choice(*pair) for pair in zip(predictions, lengths, strict=True)]
    right = [choice == label for choice, label in zip(chosen, references, strict=True)]
    return {"accuracy": sum(right) / len(right)}


def bits_per_byte(predictions: list[float], references: list[int]) -> dict[str, float]:
    """All nats over all bytes, in bits."""
    return {"bits_per_byte": scores.bits_per_byte(sum(predictions), sum(references))}


def translation_quality(predictions: list[str], references: list[list[str]]) -> dict[str, float]:
    """BLEU and chrF of the corpus."""
    written = (text for row in references for text in row)
    tokenizer = choose_tokenizer("translation_quality", None, written)
    return {
        name: scores.corpus_score(metric, scores.sentence_statistics(metric, predictions, references))
        for name, metric in scores.corpus_metrics(tokenizer).items()
    }


def text_diversity(predictions: list[str]) -> dict[str, float]:
    """Repetition within a text; distinct words and pairs, self-BLEU over all."""
    return {
        "repetition": sum(scores.repetition(text) for text in predictions) / len(predictions),
        "distinct_1": scores.distinct(predictions, 1),
        "distinct_2": scores.distinct(predictions, 2),
        "self_bleu": sum(scores.self_bleu(predictions)) / len(predictions),
    }


SCORES = {
    "answer_match": MetricSpec(
        "Exact match and word F1 of free answers (SQuAD v1.1, in every script), for the best reference each.",
        "Rajpurkar et al. 2016, SQuAD: 100,000+ Questions for Machine Comprehension of Text",
        mean(answer_match),
    ),
    "last_number": MetricSpec(
        "Accuracy of the last number of an answer, the convention of GSM8K.",
        "Cobbe et al. 2021, Training Verifiers to Solve Math Word Problems",
        mean(last_number),
    ),
    "summary_overlap": MetricSpec(
        "ROUGE-1, ROUGE-2 and ROUGE-L of summaries in any script; of ASCII text equal to the rouge_score package without stemming.",
        "Lin 2004, ROUGE: A Package for Automatic Evaluation of Summaries",
        mean(scores.rouge),
    ),
    "translation_quality": MetricSpec(
        "Corpus BLEU and chrF as sacreBLEU computes them, its tokenizer by the script; the number of references may differ.",
        "Post 2018, A Call for Clarity in Reporting BLEU Scores; Popovic 2015, chrF",
        translation_quality,
    ),
    "choice_accuracy": MetricSpec(
        "Multiple choice: predictions are the candidates' log-likelihoods, references the right index, `lengths` their bytes.",
        "Brown et al. 2020, Language Models are Few-Shot Learners (section 2.4: per-token likelihood)",
        choice_accuracy,
        predictions=datasets.List(NUMBER),
        references=INDEX,
    ),
    "bits_per_byte": MetricSpec(
        "A language model's loss by byte: predictions are texts' negative log-likelihoods in nats, references their bytes.",
        "Gao et al. 2020, The Pile (section 3.1: bits per UTF-8 encoded byte)",
        bits_per_byte,
        predictions=NUMBER,
        references=INDEX,
    ),
    "text_diversity": MetricSpec(
        "How varied generated texts are; there are no references.",
        "Welleck et al. 2020 (seq-rep-n); Li et al. 2016 (distinct-n); Zhu et al. 2018 (self-BLEU)",
        text_diversity,
        references=None,
    ),
}


class ScoresMetric(evaluate.Metric):
    """The metric that `evaluate.load`'s second argument names, one of `SCORES`."""

    def _info(self) -> evaluate.MetricInfo:
        score = SCORES.get(self.config_name)
        if score is None:
            raise ValueError(f"no score {self.config_name!r}: name one of {', '.join(SCORES)}")
        columns = {"predictions": score.predictions, "references": score.references}
        features = {name: kind for name, kind in columns.items() if kind is not None}
        return evaluate.MetricInfo(
            description=score.description, citation=score.citation, features=datasets.Features(features)
        )

    def _compute(self, **columns: Any) -> dict[str, float]:
        return SCORES[self.config_name].compute(**columns)
