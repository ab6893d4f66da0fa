# SPDX-License-Identifier: Apache-2.0
"""Questions: free answers scored by exact match and F1, sums by their last number, candidates by likelihood."""

import re
from collections.abc import Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from scratch_gpt.data.example import Example
from scratch_gpt.evaluation.benchmark import EvalArguments
from scratch_gpt.evaluation.runner import Metric, generate_answers, is_chat, loglikelihoods, mean_metric
from scratch_gpt.evaluation.scores import best_choice
from scratch_gpt.evaluation.task import Task, first_line


QA_TASKS = ("facts", "choices", "sums", "reading")


def predict(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    examples: Sequence[Example],
    arguments: EvalArguments,
) -> list[str]:
    """The model's answer to each example: what it wrote (a base model: the beginning of it), or what it chose."""
    chat = is_chat(tokenizer)
    # an encoder-decoder, too, is asked the question and ends its answer by itself
    asked = chat or model.config.is_encoder_decoder
    prompts = task.prompts(examples, asked)
    if not task.by_likelihood:
        settings = arguments.generation_settings()
        answers = generate_answers(model, tokenizer, prompts, chat=chat, one_line=not asked, **settings)
        return [answer.text if asked else task.cut(answer.text) for answer in answers]
    pairs = [
        (prompt, choice)
        for prompt, example in zip(prompts, examples, strict=True)
        for choice in example.choices
    ]
    weighed = iter(loglikelihoods(model, tokenizer, *zip(*pairs), chat=chat, batch_size=arguments.batch_size))
    chosen = []
    for example in examples:
        totals, _, lengths = zip(*(next(weighed) for _ in example.choices), strict=True)
        chosen.append(example.choices[best_choice(totals, lengths)])
    return chosen


def evaluate_questions(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    examples: Sequence[Example],
    arguments: EvalArguments,
) -> dict[str, Metric]:
    """The task's scores, the main one also for each kind of example, and how often an answer is another question.

    Returns:
        `TASK/SCORE`, `TASK/KIND/SCORE` where there are several kinds, `TASK/asks_on` for written answers.
    """
    predictions = predict(model, tokenizer, task, examples, arguments)
    rows = [task.score(*pair) for pair in zip(predictions, examples, strict=True)]
    kinds = {kind: [example for example in examples if example.kind == kind] for kind in _kinds(examples)}
    chance = task.chance(task, examples)
    metrics = {
        f"{task.name}/{name}": mean_metric([row[name] for row in rows], arguments.seed, chance[name])
        for name in rows[0]
    }
    main = next(iter(rows[0]))
    if len(kinds) > 1:
        for kind, members in kinds.items():
            values = [row[main] for row, example in zip(rows, examples, strict=True) if example.kind == kind]
            chance = task.chance(task, members)
            metrics[f"{task.name}/{kind}/{main}"] = mean_metric(values, arguments.seed, chance[main])
    if not task.by_likelihood:
        asks = [float(is_question(prediction)) for prediction in predictions]
        metrics[f"{task.name}/asks_on"] = mean_metric(asks, arguments.seed)
    return metrics


def is_question(text: str) -> bool:
    """Whether the first line is a question of at least two words; a row of question marks is none."""
    line = first_line(text)
    return line.endswith("?") and len(re.findall(r"\w+", line)) > 1


def _kinds(examples: Sequence[Example]) -> list[str]:
    return sorted({example.kind for example in examples})
