# SPDX-License-Identifier: Apache-2.0
"""The scaling law of `scratch-gpt new`: many small runs on your texts, and the constants that fit them best.

    python eval/engineering/scaling_fit.py --texts data/books.jsonl data/wiki.jsonl data/russian.txt --minutes 120
    python eval/engineering/scaling_fit.py --texts ... --minutes 120 --output scratch_gpt/new/scaling_fit.json

The cheapest runs come first, of all texts in turn. The same command continues with what is not yet there, so it may be
stopped at any time. Last, the constants are fitted to all runs that are there.
"""

import scratch_gpt.native_libraries  # noqa: F401  # before torch

import dataclasses
import json
import shlex
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from scratch_gpt.errors import UserError
from scratch_gpt.new.configs import write_configs
from scratch_gpt.new.decision import measure_text, prompts
from scratch_gpt.new.forecast import Point, fit, stored
from scratch_gpt.new.planning import MOST_PASSES, Choice, Plan, TextFigures, TimeTable, make_plan
from scratch_gpt.new.shapes import Shape, choose_vocab_size
from scratch_gpt.new.text import RUNNING, find_files, write_corpus
from scratch_gpt.pipeline import run_steps
from scratch_gpt.runs.folders import atomic_write, read_json
from scratch_gpt.runs.log import RunLog, console
from scratch_gpt.settings.checking import Positive, check_values
from scratch_gpt.settings.parsing import run_stage


# Width and depth of the models, and tokens of the runs.
SHAPES = ((64, 1), (64, 2), (128, 2), (192, 3), (192, 5), (256, 4), (320, 5), (384, 6), (448, 7))
TOKENS = (0.3e6, 1e6, 3e6, 10e6, 30e6, 100e6)
# Of a text, at most.
MOST_BYTES = 400e6
# Of a run that take no operations: loading, evaluating, saving.
STARTING_SECONDS = 15.0
# Five constants want more runs than that.
LEAST_RUNS = 6
# Examples of how models write: one for each step of their share of the 8-gram model's bits.
EXAMPLE_STEP = 0.05


@dataclass
class ScalingFitArguments:
    """Settings of `eval/engineering/scaling_fit.py`."""

    texts: list[str] = field(
        metadata={"help": "Files of text, each one kind of text; examples are of the first."}
    )
    minutes: Positive = field(default=60.0, metadata={"help": "Time for this call."})
    output_dir: str = field(default="runs/scaling_fit", metadata={"help": "Holds the texts and the runs."})
    output: str | None = field(
        default=None, metadata={"help": "File of the constants. Default: in output_dir."}
    )

    def __post_init__(self) -> None:
        check_values(self)
        check_folder_names(self.texts)


def folder_name(text: str) -> str:
    """A text's folder in `output_dir`."""
    return Path(text).name.partition(".")[0]


def check_folder_names(texts: Sequence[str]) -> None:
    """Whether each text has a folder of its own.

    Raises:
        UserError: two have the same name.
    """
    names = Counter(map(folder_name, texts))
    if twice := [path for path in texts if names[folder_name(path)] > 1]:
        message = f"texts: {' and '.join(twice)} have the same name and would share a folder: rename one"
        raise UserError("settings_conflict", message, setting="texts", other="texts")


@dataclass(frozen=True)
class Text:
    """A text in its folder, with its tokenizer."""

    folder: Path
    vocab_size: int
    prompts: list[str]
    figures: TextFigures


def prepare(path: str, output_dir: Path) -> Text:
    """Write a text's corpus and tokenizer, where they are not yet there."""
    folder = output_dir / folder_name(path)
    known = folder / "text.json"
    if not known.is_file():
        summary = write_corpus(find_files([path], folder), RUNNING, MOST_BYTES, folder / "corpus")
        vocab_size = choose_vocab_size(summary.size, summary.characters)
        figures = dataclasses.asdict(measure_text(summary, vocab_size))
        with atomic_write(known) as temporary:
            values = {"vocab_size": vocab_size, "prompts": prompts(summary), "figures": figures}
            temporary.write_text(json.dumps(values), encoding="utf-8")
    values = read_json(known)
    return Text(folder, values["vocab_size"], values["prompts"], TextFigures(**values["figures"]))


@dataclass(frozen=True)
class Trial:
    """One run: a model on a number of tokens of a text."""

    text: Text
    shape: Shape
    tokens: float

    @property
    def cost(self) -> float:
        """Floating-point operations."""
        return self.tokens * self.shape.flops_per_token

    @property
    def folder(self) -> Path:
        """Where the run is."""
        name = f"{self.shape.hidden_size}x{self.shape.num_hidden_layers}-{self.tokens / 1e6:g}M"
        return self.text.folder / name

    def plan(self) -> Plan:
        """The settings that `scratch-gpt new` would give it."""
        figures = self.text.figures
        choice = Choice(self.shape, self.tokens, self.tokens / figures.train_tokens, 60.0, 0.0)
        plan = make_plan(
            choice,
            figures,
            inputs={},
            sample_prompts=self.text.prompts,
            times=TimeTable(60.0, {"pretrain": 0.0}, {}),
        )
        steps = plan.max_steps
        return dataclasses.replace(plan, max_minutes=None, eval_steps=steps, save_steps=max(1, steps // 4))

    def run(self) -> None:
        """Train it, or what is left of it.

        Raises:
            SystemExit: a stage failed.
        """
        names = {"corpus": "corpus", "tokenizer": "tokenizer", "shards": self.shards}
        shared = {name: self.text.folder / folder for name, folder in names.items()}
        steps = write_configs(self.plan(), self.folder, shared)
        if status := run_steps(steps, self.folder, console, "the same command"):
            raise SystemExit(status)

    @property
    def shards(self) -> str:
        """The folder of its shards in the text's: models with the same context share them."""
        return f"shards-{self.shape.context}"

    def seconds_per_operation(self) -> float:
        """What its training steps took, once it has ended."""
        rows = RunLog(self.folder / "base" / "log.jsonl").rows()
        return next(row["elapsed_seconds"] for row in reversed(rows) if "elapsed_seconds" in row) / self.cost

    def result(self) -> dict[str, Any] | None:
        """What it came to; None if it has not ended."""
        base = self.folder / "base"
        if not (base / "run.yaml").is_file():
            return None
        rows = RunLog(base / "log.jsonl").rows()
        measured = next(row["eval_bits_per_byte"] for row in reversed(rows) if "eval_bits_per_byte" in row)
        tokens = next(row["tokens"] for row in reversed(rows) if "tokens" in row)
        manifest = read_json(self.text.folder / self.shards / "train" / "manifest.json")
        block_bytes = manifest["bytes"] / manifest["blocks"] / manifest["sequence_length"]
        point = Point(
            self.shape.inner, manifest["bytes"], tokens * block_bytes, self.text.figures.difficulty, measured
        )
        return {"text": self.text.folder.name, "model": self.folder.name, **point._asdict()}


def trials(texts: list[Text]) -> Iterator[Trial]:
    """All runs, the cheapest first."""
    every = [
        Trial(text, Shape(*shape, text.vocab_size), tokens)
        for shape in SHAPES
        for tokens in TOKENS
        for text in texts
        if tokens <= MOST_PASSES * text.figures.train_tokens
    ]
    yield from sorted(every, key=lambda trial: trial.cost)


def examples(first: Text, results: list[tuple[Trial, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Samples of the models of one text, one for each step of quality."""
    found: dict[int, dict[str, Any]] = {}
    for trial, result in results:
        rows = RunLog(trial.folder / "base" / "samples.jsonl").rows()
        share = result["bits_per_byte"] / result["difficulty"]
        if trial.text is first and rows:
            text = " / ".join(line for line in str(rows[-1]["text"]).splitlines() if line.strip())
            found[round(share / EXAMPLE_STEP)] = {"share": round(share, 3), "text": text[:300]}
    return [found[key] for key in sorted(found, reverse=True)]


def write_fit(first: Text, results: list[tuple[Trial, dict[str, Any]]], command: str, output: Path) -> None:
    """Fit the constants to the runs, write them, and show how near they come."""
    runs = [result for _, result in results]
    points = [Point(**{name: run[name] for name in Point._fields}) for run in runs]
    law, error = fit(points)
    content = {
        "command": command,
        "law": dataclasses.asdict(law),
        "error": round(error, 4),
        "examples": examples(first, results) or stored()["examples"],
        "runs": runs,
    }
    with atomic_write(output) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    table = Table("text", "model", "measured", "by the law", title=f"{law}, mean error {error:.1%}")
    for run, point in zip(runs, points):
        table.add_row(
            run["text"], run["model"], f"{point.bits_per_byte:.3f}", f"{law.bits_per_byte(point):.3f}"
        )
    console.print(table)


def main(arguments: ScalingFitArguments) -> None:
    """Run what is not yet run and fits into the time, then fit."""
    started, output_dir = time.monotonic(), Path(arguments.output_dir)
    output = Path(arguments.output or output_dir / "scaling_fit.json")
    names = [Path(path).name for path in arguments.texts]
    command = shlex.join(["python", "eval/engineering/scaling_fit.py", "--texts", *names])
    texts = [prepare(path, output_dir) for path in arguments.texts]
    results: list[tuple[Trial, dict[str, Any]]] = []
    seconds_per_operation = 0.0
    for trial in trials(texts):
        left = 60 * arguments.minutes - (time.monotonic() - started)
        if trial.result() is None and STARTING_SECONDS + trial.cost * seconds_per_operation < left:
            console.print(
                f"{trial.folder}: {trial.cost:.2g} operations, {left / 60:.0f} minutes left", markup=False
            )
            trial.run()
        if (result := trial.result()) is not None:
            results.append((trial, result))
            seconds_per_operation = trial.seconds_per_operation()
    if len(results) < LEAST_RUNS:
        message = f"{len(results)} runs are too few for a fit, {LEAST_RUNS} are needed: raise minutes"
        raise UserError("too_few_runs", message, runs=len(results))
    write_fit(texts[0], results, command, output)
    console.print(f"wrote {output}")


if __name__ == "__main__":
    run_stage(main, ScalingFitArguments)
