# SPDX-License-Identifier: Apache-2.0
"""Tasks with one right answer: written ones, candidates and sentences chosen by likelihood, last words of a text."""

import math
from collections.abc import Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from scratch_gpt.errors import UserError
from scratch_gpt.evaluation.harness import EvalArguments
from scratch_gpt.evaluation.metrics.intervals import mean_metric, number_clusters
from scratch_gpt.inference.generation import generate_answers
from scratch_gpt.inference.likelihood import loglikelihoods
from scratch_gpt.inference.turns import is_chat
from scratch_gpt.runs.results import Metric
from scratch_gpt.tasks.example import Example
from scratch_gpt.tasks.scores import best_choice
from scratch_gpt.tasks.task import CLOZE, ENDING, PAIR, Scores, Task, draw_shots, first_line
from scratch_gpt.tasks.words import warn_wordless, words


QA_TASKS = ("facts", "choices", "sums", "reading", "unanswerable")
QUESTION_MARKS = ("?", "？", "؟")  # also East Asian, and Arabic


def asks_in_chat(tokenizer: PreTrainedTokenizerBase, task: Task, apply_chat_template: bool | None) -> bool:
    """Whether the questions go through the chat template.

    Args:
        apply_chat_template: as the user says; None: to chat models, unless the task is a text to continue.

    Raises:
        UserError: the tokenizer has no chat template.
    """
    if apply_chat_template is None:
        return is_chat(tokenizer) and not task.as_text
    if apply_chat_template and not tokenizer.chat_template:
        folder = tokenizer.name_or_path
        message = f"{folder} has no chat template: run it without apply_chat_template, or tune it first"
        raise UserError("chat_template_missing", message, folder=folder)
    return apply_chat_template


def is_asked(model: PreTrainedModel, task: Task, shots: Sequence[Sequence[Example]], chat: bool) -> bool:
    """Whether a model gets the question itself and not a text to continue.

    An encoder-decoder, too, is asked the question and ends its answer by itself, unless examples come before it.
    """
    return chat or (model.config.is_encoder_decoder and not task.as_text and not any(shots))


def predict(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    examples: Sequence[Example],
    arguments: EvalArguments,
    shots: Sequence[Sequence[Example]],
    chat: bool,
) -> list[str]:
    """What the model writes to each example (of a base model: the beginning of it)."""
    asked = is_asked(model, task, shots, chat)
    settings = arguments.generation_settings()
    settings["max_new_tokens"] = settings["max_new_tokens"] or task.max_new_tokens
    # a shot's answer may have several lines, and an answer of a base model ends where the next question would begin
    one_line = not asked and not task.stop
    answers = generate_answers(
        model,
        tokenizer,
        task.prompts(examples, asked, shots),
        chat=chat,
        one_line=one_line,
        stop=task.stop,
        **settings,
    )
    return [task.cut(answer.text) if one_line else answer.text for answer in answers]


def weigh(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    examples: Sequence[Example],
    shots: Sequence[Sequence[Example]],
    chat: bool,
    batch_size: int,
) -> list[list[float]]:
    """The log-likelihood of each candidate of each example, in nats; of an ENDING, of what follows the candidate."""
    asked = is_asked(model, task, shots, chat)
    delimiter = "" if asked else task.delimiter
    pairs = [
        (task.prompt(choice, example, asked, own), delimiter + example.references[0])
        if task.form == ENDING
        else (prompt, delimiter + choice)
        for prompt, example, own in zip(task.prompts(examples, asked, shots), examples, shots, strict=True)
        for choice in example.choices
    ]
    weighed = iter(loglikelihoods(model, tokenizer, *zip(*pairs), chat=chat, batch_size=batch_size))
    return [[next(weighed).log_likelihood for _ in example.choices] for example in examples]


def choose(task: Task, log_likelihoods: Sequence[Sequence[float]], examples: Sequence[Example]) -> list[str]:
    """The likeliest candidate of each example: per byte, or as a whole in minimal pairs."""
    chosen = []
    for totals, example in zip(log_likelihoods, examples, strict=True):
        lengths = [1 if task.form == PAIR else len(choice.encode()) for choice in example.choices]
        chosen.append(example.choices[best_choice(totals, lengths)])
    return chosen


def evaluate_questions(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    examples: Sequence[Example],
    arguments: EvalArguments,
    *,
    num_fewshot: int | None = None,
    apply_chat_template: bool | None = None,
) -> dict[str, Metric]:
    """The task's scores, each with chance level and baselines.

    Args:
        num_fewshot: examples with their answers before each question; None: as many as the task says.
        apply_chat_template: see `asks_in_chat`.

    Returns:
        `TASK/SCORE`, of the main score also `TASK/KIND/SCORE` where there are several kinds; for written answers
        `TASK/continues_with_question`, how often an answer is another question; for cloze texts `TASK/perplexity`.

    Raises:
        UserError: no chat template to apply, more shots than there are other examples.
    """
    chat = asks_in_chat(tokenizer, task, apply_chat_template)
    count = task.num_fewshot if num_fewshot is None else num_fewshot
    shots = draw_shots(task, examples, count, arguments.seed)
    if task.form == CLOZE:
        return evaluate_cloze(model, tokenizer, task, examples, arguments, shots, chat)
    metrics = {}
    if task.by_likelihood:
        weighed = weigh(model, tokenizer, task, examples, shots, chat, arguments.batch_size)
        if task.rate:
            rows = [task.rate(*pair) for pair in zip(weighed, examples, strict=True)]
            return rated_metrics(task, rows, examples, arguments.seed)
        predictions = choose(task, weighed, examples)
    else:
        predictions = predict(model, tokenizer, task, examples, arguments, shots, chat)
        warn_wordless(f"answers to {task.name}", predictions)
        asks = [float(is_question(prediction)) for prediction in predictions]
        clusters = number_clusters(example.key for example in examples)
        metrics[f"{task.name}/continues_with_question"] = mean_metric(asks, arguments.seed, clusters=clusters)
    return score_metrics(task, predictions, examples, arguments.seed) | metrics


def score_metrics(
    task: Task, predictions: Sequence[str], examples: Sequence[Example], seed: int
) -> dict[str, Metric]:
    """`TASK/SCORE` of given answers; see `rated_metrics`."""
    rows = [task.score(*pair) for pair in zip(predictions, examples, strict=True)]
    return rated_metrics(task, rows, examples, seed)


def rated_metrics(
    task: Task, rows: Sequence[Scores], examples: Sequence[Example], seed: int
) -> dict[str, Metric]:
    """`TASK/SCORE` of the scores of each example, of the main one also `TASK/KIND/SCORE` where there are several kinds."""
    main, *_ = rows[0]
    metrics = {}
    kinds = sorted({example.kind for example in examples})
    for kind in (None, *(kinds if len(kinds) > 1 else ())):
        chosen = [place for place, example in enumerate(examples) if kind in (None, example.kind)]
        members = [examples[place] for place in chosen]
        clusters = number_clusters(member.key for member in members)
        chance = task.chance(task, members)
        baselines = {name: baseline(task, members) for name, baseline in task.baselines.items()}
        prefix = task.name if kind is None else f"{task.name}/{kind}"
        for name in rows[0] if kind is None else (main,):
            scored = [rows[place][name] for place in chosen]
            metric = mean_metric(scored, seed, chance[name], clusters=clusters)
            named = {label: of[name] for label, of in baselines.items()}
            metrics[f"{prefix}/{name}"] = metric._replace(baselines=named or None)
    return metrics


def evaluate_cloze(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    examples: Sequence[Example],
    arguments: EvalArguments,
    shots: Sequence[Sequence[Example]],
    chat: bool,
) -> dict[str, Metric]:
    """`TASK/accuracy`: whether the word's tokens are the likeliest ones; `TASK/perplexity` of the word (LAMBADA)."""
    endings = [task.weighed_reference(example) for example in examples]
    prompts = task.prompts(examples, chat, shots)
    weighed = loglikelihoods(model, tokenizer, prompts, endings, chat=chat, batch_size=arguments.batch_size)
    predictions = [
        example.references[0] if found.greedy else ""
        for found, example in zip(weighed, examples, strict=True)
    ]
    metrics = score_metrics(task, predictions, examples, arguments.seed)
    clusters = number_clusters(example.key for example in examples)
    nats = mean_metric(
        [-found.log_likelihood for found in weighed], arguments.seed, share=False, clusters=clusters
    )
    metrics[f"{task.name}/perplexity"] = Metric(
        math.exp(nats.value),
        (math.exp(nats.ci95[0]), math.exp(nats.ci95[1])),
        n=nats.n,
        items=nats.items._replace(statistic="perplexity"),  # type: ignore[union-attr]  # mean_metric has them
    )
    return metrics


def is_question(text: str) -> bool:
    """Whether the first line is a question of at least two words; a row of question marks is none."""
    line = first_line(text)
    return line.endswith(QUESTION_MARKS) and len(words(line)) > 1
