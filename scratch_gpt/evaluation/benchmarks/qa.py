# SPDX-License-Identifier: Apache-2.0
"""Tasks with one right answer: written ones, candidates and sentences chosen by likelihood, last words of a text."""

import math
from collections.abc import Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from scratch_gpt.evaluation.harness import EvalArguments
from scratch_gpt.evaluation.metrics.intervals import mean_metric
from scratch_gpt.inference.generation import generate_answers
from scratch_gpt.inference.likelihood import loglikelihoods
from scratch_gpt.inference.turns import is_chat
from scratch_gpt.runs.results import Items, Metric
from scratch_gpt.tasks.example import Example
from scratch_gpt.tasks.scores import best_choice
from scratch_gpt.tasks.task import CLOZE, PAIR, Task, first_line
from scratch_gpt.tasks.words import warn_wordless, words


QA_TASKS = ("facts", "choices", "sums", "reading")
QUESTION_MARKS = ("?", "？", "؟")  # also East Asian, and Arabic


def predict(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    examples: Sequence[Example],
    arguments: EvalArguments,
) -> list[str]:
    """The model's answer to each example: what it wrote (a base model: the beginning of it), or what it chose."""
    chat = is_chat(tokenizer) and not task.as_text
    if task.by_likelihood:
        return choose(model, tokenizer, task, examples, chat, arguments.batch_size)
    # an encoder-decoder, too, is asked the question and ends its answer by itself
    asked = chat or model.config.is_encoder_decoder
    settings = arguments.generation_settings()
    answers = generate_answers(
        model, tokenizer, task.prompts(examples, asked), chat=chat, one_line=not asked, **settings
    )
    return [answer.text if asked else task.cut(answer.text) for answer in answers]


def choose(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    examples: Sequence[Example],
    chat: bool,
    batch_size: int,
) -> list[str]:
    """The candidate of each example that the model finds likeliest: per byte, or as a whole in minimal pairs."""
    asked = chat or model.config.is_encoder_decoder
    delimiter = "" if asked else task.delimiter
    pairs = [
        (prompt, delimiter + choice)
        for prompt, example in zip(task.prompts(examples, asked), examples, strict=True)
        for choice in example.choices
    ]
    weighed = iter(loglikelihoods(model, tokenizer, *zip(*pairs), chat=chat, batch_size=batch_size))
    chosen = []
    for example in examples:
        totals = [next(weighed).log_likelihood for _ in example.choices]
        lengths = [1 if task.form == PAIR else len(choice.encode()) for choice in example.choices]
        chosen.append(example.choices[best_choice(totals, lengths)])
    return chosen


def evaluate_questions(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    examples: Sequence[Example],
    arguments: EvalArguments,
) -> dict[str, Metric]:
    """The task's scores, each with chance level and baselines.

    Returns:
        `TASK/SCORE`, of the main score also `TASK/KIND/SCORE` where there are several kinds; for written answers
        `TASK/continues_with_question`, how often an answer is another question; for cloze texts `TASK/perplexity`.
    """
    if task.form == CLOZE:
        return evaluate_cloze(model, tokenizer, task, examples, arguments)
    predictions = predict(model, tokenizer, task, examples, arguments)
    metrics = score_metrics(task, predictions, examples, arguments.seed)
    if not task.by_likelihood:
        warn_wordless(f"answers to {task.name}", predictions)
        asks = [float(is_question(prediction)) for prediction in predictions]
        metrics[f"{task.name}/continues_with_question"] = mean_metric(asks, arguments.seed)
    return metrics


def score_metrics(
    task: Task, predictions: Sequence[str], examples: Sequence[Example], seed: int
) -> dict[str, Metric]:
    """`TASK/SCORE` of given answers, of the main score also `TASK/KIND/SCORE` where there are several kinds."""
    rows = [task.score(*pair) for pair in zip(predictions, examples, strict=True)]
    main, *_ = rows[0]
    metrics = {}
    kinds = sorted({example.kind for example in examples})
    for kind in (None, *(kinds if len(kinds) > 1 else ())):
        chosen = [place for place, example in enumerate(examples) if kind in (None, example.kind)]
        members = [examples[place] for place in chosen]
        chance = task.chance(task, members)
        baselines = {name: baseline(task, members) for name, baseline in task.baselines.items()}
        prefix = task.name if kind is None else f"{task.name}/{kind}"
        for name in rows[0] if kind is None else (main,):
            metric = mean_metric([rows[place][name] for place in chosen], seed, chance[name])
            named = {label: of[name] for label, of in baselines.items()}
            metrics[f"{prefix}/{name}"] = metric._replace(baselines=named or None)
    return metrics


def evaluate_cloze(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    examples: Sequence[Example],
    arguments: EvalArguments,
) -> dict[str, Metric]:
    """`TASK/accuracy`: whether the word's tokens are the likeliest ones; `TASK/perplexity` of the word (LAMBADA)."""
    chat = is_chat(tokenizer) and not task.as_text
    endings = [task.delimiter + example.references[0] for example in examples]
    prompts = task.prompts(examples, chat)
    weighed = loglikelihoods(model, tokenizer, prompts, endings, chat=chat, batch_size=arguments.batch_size)
    predictions = [
        example.references[0] if found.greedy else ""
        for found, example in zip(weighed, examples, strict=True)
    ]
    metrics = score_metrics(task, predictions, examples, arguments.seed)
    nats = mean_metric([-found.log_likelihood for found in weighed], arguments.seed)
    metrics[f"{task.name}/perplexity"] = Metric(
        math.exp(nats.value),
        (math.exp(nats.ci95[0]), math.exp(nats.ci95[1])),
        n=nats.n,
        items=Items("perplexity", nats.items.rows),  # type: ignore[union-attr]  # mean_metric has them
    )
    return metrics


def is_question(text: str) -> bool:
    """Whether the first line is a question of at least two words; a row of question marks is none."""
    line = first_line(text)
    return line.endswith(QUESTION_MARKS) and len(words(line)) > 1
