# SPDX-License-Identifier: Apache-2.0
"""Tasks with right answers: written ones, candidates chosen by likelihood, minimal pairs, last words, summaries.

The embedded corpus, three models side by side:

    accelerate launch eval/qa.py --config eval/configs/qa.yaml \
        --model runs/demo/base runs/demo/chat runs/demo/aligned

Your own files, in the layouts of SQuAD, HellaSwag, ARC, PIQA, BLiMP, LAMBADA, XSum ... (the columns tell which):

    accelerate launch eval/qa.py --config eval/configs/qa_file.yaml --model runs/demo/chat --output results/squad.json
"""

import scratch_gpt.openmp  # noqa: F401  # before torch

from dataclasses import dataclass, field
from typing import Any, Literal

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from scratch_gpt.evaluation.benchmarks.file_tasks import FORMS, file_tasks
from scratch_gpt.evaluation.benchmarks.qa import QA_TASKS, evaluate_questions
from scratch_gpt.evaluation.harness import EvalArguments, run_benchmark
from scratch_gpt.primer.tasks import choose_tasks
from scratch_gpt.runs.results import Metric
from scratch_gpt.settings.parsing import run_stage
from scratch_gpt.tasks.task import load_examples, score_answer, score_number


SCORES = {"answer": score_answer, "number": score_number}


@dataclass
class QAArguments(EvalArguments):
    """Settings of `eval/qa.py`."""

    score: Literal["answer", "number"] = field(
        default="answer",
        metadata={
            "help": "How answers to your own questions count: answer (exact match, F1) or number (the last one)."
        },
    )


def main(arguments: QAArguments) -> None:
    """Ask each model all questions of the benchmark."""
    tasks = choose_tasks(arguments.tasks, QA_TASKS, default=not arguments.sources)
    if arguments.sources:
        forms: dict[str, dict[str, Any]] = {form: {} for form in FORMS if form != "translation"}
        forms["question"]["score"] = SCORES[arguments.score]
        tasks += file_tasks(arguments.sources, arguments.on_bad_row, forms)
    examples = load_examples(tasks, arguments.split, arguments.limit)

    def evaluate(
        model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, arguments: QAArguments
    ) -> dict[str, Metric]:
        metrics = {}
        for task in tasks:
            metrics |= evaluate_questions(model, tokenizer, task, examples[task.name], arguments)
        return metrics

    run_benchmark("qa", arguments, examples, evaluate)


if __name__ == "__main__":
    run_stage(main, QAArguments)
