# SPDX-License-Identifier: Apache-2.0
"""Translation: BLEU and chrF by sacreBLEU, and exact match.

The embedded corpus, English to German, three models side by side:

    accelerate launch eval/translation.py --config eval/configs/translation.yaml \
        --model runs/demo/base runs/demo/chat runs/demo/aligned

Your own pairs, both directions, with beam search and a word-by-word baseline:

    accelerate launch eval/translation.py --config eval/configs/translation_file.yaml --model runs/demo/chat --num_beams 4
"""

import scratch_gpt.native_libraries  # noqa: F401  # before torch

from dataclasses import dataclass, field
from typing import Any

from accelerate import PartialState
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from scratch_gpt.errors import UserError
from scratch_gpt.evaluation.benchmarks.translation import (
    TRANSLATION_TASKS,
    bleu_tokenizers,
    evaluate_translation,
    file_translations,
    signatures,
    word_translations,
)
from scratch_gpt.evaluation.harness import EvalArguments, run_benchmark
from scratch_gpt.evaluation.metrics.bleu_tokenizers import check_tokenizer
from scratch_gpt.primer.tasks import choose_tasks
from scratch_gpt.runs.results import Metric
from scratch_gpt.settings.parsing import run_stage
from scratch_gpt.tasks.task import load_examples


@dataclass
class TranslationArguments(EvalArguments):
    """Settings of `eval/translation.py`."""

    instruction: str = field(
        default="Translate into {target_language}: {source}",
        metadata={"help": "What a chat model is asked about a sentence of your own files."},
    )
    continuation: str = field(
        default="{source_language}: {source}\n{target_language}:",
        metadata={"help": "What a base model is given to continue."},
    )
    training_pairs: list[dict[str, Any]] | None = field(
        default=None,
        metadata={
            "help": "Sources of other pairs, named like those to translate: a word-by-word baseline learns them."
        },
    )

    bleu_tokenizer: str | None = field(
        default=None,
        metadata={
            "help": "sacreBLEU's tokenizer, such as flores200. Default: by the language that is translated into."
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bleu_tokenizer is not None:
            check_tokenizer(self.bleu_tokenizer)
        for name in ("instruction", "continuation"):
            if "{source}" not in getattr(self, name):
                message = (
                    f"{name} must hold {{source}}, the place of the sentence, got {getattr(self, name)!r}"
                )
                raise UserError("placeholder_missing", message, setting=name)


def main(arguments: TranslationArguments) -> None:
    """Let each model translate all sentences of the benchmark."""
    tasks = choose_tasks(arguments.tasks, TRANSLATION_TASKS, default=not arguments.sources)
    if arguments.sources:
        tasks += file_translations(
            arguments.sources, arguments.on_bad_row, arguments.instruction, arguments.continuation
        )
    examples = load_examples(tasks, arguments.split, arguments.limit)
    tokenizers = bleu_tokenizers(arguments.sources or [], examples, arguments.bleu_tokenizer)
    signed = signatures(examples, tokenizers)
    words = word_translations(arguments.training_pairs or [], arguments.on_bad_row, list(examples))

    def evaluate(
        model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, arguments: TranslationArguments
    ) -> dict[str, Metric]:
        metrics = {}
        for task in tasks:
            metrics |= evaluate_translation(
                model,
                tokenizer,
                task,
                examples[task.name],
                arguments,
                words.get(task.name),
                tokenizers[task.name],
            )
        return metrics

    run_benchmark("translation", arguments, examples, evaluate, {"signatures": signed})
    if PartialState().is_main_process:
        for name, signature in signed.items():
            print(f"{name}: {signature}")


if __name__ == "__main__":
    run_stage(main, TranslationArguments)
