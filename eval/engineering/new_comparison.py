# SPDX-License-Identifier: Apache-2.0
"""`scratch-gpt new` against configs that one would write by hand, in the same time, on the same held-out text.

    python eval/engineering/new_comparison.py --texts book.txt russian.jsonl --minutes 5

Each text is trained on by `scratch-gpt new`, and then by each of the `RECIPES` for as long: the whole time, less what
its own tokenizer and shards took. The same command resumes. Writes comparison.json into `output_dir`.
"""

import scratch_gpt.native_libraries  # noqa: F401  # before torch

import dataclasses
import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table
from scaling_fit import check_folder_names, folder_name

from scratch_gpt.new.configs import write_configs
from scratch_gpt.new.planning import LEAST_STEPS, LOADING_SECONDS, Plan, read_plan
from scratch_gpt.new.shapes import Shape
from scratch_gpt.new.speed import seconds_per_step
from scratch_gpt.new.text import CORPUS_FOLDER, PLAN
from scratch_gpt.pipeline import run_steps
from scratch_gpt.runs.folders import atomic_write, read_json
from scratch_gpt.runs.log import RunLog, console
from scratch_gpt.settings.checking import Positive, check_values
from scratch_gpt.settings.parsing import run_stage
from scratch_gpt.training.planning.scaling import short_warmup


@dataclass(frozen=True)
class Recipe:
    """A config that a user who knows the field would try; the optimizer and the schedule are those of the rest.

    Args:
        context: tokens of a block.
        blocks: of a step.
    """

    name: str
    hidden_size: int
    num_hidden_layers: int
    vocab_size: int
    context: int
    blocks: int
    learning_rate: float
    weight_decay: float

    def plan(self, planned: Plan, seconds: float) -> Plan:
        """Its settings, with everything else as planned by `new`.

        Args:
            seconds: of training steps.
        """
        shape = Shape(self.hidden_size, self.num_hidden_layers, self.vocab_size)
        step = seconds_per_step(shape, self.blocks * self.context // shape.context, 1, False, 2.0)
        max_steps = max(LEAST_STEPS, int(seconds / step))
        return dataclasses.replace(
            planned,
            vocab_size=self.vocab_size,
            parameters=shape.size,
            model_config=shape.model_config() | {"max_position_embeddings": self.context},
            per_device_train_batch_size=self.blocks,
            gradient_accumulation_steps=1,
            max_steps=max_steps,
            max_minutes=round(seconds / 60, 2),
            learning_rate=self.learning_rate,
            warmup_steps=short_warmup(shape.size, self.blocks * self.context, max_steps),
            weight_decay=self.weight_decay,
            eval_steps=max_steps * 2,  # at the end only
            save_steps=max_steps * 2,
            tuning={},
        )


# The first three have the shapes and rates of train/configs/demo, shakespeare (minutes) and real; then nanoGPT's shape for
# a GPU, and a small one that reads the most text.
RECIPES = (
    Recipe("demo", 192, 4, 2048, 128, 8, 3e-3, 0.1),
    Recipe("shakespeare", 256, 4, 1024, 128, 16, 1e-2, 0.5),
    Recipe("real", 192, 5, 4096, 512, 8, 1e-2, 0.1),
    Recipe("large", 384, 6, 4096, 256, 16, 5e-3, 0.1),
    Recipe("tiny", 128, 2, 1024, 128, 16, 1e-2, 0.1),
)


@dataclass
class NewComparisonArguments:
    """Settings of `eval/engineering/new_comparison.py`."""

    texts: list[str] = field(metadata={"help": "Files of text, each one comparison."})
    minutes: Positive = field(default=5.0, metadata={"help": "For each run."})
    output_dir: str = field(default="runs/new_comparison", metadata={"help": "Holds the runs."})

    def __post_init__(self) -> None:
        check_values(self)
        check_folder_names(self.texts)


def result(run: Path) -> dict[str, Any]:
    """What a run came to."""
    rows = RunLog(run / "base" / "log.jsonl").rows()
    last = {key: value for row in rows for key, value in row.items()}
    return {"bits_per_byte": last["eval_bits_per_byte"], "tokens": last["tokens"], "steps": last["step"]}


def run_by_new(text: str, minutes: float, folder: Path) -> dict[str, Any]:
    """The command a user would type; its seconds are those of the call that ended it.

    Raises:
        SystemExit: it failed.
    """
    command = [sys.executable, "-m", "scratch_gpt", "new", text, "--minutes", f"{minutes:g}", "--yes"]
    started, taken = time.monotonic(), folder / "seconds.json"
    if not taken.is_file():
        if status := subprocess.run([*command, "--output_dir", str(folder)]).returncode:
            raise SystemExit(status)
        with atomic_write(taken) as temporary:
            temporary.write_text(json.dumps(time.monotonic() - started), encoding="utf-8")
    plan = read_plan(folder / PLAN)
    expected = {"parameters": plan.parameters, "expected": plan.bits_per_byte}
    return result(folder) | expected | {"seconds": read_json(taken)}


def run_by_hand(recipe: Recipe, minutes: float, folder: Path, corpus: Path) -> dict[str, Any]:
    """Tokenizer and shards of its own, then training for the rest of the time.

    Raises:
        SystemExit: a stage failed.
    """
    planned, plan_file = read_plan(corpus.parent / PLAN), folder / PLAN
    elsewhere = {CORPUS_FOLDER: corpus}
    if not plan_file.is_file():
        started = time.monotonic()
        before = write_configs(recipe.plan(planned, 60.0), folder / "before", elsewhere)[:2]
        if status := run_steps(before, folder / "before", console, "the same command"):
            raise SystemExit(status)
        taken = time.monotonic() - started + LOADING_SECONDS
        recipe.plan(planned, 60 * minutes - taken).write(plan_file)
    elsewhere |= {name: folder / "before" / name for name in ("tokenizer", "shards")}
    plan = read_plan(plan_file)
    if status := run_steps(write_configs(plan, folder, elsewhere), folder, console, "the same command"):
        raise SystemExit(status)
    return result(folder) | {"parameters": plan.parameters}


def main(arguments: NewComparisonArguments) -> None:
    """Run what is not yet run, print and write."""
    output_dir = Path(arguments.output_dir)
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for text in arguments.texts:
        folder = output_dir / f"{folder_name(text)}-{arguments.minutes:g}"
        runs = {"new": run_by_new(text, arguments.minutes, folder / "new")}
        for recipe in RECIPES:
            place = folder / recipe.name
            place.mkdir(parents=True, exist_ok=True)
            runs[recipe.name] = run_by_hand(recipe, arguments.minutes, place, folder / "new" / CORPUS_FOLDER)
        found[text] = runs
        best = min(run["bits_per_byte"] for name, run in runs.items() if name != "new")
        table = Table("config", "parameters", "tokens", "bits per byte", "/ best by hand", title=text)
        for name, run in runs.items():
            figures = (f"{run['parameters'] / 1e6:.2f} M", f"{run['tokens'] / 1e6:.2f} M")
            table.add_row(name, *figures, f"{run['bits_per_byte']:.3f}", f"{run['bits_per_byte'] / best:.3f}")
        console.print(table)
        new = runs["new"]
        error = new["expected"] / new["bits_per_byte"] - 1
        console.print(
            f"expected {new['expected']:.3f} ({error:+.1%}), {new['seconds'] / 60:.1f} minutes in all"
        )
    with atomic_write(output_dir / "comparison.json") as temporary:
        temporary.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_stage(main, NewComparisonArguments)
