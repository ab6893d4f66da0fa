# SPDX-License-Identifier: Apache-2.0
"""The whole road on the embedded corpus: every stage by the command line that is printed, then what came of it.

A stage that is complete is skipped, and a stage that was interrupted resumes by its own YAML, so the same command
goes on where it stopped.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from scratch_gpt.evaluation.compare import BENCHMARKS, Comparison, compare
from scratch_gpt.launching import launch_preloaded, shell_line
from scratch_gpt.runs.folders import atomic_write
from scratch_gpt.runs.results import read_results, things_to_ask
from scratch_gpt.settings.parsing import scripts_folder


DEFAULT_FOLDER = Path("runs/demo")

# The models that the benchmarks compare, in the order of the road.
MODELS = ("base", "chat", "aligned")

# Questions whose answers stand in the pretraining text and in no fine-tuning data, for a reader to judge by eye.
FIRST_QUESTION = "What is the capital of France?"
# One held-out question of each of these benchmarks follows.
SAMPLED_BENCHMARKS = ("facts", "translation", "reading", "sums")
SAMPLE_TOKENS = 40


class Sample(TypedDict):
    """A question and what each model says."""

    prompt: str
    answers: dict[str, str]


@dataclass(frozen=True)
class Step:
    """One command of the demo.

    Args:
        script: file below the scripts folder.
        config: its YAML, below the scripts folder; a stage's names folders below runs/demo.
        folders: the arguments that name folders, and these folders relative to the demo's.
        products: files that exist when the step is complete, relative to the demo's folder.
    """

    script: str
    config: str
    folders: Mapping[str, tuple[str, ...]]
    products: tuple[str, ...]

    @property
    def name(self) -> str:
        """The stage or benchmark."""
        return Path(self.script).stem

    def arguments(self, run_dir: Path, seed: int = 0) -> list[str]:
        """The command line after the script's name; what the YAML says right is not repeated."""
        arguments = ["--config", _shown(scripts_folder() / self.config)]
        for key, names in self.folders.items():
            if run_dir != DEFAULT_FOLDER or key == "model":
                arguments += [f"--{key}", *((run_dir / name).as_posix() for name in names)]
        if seed and self.products:  # the card has nothing random
            arguments += ["--seed", str(seed)]
        return arguments

    def is_complete(self, run_dir: Path) -> bool:
        """Whether a second call has nothing to do."""
        return all((run_dir / product).is_file() for product in self.products)


def _stage(name: str, output: str, **inputs: str) -> Step:
    """A training stage: `output` holds run.yaml, written last, when it is complete."""
    folders = {key: (folder,) for key, folder in {**inputs, "output_dir": output}.items()}
    return Step(f"train/{name}.py", f"train/configs/demo/{name}.yaml", folders, (f"{output}/run.yaml",))


def _benchmark(name: str, **inputs: str) -> Step:
    folders = {"model": MODELS, **{key: (folder,) for key, folder in inputs.items()}}
    products = tuple(f"{model}/results/{name}.json" for model in MODELS)
    return Step(f"eval/{name}.py", f"eval/configs/{name}.yaml", folders, products)


STEPS = (
    _stage("tokenizer", "tokenizer"),
    _stage("shards", "shards", tokenizer="tokenizer"),
    _stage("pretrain", "base", tokenizer="tokenizer", shards="shards"),
    _stage("sft", "chat", model_name_or_path="base"),
    _stage("reward", "reward", model_name_or_path="chat"),
    _stage("rlhf", "aligned", model_name_or_path="chat", reward_model="reward"),
    _benchmark("qa"),
    _benchmark("translation"),
    _benchmark("generation", shards="shards/validation"),
)
# Quick, and the results it reads may be newer than the card: always run.
CARD = Step("eval/publish.py", "eval/configs/publish.yaml", {"model": ("aligned",)}, ())


def _shown(path: Path) -> str:
    """A path as a user would type it here."""
    try:
        return path.relative_to(Path.cwd()).as_posix()
    except ValueError:
        return str(path)


def command_prefix(program: str) -> str:
    """How to call a program of this environment: its name if the shell would find it, else its path."""
    folder = Path(sys.executable).parent
    found = shutil.which(program)
    if found is not None and Path(found).parent.resolve() == folder.resolve():
        return program
    return _shown(folder / program)


def run_steps(
    steps: Sequence[Step],
    run_dir: Path,
    console: Console,
    start: Callable[[str, list[str]], int] = launch_preloaded,
    seed: int = 0,
) -> int:
    """Run the steps in order, each announced by its command line; stop at the first that fails.

    Returns:
        The exit code: 0, or that of the failing step.
    """
    launcher = command_prefix("accelerate")
    for step in steps:
        arguments = step.arguments(run_dir, seed)
        script = _shown(scripts_folder() / step.script)
        command = shell_line([launcher, "launch", script, *arguments])
        if step.products and step.is_complete(run_dir):
            console.print(
                f"[dim]{step.name}: complete already ({escape(step.products[0])})[/dim]", soft_wrap=True
            )
            continue
        console.print(f"\n[bold]$ {escape(command)}[/bold]", soft_wrap=True)
        started = time.monotonic()
        exit_code = start(step.script, arguments)
        if exit_code != 0:
            where = [] if run_dir == DEFAULT_FOLDER else ["--output_dir", run_dir.as_posix()]
            again = shell_line([command_prefix("scratch-gpt"), "demo", *where])
            console.print(
                f"\n{step.name} stopped with exit code {exit_code}. This step alone: {escape(command)}\n"
                f"To go on from here: {escape(again)}",
                soft_wrap=True,
            )
            return exit_code
        console.print(f"[dim]{step.name}: {time.monotonic() - started:.0f} s[/dim]")
    return 0


def scores_table(scores: Sequence[Comparison]) -> Table:
    """Rows: measures of whole tasks; columns: the models and chance."""
    table = Table(title="Benchmarks, held-out test split (95% intervals)", title_justify="left")
    table.add_column("measure")
    for model in MODELS:
        table.add_column(model, justify="right")
    table.add_column("chance", justify="right")
    for benchmark in BENCHMARKS:
        for score in (score for score in scores if score.benchmark == benchmark and score.is_headline):
            cells = [_cell(score, model) for model in MODELS]
            table.add_row(score.title, *cells, "-" if score.chance is None else _digits(score.chance))
        table.add_section()
    return table


def _digits(value: float) -> str:
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _cell(score: Comparison, model: str) -> str:
    if model not in score.values:
        return "-"
    metric = score.values[model]
    low, high = metric["ci95"]
    return escape(f"{_digits(metric['value'])} [{_digits(low)}, {_digits(high)}]")


def sample_answers(run_dir: Path) -> list[Sample]:
    """The three models' greedy answers to the same held-out questions, also written beside the aligned model.

    A base model is given the question as text to continue; the others are asked in a chat.
    """
    from transformers.utils import logging

    from scratch_gpt import primer
    from scratch_gpt.inference.generation import generate_answers
    from scratch_gpt.inference.loading import load_model
    from scratch_gpt.inference.turns import is_chat
    from scratch_gpt.primer.tasks import TASKS
    from scratch_gpt.serving.terminal import printable

    logging.disable_progress_bar()
    texts = {FIRST_QUESTION: FIRST_QUESTION + "\n"}
    for name in SAMPLED_BENCHMARKS:
        example = primer.benchmark(name, "test")[0]
        texts[example.prompt] = TASKS[name].continuation(example)
    samples: list[Sample] = [{"prompt": prompt, "answers": {}} for prompt in texts]
    for name in MODELS:
        model, tokenizer = load_model(run_dir / name)
        chat = is_chat(tokenizer)
        prompts = list(texts) if chat else list(texts.values())
        answers = generate_answers(model, tokenizer, prompts, chat=chat, max_new_tokens=SAMPLE_TOKENS)
        for sample, answer in zip(samples, answers, strict=True):
            cut = "" if answer.finished else " ..."
            sample["answers"][name] = printable(" / ".join(filter(str.strip, answer.text.split("\n")))) + cut
    path = run_dir / "aligned" / "samples.json"
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(samples, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return samples


def _print_samples(samples: list[Sample], console: Console) -> None:
    console.print(
        "\n[bold]The same questions to the three models[/bold] (greedy; the base model only continues the text)"
    )
    for sample in samples:
        console.print(f"\n[bold]{escape(sample['prompt'])}[/bold]")
        for model, answer in sample["answers"].items():
            console.print(f"  {model:>8}: {escape(answer)}")


def run_demo(run_dir: Path, seed: int = 0) -> int:
    """Run the road into `run_dir`, every stage with the same seed, then show the scores, samples, picture and card; return the exit code."""
    started = time.monotonic()
    # A pipe or a log has no width: lines may be as long as the table.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    # The tokenizer's threads and the forks of data loaders do not go together; without this every stage warns of it.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    exit_code = run_steps(STEPS, run_dir, console, seed=seed)
    if exit_code != 0:
        return exit_code
    # Imported late: drawing and models take seconds that the first command line should not wait for.
    from scratch_gpt.report import write_report

    samples = sample_answers(run_dir)
    page, picture, _ = write_report(run_dir)
    shutil.copyfile(picture, run_dir / "aligned" / picture.name)
    exit_code = run_steps([CARD], run_dir, console)
    if exit_code != 0:
        return exit_code
    console.print()
    results = {model: read_results(run_dir / model) for model in MODELS}
    console.print(scores_table(compare(results)))
    console.print(f"\n[bold]Alignment[/bold]: {escape(results['aligned']['rlhf']['settings']['verdict'])}")
    _print_samples(samples, console)
    console.print(
        f"\nreport   {escape(str(page))}\npicture  {escape(str(picture))}\ncard     {escape(str(run_dir / 'aligned' / 'README.md'))}",
        soft_wrap=True,
    )
    minutes, seconds = divmod(round(time.monotonic() - started), 60)
    console.print(f"time     {minutes} min {seconds} s (this call)\n\nNow talk to it:", soft_wrap=True)
    chat = shell_line([command_prefix("scratch-gpt"), "chat", (run_dir / "aligned").as_posix()])
    console.print(f"[bold]$ {escape(chat)}[/bold]", soft_wrap=True)
    questions = " | ".join(things_to_ask(run_dir / "aligned"))
    console.print(f"Things to ask (answered right in the benchmarks): {escape(questions)}", soft_wrap=True)
    return 0
