# SPDX-License-Identifier: Apache-2.0
"""Free text: bits per byte of held-out text, and the endings of stories.

The embedded corpus, three models side by side:

    accelerate launch eval/generation.py --config eval/configs/generation.yaml \
        --model runs/demo/base runs/demo/chat runs/demo/aligned

Your own text:

    accelerate launch eval/generation.py --config eval/configs/generation_file.yaml --model runs/demo/base
"""

import scratch_gpt.native_libraries  # noqa: F401  # before torch

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from scratch_gpt.data.sources.source import CORPUS_SETTINGS, ROW_SETTINGS, parse_sources
from scratch_gpt.evaluation.benchmarks.generation import (
    GENERATION_TASKS,
    GenerationArguments,
    evaluate_stories,
    evaluate_text,
)
from scratch_gpt.evaluation.harness import run_benchmark
from scratch_gpt.primer.tasks import choose_tasks
from scratch_gpt.runs.results import Metric
from scratch_gpt.settings.parsing import run_stage
from scratch_gpt.tasks.task import load_examples


def main(arguments: GenerationArguments) -> None:
    """Measure each model on held-out text, and let it end all stories of the benchmark."""
    sources = parse_sources(arguments.sources, CORPUS_SETTINGS | ROW_SETTINGS) if arguments.sources else []
    tasks = choose_tasks(arguments.tasks, GENERATION_TASKS, default=not sources)
    examples = load_examples(tasks, arguments.split, arguments.limit) if tasks else {}

    def evaluate(
        model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, arguments: GenerationArguments
    ) -> dict[str, Metric]:
        metrics = evaluate_text(model, tokenizer, sources, arguments)
        for task in tasks:
            metrics |= evaluate_stories(model, tokenizer, task, examples[task.name], arguments)
        return metrics

    run_benchmark("generation", arguments, examples, evaluate, asks=False)


if __name__ == "__main__":
    run_stage(main, GenerationArguments)
