# SPDX-License-Identifier: Apache-2.0
"""What all benchmarks share: their arguments, and the order of evaluating, writing and showing."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import transformers
from accelerate import PartialState
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from scratch_gpt.errors import UserError
from scratch_gpt.evaluation.runner import Metric, check_folder, load_model, print_table, write_result
from scratch_gpt.training.arguments import decode_json


@dataclass
class EvalArguments:
    """What every benchmark is told."""

    model: list[str] = field(
        default_factory=list, metadata={"help": "Model folders: one, or several to compare in one table."}
    )
    output: str | None = field(
        default=None, metadata={"help": "Result file, for one model. Default: MODEL/results/BENCHMARK.json."}
    )
    tasks: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Tasks of the embedded corpus. Default: all of this benchmark, or none if sources are given."
        },
    )
    split: str = field(default="test", metadata={"help": "Split of the embedded corpus: train, dev or test."})
    sources: list | str | None = field(
        default=None,
        metadata={"help": "Your own files: a list of {name, path, columns, ...} (YAML) or the same as JSON."},
    )
    on_bad_row: str = field(
        default="skip",
        metadata={
            "help": "skip: leave out bad rows while they are under one percent of a file; fail: stop at the first."
        },
    )
    limit: int | None = field(default=None, metadata={"help": "Use the first so many examples of each task."})
    max_new_tokens: int = field(default=32, metadata={"help": "Longest answer, in tokens."})
    batch_size: int = field(default=64, metadata={"help": "Texts that run through the model together."})
    temperature: float = field(
        default=0.0, metadata={"help": "0: the most probable token (greedy); 1: as the model says."}
    )
    seed: int = field(default=0, metadata={"help": "Seed of sampling and of the intervals."})

    def __post_init__(self) -> None:
        self.sources = decode_json(self.sources, "sources")
        if not self.model:
            raise UserError("model is missing: give --model DIR, a folder that a training stage wrote")
        if self.output and len(self.model) > 1:
            raise UserError(
                f"output takes one file, but {len(self.model)} models are given: leave --output out"
            )
        if self.on_bad_row not in ("skip", "fail"):
            raise UserError(f"on_bad_row must be skip or fail, got {self.on_bad_row!r}")
        if self.split not in ("train", "dev", "test"):
            raise UserError(f"split must be train, dev or test, got {self.split!r}")
        for name in ("limit", "max_new_tokens", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} must be at least 1, got {value}")
        for folder in self.model:
            check_folder(folder)

    def generation_settings(self) -> dict[str, Any]:
        """How answers are generated: arguments of `generate_answers`."""
        names = ("max_new_tokens", "temperature", "seed", "batch_size")
        return {name: getattr(self, name) for name in names}


def run_benchmark(
    name: str,
    arguments: EvalArguments,
    sizes: dict[str, int],
    evaluate: Callable[[PreTrainedModel, PreTrainedTokenizerBase], dict[str, Metric]],
    notes: dict[str, Any] | None = None,
) -> None:
    """Evaluate each model, write its result file as soon as it is known, and print the table.

    Args:
        name: of the benchmark; `MODEL/results/NAME.json` is the default output.
        sizes: number of examples of each task.
        notes: what else belongs to the result's settings.
    """
    settings = dataclasses.asdict(arguments)
    for key in ("model", "output", "seed"):
        del settings[key]
    settings |= {"examples": sizes, **(notes or {})}
    transformers.utils.logging.disable_progress_bar()
    results = {}
    for folder in arguments.model:
        results[folder] = evaluate(*load_model(folder, allow_encoder_decoder=True))
        if PartialState().is_main_process:
            path = arguments.output or Path(folder) / "results" / f"{name}.json"
            write_result(path, name, folder, sum(sizes.values()), results[folder], settings, arguments.seed)
    if PartialState().is_main_process:
        print_table(name, results)
