# SPDX-License-Identifier: Apache-2.0
"""What all benchmarks share: their arguments, and the order of evaluating, writing and showing."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import transformers
from accelerate import PartialState
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from scratch_gpt.errors import UserError
from scratch_gpt.evaluation.metrics.intervals import print_table
from scratch_gpt.inference.loading import check_folder, load_model
from scratch_gpt.runs.results import Items, Metric, write_items, write_result
from scratch_gpt.settings.checking import Count, NotNegative, check_values
from scratch_gpt.tasks.example import Example


# In a model's path: the place of the seed, where each seed trained a model of its own.
SEED = "{seed}"
# Of each task, questions that are kept for people to ask, and their most characters.
QUESTIONS, LONGEST_QUESTION = 3, 120


@dataclass
class AnsweringArguments:
    """Which models answer, to what, and how long."""

    model: list[str] = field(
        default_factory=list,
        metadata={"help": "Model folders: one, or several to compare in one table."},
    )
    sources: list[dict[str, Any]] | None = field(
        default=None,
        metadata={"help": "Your own files: a list of {name, path, columns, ...} (YAML) or the same as JSON."},
    )
    on_bad_row: Literal["skip", "fail"] = field(
        default="skip",
        metadata={
            "help": "skip: leave out bad rows while they are under one percent of a file; fail: stop at the first."
        },
    )
    limit: Count | None = field(default=None, metadata={"help": "Use the first N examples of each task."})
    max_new_tokens: Count = field(default=32, metadata={"help": "Longest answer, in tokens."})
    seed: int = field(default=0, metadata={"help": "Seed of sampling and of the intervals."})
    seeds: list[int] = field(
        default_factory=list,
        metadata={
            "help": "Several seeds in place of one: each number is their mean, with their spread. Where each seed trained "
            "a model, write {seed} in its place in the folder's name."
        },
    )

    def __post_init__(self) -> None:
        check_values(self)
        if not self.model:
            message = "model is missing: give --model DIR, a folder that a training stage wrote"
            raise UserError("setting_missing", message, setting="model")
        if len(set(self.seeds)) < len(self.seeds):
            raise UserError("duplicate_seeds", f"seeds must differ, got {' '.join(map(str, self.seeds))}")
        for model in self.model:
            if SEED in model and not self.seeds:
                message = f"model {model} asks for seeds: give --seeds 0 1 2"
                raise UserError("setting_missing", message, setting="seeds")
            for seed in self.seeds or [self.seed]:
                check_folder(model.replace(SEED, str(seed)))


@dataclass
class EvalArguments(AnsweringArguments):
    """Settings of every benchmark."""

    output: str | None = field(
        default=None, metadata={"help": "Result file, for one model. Default: MODEL/results/BENCHMARK.json."}
    )
    tasks: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Tasks of the embedded corpus. Default: all of this benchmark, or none if sources are given."
        },
    )
    split: Literal["train", "dev", "test"] = field(
        default="test", metadata={"help": "Split of the embedded corpus."}
    )
    batch_size: Count = field(default=64, metadata={"help": "Texts that run through the model together."})
    temperature: NotNegative = field(
        default=0.0, metadata={"help": "0: the most probable token (greedy); 1: as the model says."}
    )
    num_beams: Count = field(
        default=1, metadata={"help": "Above 1: beam search with this many beams, at temperature 0."}
    )

    def __post_init__(self) -> None:
        if self.output and len(self.model) > 1:
            message = f"output takes one file, but {len(self.model)} models are given: leave --output out"
            raise UserError("too_many_models", message, count=len(self.model))
        super().__post_init__()
        if self.num_beams > 1 and self.temperature > 0:
            message = f"num_beams {self.num_beams} needs temperature 0, got {self.temperature}"
            raise UserError("settings_conflict", message, setting="num_beams", other="temperature")

    def generation_settings(self, temperature: float | None = None) -> dict[str, Any]:
        """How answers are generated: arguments of `generate_answers`; at another temperature, if one is given."""
        names = ("max_new_tokens", "temperature", "seed", "batch_size", "num_beams")
        settings = {name: getattr(self, name) for name in names}
        if temperature is not None:
            settings["temperature"] = temperature
        if settings["temperature"] > 0:
            settings["num_beams"] = 1  # beams search for the likeliest answer, they do not sample
        return settings


Evaluate = Callable[[PreTrainedModel, PreTrainedTokenizerBase, Any], dict[str, Metric]]


def run_benchmark(
    name: str,
    arguments: EvalArguments,
    examples: Mapping[str, Sequence[Example]],
    evaluate: Evaluate,
    notes: dict[str, Any] | None = None,
    *,
    asks: bool = True,
) -> None:
    """Evaluate each model under each seed, write its result file as soon as it is known, and print the table.

    Beside the result file it writes `NAME.items.jsonl`: what each number is computed from, item by item.
    Where the models' paths hold {seed}, each of the folders gets its own result, and `output` that of all seeds.

    Args:
        name: of the benchmark; `MODEL/results/NAME.json` is the default output.
        examples: of each task.
        evaluate: a function of model, tokenizer and arguments, whose seed is the one to use.
        notes: what else belongs to the result's settings.
        asks: whether its prompts are questions; the result keeps some that were answered right.
    """
    sizes = {task: len(rows) for task, rows in examples.items()}
    digests = {task: examples_digest(rows) for task, rows in examples.items()}
    settings = dataclasses.asdict(arguments)
    for key in ("model", "output", "seed"):
        del settings[key]
    settings |= {"examples": sizes, **(notes or {})}
    transformers.utils.logging.disable_progress_bar()

    def write(path: str | Path, folder: str, metrics: dict[str, Metric], seed: int) -> None:
        if PartialState().is_main_process:
            write_items(Path(path).with_suffix(".items.jsonl"), metrics, digests)
            answered = answered_right(examples, metrics) if asks else None
            write_result(path, name, folder, sum(sizes.values()), metrics, settings, seed, answered)

    results = {}
    for model in arguments.model:
        seeds = arguments.seeds or [arguments.seed]
        found: dict[int, dict[str, Metric]] = {}
        for seed in seeds:
            folder = model.replace(SEED, str(seed))
            if SEED in model or not found:
                loaded = load_model(folder, allow_encoder_decoder=True)
            found[seed] = evaluate(*loaded, dataclasses.replace(arguments, seed=seed))
            if SEED in model:
                write(Path(folder) / "results" / f"{name}.json", folder, found[seed], seed)
        results[model] = mean_over_seeds(found)
        if arguments.output or SEED not in model:
            default = Path(model) / "results" / f"{name}.json"
            write(arguments.output or default, model, results[model], seeds[0])
    if PartialState().is_main_process:
        print_table(name, results)


def answered_right(
    examples: Mapping[str, Sequence[Example]], metrics: Mapping[str, Metric]
) -> dict[str, list[str]]:
    """Task -> the shortest of its questions whose written answer was right, for people to ask."""
    found = {}
    for task, rows in examples.items():
        scored = next(
            (
                metric.items.rows
                for name, metric in metrics.items()
                if name.count("/") == 1 and name.startswith(f"{task}/") and metric.items
                if metric.items.statistic == "mean" and len(metric.items.rows) == len(rows)
            ),
            (),
        )
        right = {
            example.prompt
            for example, (score, *_) in zip(rows, scored, strict=False)
            if score == 1 and not example.choices
            if len(example.prompt) <= LONGEST_QUESTION and "\n" not in example.prompt
        }
        if right:
            found[task] = sorted(right, key=lambda prompt: (len(prompt), prompt))[:QUESTIONS]
    return found


def mean_over_seeds(found: Mapping[int, Mapping[str, Metric]]) -> dict[str, Metric]:
    """The mean of each number that all seeds have; its interval is the mean of the seeds' intervals over items."""
    if len(found) == 1:
        return dict(*found.values())
    metrics = {}
    for name, first in next(iter(found.values())).items():
        each = {seed: of_seed[name] for seed, of_seed in found.items() if name in of_seed}
        if len(each) < len(found):  # a seed held out no row of that source
            continue
        low, high = np.mean([metric.ci95 for metric in each.values()], axis=0).tolist()
        seeds = {str(seed): metric.value for seed, metric in each.items()}
        stored = [metric.items for metric in each.values() if metric.items is not None]
        items = None
        # blocks of text differ where models of different tokenizers have the seeds
        if stored and len({len(of_seed.rows) for of_seed in stored}) == 1:
            rows = np.mean([of_seed.rows for of_seed in stored], axis=0)
            items = Items(stored[0].statistic, tuple(map(tuple, rows.tolist())), stored[0].clusters)
        mean = float(np.mean(list(seeds.values())))
        metrics[name] = first._replace(value=mean, ci95=(low, high), seeds=seeds, items=items)
    return metrics


def examples_digest(examples: Sequence[Example]) -> str:
    """A hash of what is asked and what is right: equal for equal examples in the same order."""
    asked = [[example.prompt, example.references, example.choices] for example in examples]
    return hashlib.blake2b(json.dumps(asked).encode(), digest_size=16).hexdigest()
