# SPDX-License-Identifier: Apache-2.0
"""Translation: corpus BLEU and chrF by sacreBLEU, with intervals over sentences and copying as the baseline."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from scratch_gpt.data.sources.source import Source, parse_sources
from scratch_gpt.errors import UserError
from scratch_gpt.evaluation.benchmarks.file_tasks import file_tasks
from scratch_gpt.evaluation.benchmarks.qa import asks_in_chat, predict
from scratch_gpt.evaluation.harness import EvalArguments
from scratch_gpt.evaluation.metrics.baselines import WordTranslation
from scratch_gpt.evaluation.metrics.bleu_tokenizers import DEFAULT, choose_tokenizer
from scratch_gpt.evaluation.metrics.intervals import bootstrap_ci, mean_metric, number_clusters
from scratch_gpt.runs.results import Items, Metric
from scratch_gpt.tasks.example import Example
from scratch_gpt.tasks.scores import corpus_metrics, corpus_score, sentence_statistics
from scratch_gpt.tasks.task import Task


TRANSLATION_TASKS = ("translation",)

# How the languages are called whose codes name the columns of pairs (ISO 639-1).
LANGUAGES = {
    "ar": "Arabic",
    "bo": "Tibetan",
    "cs": "Czech",
    "de": "German",
    "en": "English",
    "es": "Spanish",
    "fi": "Finnish",
    "fr": "French",
    "hi": "Hindi",
    "it": "Italian",
    "ja": "Japanese",
    "km": "Khmer",
    "ko": "Korean",
    "lo": "Lao",
    "my": "Burmese",
    "nl": "Dutch",
    "pl": "Polish",
    "pt": "Portuguese",
    "ro": "Romanian",
    "ru": "Russian",
    "sv": "Swedish",
    "th": "Thai",
    "tr": "Turkish",
    "uk": "Ukrainian",
    "vi": "Vietnamese",
    "zh": "Chinese",
}
PLACES = ("{source_language}", "{target_language}")


def with_languages(template: str, source: Source) -> str:
    """An instruction or continuation with the languages of this source's columns in their places.

    The direction is that of the columns: {source: de, target: en} translates into English.

    Raises:
        UserError: a column that is no known code of a language, where the template has its place.
    """
    for place, role in zip(PLACES, ("source", "target"), strict=True):
        if place in template:
            column = source.columns.get(role, role)
            language = LANGUAGES.get(_code(column))
            if language is None:
                message = (
                    f"source {source.name!r}: the column {column!r} names no language for {place}; "
                    f"write it into {template!r}"
                )
                raise UserError("unknown_language", message, column=column)
            template = template.replace(place, language)
    return template


def _code(column: str) -> str:
    """The code that a column may be called by: "de" of "translation.de"."""
    return column.rpartition(".")[2].lower()


def file_translations(
    declared: list[dict[str, Any]], on_bad_row: str, instruction: str, continuation: str
) -> list[Task]:
    """A task of each source of pairs, which is asked in its languages, or by the template that the source has.

    Args:
        instruction: what a chat model is asked; {source} is the place of the sentence, and PLACES those of languages.
        continuation: what a base model is given to continue, likewise.

    Raises:
        UserError: as for `file_tasks` and `with_languages`.
    """

    def asked(template: str, example: Example) -> str:
        return template.replace("{source}", example.key)

    tasks = []
    own = file_tasks(declared, on_bad_row, {"translation": {}})
    for source, task in zip(parse_sources(declared), own, strict=True):
        asks = {"continuation": partial(asked, with_languages(continuation, source))}
        if source.template is None:
            asks["message"] = partial(asked, with_languages(instruction, source))
        tasks.append(dataclasses.replace(task, **asks))  # type: ignore[arg-type]  # each is a function
    return tasks


def word_translations(
    declared: list[dict[str, Any]], on_bad_row: str, names: Collection[str]
) -> dict[str, WordTranslation]:
    """What is learned word by word from each source of pairs, by its name.

    Raises:
        UserError: as for `file_tasks`; a source whose name is none of `names`, those of the tasks.
    """
    if not declared:
        return {}
    tasks = file_tasks(declared, on_bad_row, {"translation": {}})
    for task in tasks:
        if task.name not in names:
            message = (
                f"training_pairs: {task.name!r} is the baseline of no task; name it as the pairs to translate: "
                f"{', '.join(names)}"
            )
            raise UserError("source_unmatched", message, source=task.name)
    pairs = {task.name: task.examples("train") for task in tasks}
    return {
        name: WordTranslation([row.key for row in rows], [row.references[0] for row in rows])
        for name, rows in pairs.items()
    }


def bleu_tokenizers(
    declared: list[dict[str, Any]], examples: dict[str, list[Example]], asked: str | None
) -> dict[str, str]:
    """sacreBLEU's tokenizer for each task: the one asked for, or that of the language the target column names.

    Where the column's name is no language's code, the script of the references decides.
    """
    if asked is not None:
        return dict.fromkeys(examples, asked)
    sources = parse_sources(declared) if declared else []
    columns = {source.name: source.columns.get("target", "target") for source in sources}
    chosen = {}
    for task, rows in examples.items():
        references = (reference for row in rows for reference in row.references)
        code = _code(columns.get(task, ""))
        chosen[task] = choose_tokenizer(task, code if code in LANGUAGES else None, references)
    return chosen


def signatures(
    examples: dict[str, list[Example]], tokenizers: Mapping[str, str] | None = None
) -> dict[str, str]:
    """sacreBLEU's signature of each corpus score of each task: what must agree for two numbers to compare.

    Args:
        tokenizers: of the tasks, from `bleu_tokenizers`; default: sacreBLEU's.
    """
    found = {}
    for task, rows in examples.items():
        references = [example.references for example in rows]
        for name, metric in corpus_metrics((tokenizers or {}).get(task, DEFAULT)).items():
            sentence_statistics(metric, [row[0] for row in references], references)  # counts the references
            found[f"{task}/{name}"] = str(metric.get_signature())
    return found


def evaluate_translation(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    examples: Sequence[Example],
    arguments: EvalArguments,
    words: WordTranslation | None = None,
    tokenizer_of_bleu: str = DEFAULT,
) -> dict[str, Metric]:
    """Scores of the model's translations; the chance level is that of the source sentence, copied.

    Args:
        words: translates word by word, for a baseline.
        tokenizer_of_bleu: from `bleu_tokenizers`.

    Returns:
        `TASK/bleu`, `TASK/chrf` and `TASK/exact_match`.
    """
    chat = asks_in_chat(tokenizer, task, None)
    predictions = predict(model, tokenizer, task, examples, arguments, (), chat)
    references = [example.references for example in examples]
    sources = [task.source(example) for example in examples]
    # the first baseline is the chance level
    trivial = {"copied_source": sources}
    if words is not None:
        trivial["word_by_word"] = [words.translate(source) for source in sources]
    clusters = number_clusters(example.key for example in examples)
    metrics = {}
    for name, metric in corpus_metrics(tokenizer_of_bleu).items():
        statistics = sentence_statistics(metric, predictions, references)
        baselines = {
            label: corpus_score(metric, sentence_statistics(metric, answers, references))
            for label, answers in trivial.items()
        }
        metrics[f"{task.name}/{name}"] = Metric(
            corpus_score(metric, statistics),
            bootstrap_ci(statistics, arguments.seed, partial(corpus_score, metric), clusters=clusters),
            baselines["copied_source"],
            len(examples),
            baselines,
            items=Items(name, tuple(map(tuple, statistics.tolist())), clusters),
        )
    matches = [task.score(*pair)["exact_match"] for pair in zip(predictions, examples, strict=True)]
    baselines = {
        label: task.mean_scores(answers, examples)["exact_match"] for label, answers in trivial.items()
    }
    exact = mean_metric(matches, arguments.seed, baselines["copied_source"], clusters=clusters)
    metrics[f"{task.name}/exact_match"] = exact._replace(baselines=baselines)
    return metrics
