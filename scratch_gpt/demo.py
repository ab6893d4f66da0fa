# SPDX-License-Identifier: Apache-2.0
"""The pipeline on the embedded corpus: every stage by the command line that is printed, then the results.

A stage that is complete is skipped, and a stage that was interrupted resumes by its own YAML, so the same command
resumes the demo.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from scratch_gpt.errors import UserError
from scratch_gpt.evaluation.compare import BENCHMARKS, Comparison, compare
from scratch_gpt.launching import shell_line
from scratch_gpt.pipeline import Step, command_prefix, duration, run_steps
from scratch_gpt.runs.folders import atomic_write, read_yaml
from scratch_gpt.runs.results import invitation, read_results, things_to_ask


DEFAULT_FOLDER = Path("runs/demo")

# The models that the benchmarks compare, in the order of the pipeline.
MODELS = ("base", "chat", "aligned")

# Questions whose answers are in the pretraining text and in no fine-tuning data, for a reader to judge by eye.
FIRST_QUESTION = "What is the capital of France?"
# One held-out question of each of these benchmarks follows.
SAMPLED_BENCHMARKS = ("facts", "translation", "reading", "sums")
SAMPLE_TOKENS = 64  # a counted sum is the longest answer


class Sample(TypedDict):
    """A question and what each model says."""

    prompt: str
    answers: dict[str, str]


def _stage(name: str, output: str, **inputs: str) -> Step:
    """A training stage: `output` holds run.yaml, written last, when it is complete."""
    folders = {key: (folder,) for key, folder in {**inputs, "output_dir": output}.items()}
    products = (f"{output}/run.yaml",)
    return Step(f"train/{name}.py", f"train/configs/demo/{name}.yaml", products, folders, DEFAULT_FOLDER)


def _benchmark(name: str, **inputs: str) -> Step:
    folders = {"model": MODELS, **{key: (folder,) for key, folder in inputs.items()}}
    products = tuple(f"{model}/results/{name}.json" for model in MODELS)
    return Step(f"eval/{name}.py", f"eval/configs/{name}.yaml", products, folders, DEFAULT_FOLDER)


STEPS = (
    _stage("tokenizer", "tokenizer"),
    _stage("shards", "shards", tokenizer="tokenizer"),
    _stage("pretrain", "base", tokenizer="tokenizer", shards="shards"),
    _stage("sft", "chat", model_name_or_path="base", replay_shards="shards/train"),
    _stage("reward", "reward", model_name_or_path="chat"),
    _stage("rlhf", "aligned", model_name_or_path="chat", reward_model="reward"),
    _benchmark("qa"),
    _benchmark("translation"),
    _benchmark("generation", shards="shards/validation"),
)
# Quick, and the results it reads may be newer than the card: always run.
CARD = Step("eval/publish.py", "eval/configs/publish.yaml", (), {"model": ("aligned",)}, DEFAULT_FOLDER)


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
    """Run the pipeline into `run_dir`, every stage with the same seed, then show the scores, samples, picture and card; return the exit code.

    Raises:
        UserError: the folder holds a run of another seed.
    """
    files = [run_dir / product for step in STEPS for product in step.products if product.endswith("run.yaml")]
    if others := {read_yaml(file).get("seed", seed) for file in files} - {seed}:
        message = f"{run_dir} holds a run of seed {others.pop()}: name another --output_dir for seed {seed}"
        raise UserError("another_seed", message, folder=run_dir, seed=seed)
    started = time.monotonic()
    # A pipe or a log has no width: lines may be as long as the table.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    # The tokenizer's threads and the forks of data loaders do not go together; without this every stage warns of it.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    where = [] if run_dir == DEFAULT_FOLDER else ["--output_dir", run_dir.as_posix()]
    where += ["--seed", str(seed)] if seed else []
    again = shell_line([command_prefix("scratch-gpt"), "demo", *where])
    exit_code = run_steps(STEPS, run_dir, console, again, seed=seed)
    if exit_code != 0:
        return exit_code
    # Imported late: drawing and models take seconds that the first command line should not wait for.
    from scratch_gpt.report import write_report

    samples = sample_answers(run_dir)
    page, picture, _ = write_report(run_dir)
    shutil.copyfile(picture, run_dir / "aligned" / picture.name)
    exit_code = run_steps([CARD], run_dir, console, again)
    if exit_code != 0:
        return exit_code
    console.print()
    results = {model: read_results(run_dir / model) for model in MODELS}
    console.print(scores_table(compare(results)))
    if verdict := results["aligned"]["rlhf"]["settings"].get("verdict"):  # earlier versions wrote none
        console.print(f"\n[bold]Alignment[/bold]: {escape(verdict)}")
    _print_samples(samples, console)
    console.print(
        f"\nreport   {escape(str(page))}\npicture  {escape(str(picture))}\ncard     {escape(str(run_dir / 'aligned' / 'README.md'))}",
        soft_wrap=True,
    )
    console.print(
        f"time     {duration(time.monotonic() - started)} (this call)\n\nNow talk to it:", soft_wrap=True
    )
    chat = shell_line([command_prefix("scratch-gpt"), "chat", (run_dir / "aligned").as_posix()])
    console.print(f"[bold]$ {escape(chat)}[/bold]", soft_wrap=True)
    console.print(escape(invitation(things_to_ask(run_dir / "aligned"))), soft_wrap=True)
    return 0
