# SPDX-License-Identifier: Apache-2.0
"""When attention learns to bind: how often each checkpoint finds the value that a text gave to a key.

    accelerate launch train/pretrain.py --config train/configs/demo/pretrain.yaml --output_dir runs/binding --save_steps 50 --save_total_limit 100
    python eval/engineering/binding.py --run runs/binding

The model continues a list of pairs behind one of its keys ("Nina ball. Tom hat. Nina", in four forms), or a passage
where it comes back to somebody; right is if of the values in the text that of the key is the likeliest. Writes
results/binding.json into the run.
"""

import scratch_gpt.native_libraries  # noqa: F401  # before torch

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from scratch_gpt.errors import UserError
from scratch_gpt.evaluation.metrics.intervals import wilson_ci
from scratch_gpt.inference.likelihood import loglikelihoods
from scratch_gpt.inference.loading import load_model
from scratch_gpt.primer.pairs import LESSONS
from scratch_gpt.primer.pairs import example as pairs_example
from scratch_gpt.primer.reading import recall_example
from scratch_gpt.primer.splits import generator
from scratch_gpt.runs.checkpoints import checkpoint_step, list_checkpoints
from scratch_gpt.runs.results import Metric, write_result
from scratch_gpt.settings.checking import Count
from scratch_gpt.settings.parsing import run_stage
from scratch_gpt.tasks.example import Example


# People in a passage.
COUNTS = (2, 3, 4)


@dataclass
class BindingArguments:
    """Settings of `eval/engineering/binding.py`."""

    run: str = field(metadata={"help": "Folder of the pretraining, with its checkpoints."})
    examples: Count = field(default=200, metadata={"help": "Texts of each kind."})
    seed: int = field(default=0, metadata={"help": "Seed of the texts."})


def make_examples(count: int, seed: int) -> dict[str, list[Example]]:
    """Texts by kind; the passages hold details that no training text does."""
    rng = generator(seed, "binding")
    found = {
        lesson.form: [pairs_example(rng, kind) for _ in range(count)] for kind, lesson in LESSONS.items()
    }
    return found | {f"of {n} people": [recall_example(rng, "test", n) for _ in range(count)] for n in COUNTS}


def share_right(model: Any, tokenizer: Any, examples: Sequence[Example]) -> Metric:
    """How often the right choice is the likeliest, beside drawing one."""
    prompts = [example.prompt for example in examples for _ in example.choices]
    choices = [choice for example in examples for choice in example.choices]
    weighed = iter(loglikelihoods(model, tokenizer, prompts, choices, chat=False))
    right = 0
    for example in examples:
        scores = [next(weighed).log_likelihood for _ in example.choices]
        right += int(np.argmax(scores)) == example.label
    chance = float(np.mean([1 / len(example.choices) for example in examples]))
    share = right / len(examples)
    return Metric(share, wilson_ci(share, len(examples)), chance)


def main(arguments: BindingArguments) -> None:
    """Measure all checkpoints, print and write."""
    run = Path(arguments.run)
    checkpoints = list_checkpoints(run)
    if not checkpoints:
        message = f"no checkpoint in {run}: pretrain with --save_steps 50 --save_total_limit 100"
        raise UserError("no_checkpoint", message, folder=run)
    examples = make_examples(arguments.examples, arguments.seed)
    table = Table("step", *examples, title="the value of the key is the likeliest one of the text")
    metrics: dict[str, Metric] = {}
    for checkpoint in checkpoints:
        model, tokenizer = load_model(checkpoint)
        step = checkpoint_step(checkpoint)
        found = {kind: share_right(model, tokenizer, texts) for kind, texts in examples.items()}
        table.add_row(str(step), *(f"{metric.value:.2f}" for metric in found.values()))
        metrics |= {f"step {step}/{kind}": metric for kind, metric in found.items()}
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    write_result(
        run / "results" / "binding.json",
        task="binding",
        model=str(run),
        n=arguments.examples,
        metrics=metrics,
        settings={"examples": arguments.examples},
        seed=arguments.seed,
    )


if __name__ == "__main__":
    run_stage(main, BindingArguments)
