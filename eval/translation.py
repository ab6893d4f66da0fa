# SPDX-License-Identifier: Apache-2.0
"""Translation: BLEU and chrF by sacreBLEU, and exact match.

The embedded corpus, English to German, three models side by side:

    accelerate launch eval/translation.py --config eval/configs/translation.yaml \
        --model runs/demo/base runs/demo/chat runs/demo/aligned

Your own pairs:

    accelerate launch eval/translation.py --config eval/configs/translation_file.yaml --model runs/demo/chat
"""

from dataclasses import dataclass, field

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from scratch_gpt.errors import UserError
from scratch_gpt.evaluation.benchmark import EvalArguments, run_benchmark
from scratch_gpt.evaluation.runner import Metric
from scratch_gpt.evaluation.task import choose_tasks, file_tasks, load_examples, score_translation
from scratch_gpt.evaluation.translation import TRANSLATION_TASKS, evaluate_translation, signatures
from scratch_gpt.training.arguments import run_stage


@dataclass
class TranslationArguments(EvalArguments):
    """Settings of `eval/translation.py`."""

    instruction: str = field(
        default="Translate into German: {source}",
        metadata={"help": "What a chat model is asked about a sentence of your own files."},
    )
    continuation: str = field(
        default="English: {source}\nGerman:",
        metadata={"help": "What a base model is given to continue."},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("instruction", "continuation"):
            if "{source}" not in getattr(self, name):
                raise UserError(
                    f"{name} must hold {{source}}, the place of the sentence, got {getattr(self, name)!r}"
                )


def main(arguments: TranslationArguments) -> None:
    """Let each model translate all sentences of the benchmark."""
    sources = arguments.sources or []
    tasks = choose_tasks(arguments.tasks, TRANSLATION_TASKS, default=not sources)
    if sources:
        tasks += file_tasks(
            sources,
            arguments.on_bad_row,
            score_translation,
            message=lambda example: arguments.instruction.replace("{source}", example.prompt),
            continuation=lambda example: arguments.continuation.replace("{source}", example.prompt),
        )
    examples = load_examples(tasks, arguments.split, arguments.limit)

    def evaluate(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, Metric]:
        metrics = {}
        for task in tasks:
            metrics |= evaluate_translation(model, tokenizer, task, examples[task.name], arguments)
        return metrics

    sizes = {name: len(rows) for name, rows in examples.items()}
    run_benchmark("translation", arguments, sizes, evaluate, {"signatures": signatures(examples)})


if __name__ == "__main__":
    run_stage(main, TranslationArguments)
