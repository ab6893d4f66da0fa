# SPDX-License-Identifier: Apache-2.0
"""Tasks with right answers: written ones, candidates chosen by likelihood, minimal pairs, last words, summaries.

The embedded corpus, three models side by side:

    accelerate launch eval/qa.py --config eval/configs/qa.yaml \
        --model runs/demo/base runs/demo/chat runs/demo/aligned

Your own files, in the layouts of SQuAD, HellaSwag, ARC, PIQA, BLiMP, LAMBADA, XSum ... (recognized by the columns):

    accelerate launch eval/qa.py --config eval/configs/qa_file.yaml --model runs/demo/chat --output results/squad.json

Public benchmarks by their names, as lm-eval asks and scores them:

    accelerate launch eval/qa.py --model runs/real/base --tasks hellaswag arc_easy --num_fewshot 5
"""

import scratch_gpt.native_libraries  # noqa: F401  # before torch

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from scratch_gpt.evaluation.benchmarks.file_tasks import FORMS, file_tasks
from scratch_gpt.evaluation.benchmarks.layouts import GROUPS, LAYOUTS
from scratch_gpt.evaluation.benchmarks.public import LAYOUT, check_layout, public_tasks
from scratch_gpt.evaluation.benchmarks.qa import QA_TASKS, evaluate_questions
from scratch_gpt.evaluation.harness import EvalArguments, run_benchmark
from scratch_gpt.primer.tasks import choose_tasks
from scratch_gpt.runs.results import Metric
from scratch_gpt.settings.checking import Range
from scratch_gpt.settings.parsing import run_stage
from scratch_gpt.tasks.task import draw_shots, load_examples, score_answer, score_number


SCORES = {"answer": score_answer, "number": score_number}


@dataclass
class QAArguments(EvalArguments):
    """Settings of `eval/qa.py`."""

    tasks: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Tasks of the embedded corpus, and public benchmarks such as hellaswag (from the Hub). Default: all "
            "of the embedded corpus, or none if sources are given."
        },
    )
    num_fewshot: Annotated[int, Range("at least 0", lambda value: value >= 0)] | None = field(
        default=None,
        metadata={
            "help": "Examples with their answers before each question, drawn by seed. Default: 5 in gsm8k, else 0."
        },
    )
    apply_chat_template: bool | None = field(
        default=None,
        metadata={
            "help": "Ask through the chat template (true) or as a text to continue (false). Default: chat models are asked "
            "through it, except in public benchmarks and texts to continue."
        },
    )
    max_new_tokens: int | None = field(  # type: ignore[assignment]  # each task has its own default
        default=None, metadata={"help": "Longest answer, in tokens. Default: 256 in gsm8k, else 32."}
    )
    score: Literal["answer", "number"] = field(
        default="answer",
        metadata={
            "help": "How answers to your own questions count: answer (exact match, F1) or number (the last one)."
        },
    )


def main(arguments: QAArguments) -> None:
    """Ask each model all questions of the benchmark."""
    for name in arguments.tasks:
        check_layout(name, (*QA_TASKS, *LAYOUTS, *GROUPS))
    own = [name for name in arguments.tasks if name in QA_TASKS]
    tasks = choose_tasks(own, QA_TASKS, default=not arguments.sources and not arguments.tasks)
    declared = arguments.sources or []
    if files := [source for source in declared if LAYOUT not in source]:
        forms: dict[str, dict[str, Any]] = {form: {} for form in FORMS if form != "translation"}
        forms["question"]["score"] = SCORES[arguments.score]
        tasks += file_tasks(files, arguments.on_bad_row, forms)
    public = public_tasks(
        [name for name in arguments.tasks if name not in QA_TASKS],
        [source for source in declared if LAYOUT in source],
        arguments.on_bad_row,
        arguments.num_fewshot,
    )
    tasks += [task for task, _ in public.values()]
    examples = load_examples(tasks, arguments.split, arguments.limit)
    shots = {name: task.num_fewshot for name, (task, _) in public.items()}
    for task in tasks:
        count = shots.setdefault(task.name, arguments.num_fewshot or 0)
        draw_shots(task, examples[task.name], count, arguments.seed)

    def evaluate(
        model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, arguments: QAArguments
    ) -> dict[str, Metric]:
        metrics = {}
        for task in tasks:
            metrics |= evaluate_questions(
                model,
                tokenizer,
                task,
                examples[task.name],
                arguments,
                num_fewshot=shots[task.name],
                apply_chat_template=arguments.apply_chat_template,
            )
        return metrics

    benchmarks = {}
    for name, (task, settings) in public.items():
        benchmarks[name] = {**settings, "apply_chat_template": bool(arguments.apply_chat_template)}
        if not task.by_likelihood:
            benchmarks[name]["max_new_tokens"] = arguments.max_new_tokens or task.max_new_tokens
    run_benchmark("qa", arguments, examples, evaluate, {"benchmarks": benchmarks} if benchmarks else None)


if __name__ == "__main__":
    run_stage(main, QAArguments)
