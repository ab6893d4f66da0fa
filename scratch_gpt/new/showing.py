# SPDX-License-Identifier: Apache-2.0
"""What `scratch-gpt new` shows: the text as it was read, the plan beside those for other times, the results."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from scratch_gpt.launching import shell_line
from scratch_gpt.new.arguments import NewArguments
from scratch_gpt.new.configs import MODELS, ROWS, rows_source
from scratch_gpt.new.forecast import example_of
from scratch_gpt.new.planning import Choice, Plan, TextFigures
from scratch_gpt.new.text import TextSummary
from scratch_gpt.pipeline import command_prefix, duration
from scratch_gpt.runs.log import RunLog


PREVIEW_LINES, PREVIEW_CHARACTERS = 3, 110
SHOWN = 5  # files that could not be read, and notes
LEFT_OUT = {
    "duplicate": "that came before",
    "over_the_time": "of more text than the time allows to read",
    "max_repeated_lines": "that mostly repeat their own lines",
    "max_repeated_ngrams": "that mostly repeat their own words",
}
ANSWER_TOKENS = 48


def show_text(summary: TextSummary, console: Console) -> None:
    """What was found, what was left out and why, and three documents as they are read."""

    def line(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    scripts = ", ".join(f"{script} {share:.0%}" for script, share in summary.scripts().items())
    line(
        f"text: {summary.size:,} bytes in {summary.files:,} file{'s' * (summary.files != 1)}, read as {summary.documents:,} documents"
        f"{f'; letters: {scripts}' * bool(scripts)}"
    )
    line(f"held out to measure on: {summary.held_out:,} bytes, evenly spread")
    for rule, count in summary.left_out.items():
        line(f"left out: {count:,} documents {LEFT_OUT.get(rule, rule)}")
    for name, reason in list(summary.unread.items())[:SHOWN]:
        line(f"not read: {name}: {reason}")
    if len(summary.unread) > SHOWN:
        line(f"not read: {len(summary.unread) - SHOWN:,} more files")
    for note in summary.notes[:SHOWN]:
        line(note)
    if len(summary.notes) > SHOWN:
        line(f"and {len(summary.notes) - SHOWN:,} more such notes")
    names = ("first", "second", "last")
    for name, text in zip(names, summary.previews):
        line(f"the {name} document ({len(text):,} characters) begins:")
        rows = [row for row in text.splitlines() if row.strip()]
        for row in rows[:PREVIEW_LINES]:
            line(f"    {row[:PREVIEW_CHARACTERS]}{'...' * (len(row) > PREVIEW_CHARACTERS)}")
    line("(documents cut at the wrong places? --documents line, block or file)")


def show_choice(choices: Mapping[float, Choice], minutes: float, text: TextFigures, console: Console) -> None:
    """A table of what half, all and double the time are worth, and how such models write.

    Args:
        choices: by the factor on the minutes.
    """
    table = Table(title="what the time is worth (expected)", title_justify="left")
    for name in ("minutes", "parameters", "tokens", "passes", "bits per byte"):
        table.add_column(name, justify="right")
    for factor, choice in sorted(choices.items()):
        cells = [
            f"{factor * minutes:g}",
            _millions(choice.shape.size),
            _millions(choice.tokens),
            f"{choice.passes:.2g}",
            f"{choice.bits_per_byte:.2f}",
        ]
        table.add_row(*cells, style="bold" if factor == 1 else None)
    console.print()
    console.print(table)
    console.print(
        f"an 8-gram model of bytes needs {text.difficulty:.2f} bits per byte; {text.bytes_per_token:.2f} bytes a token",
        soft_wrap=True,
    )
    shown = ""
    for factor, choice in sorted(choices.items()):
        example = example_of(choice.bits_per_byte, text.difficulty)
        if example != shown:
            label = f"{factor * minutes:g} minutes, as such a model writes (of another text):"
            console.print(f"{label}\n    {example}", markup=False, soft_wrap=True)
        shown = example


def _millions(number: float) -> str:
    """Three digits or more, never with an exponent."""
    millions = number / 1e6
    return f"{millions:,.{0 if millions >= 100 else 1 if millions >= 10 else 2}f} M"


def show_plan(plan: Plan, console: Console) -> None:
    """The plan in some lines: the model, the run, the time of each stage."""
    shape = plan.model_config
    tokens = plan.per_device_train_batch_size * plan.gradient_accumulation_steps * plan.context
    stages = ", ".join(f"{stage} {duration(seconds)}" for stage, seconds in plan.seconds.items())
    console.print(
        f"plan: {plan.parameters:,} parameters ({shape['num_hidden_layers']} layers of {shape['hidden_size']}), context "
        f"{plan.context}, vocabulary {plan.vocab_size:,}; {plan.max_steps:,} steps of {tokens:,} tokens, {plan.passes:.2g} "
        f"passes, learning rate {plan.learning_rate:g}, weight decay {plan.weight_decay:g}; expected {plan.bits_per_byte:.2f} "
        f"bits per byte\ntime: {stages}",
        markup=False,
        soft_wrap=True,
    )


def show_result(plan: Plan, run_dir: Path, console: Console) -> None:
    """Bits per byte expected and measured, samples, the report."""
    from scratch_gpt.report import write_report  # drawing takes seconds to load

    rows = RunLog(run_dir / "base" / "log.jsonl").rows()
    measured = [row["eval_bits_per_byte"] for row in rows if "eval_bits_per_byte" in row]
    if measured:
        console.print(
            f"\nheld-out text: {measured[-1]:.3f} bits per byte (expected {plan.bits_per_byte:.3f})"
        )
    samples = RunLog(run_dir / "base" / "samples.jsonl").rows()
    console.print("\n[bold]the base model continues beginnings that it has not read[/bold]")
    for row in samples[-len(plan.sample_prompts) :]:
        console.print(f"    {row['text']}", markup=False, soft_wrap=True)
    if plan.tuning:
        _show_answers(plan, run_dir, console)
    page, *_ = write_report(run_dir)
    console.print(f"\nreport  {page}", soft_wrap=True)


def opening_question(row: Mapping[str, Any]) -> str:
    """What the user asks first, after the system prompt, if there is one."""
    return next(str(message["content"]) for message in row["messages"] if message["role"] == "user")


def _show_answers(plan: Plan, run_dir: Path, console: Console) -> None:
    """The same held-out questions before and after tuning."""
    from transformers.utils import logging

    from scratch_gpt.data.rows.conversations import instruction_rows, split_rows
    from scratch_gpt.data.sources.bad_rows import BadRows
    from scratch_gpt.data.sources.source import CORPUS_SETTINGS, parse_sources
    from scratch_gpt.inference.generation import generate_answers
    from scratch_gpt.inference.loading import load_model
    from scratch_gpt.inference.turns import is_chat
    from scratch_gpt.runs.folders import read_yaml

    logging.disable_progress_bar()
    sources = parse_sources([rows_source(ROWS["sft"], plan.inputs[ROWS["sft"]])], CORPUS_SETTINGS)
    settings = read_yaml(run_dir / "chat" / "run.yaml")
    rows = instruction_rows(sources, "train", BadRows(), 0)
    held_out = split_rows(rows, settings["held_out_fraction"], settings["seed"])[1]
    shown = sorted(map(opening_question, held_out), key=len)[:3]
    names = ["base", *(MODELS[stage] for stage in plan.tuning)]
    answers = {}
    for name in names:
        model, tokenizer = load_model(run_dir / name)
        answers[name] = generate_answers(
            model, tokenizer, shown, chat=is_chat(tokenizer), max_new_tokens=ANSWER_TOKENS
        )
    console.print("\n[bold]questions that were held out, before and after tuning[/bold]")
    for number, question in enumerate(shown):
        console.print(f"  {question}", markup=False, soft_wrap=True)
        for name in names:
            text = " / ".join(filter(str.strip, answers[name][number].text.splitlines()))
            console.print(f"    {name}: {text}", markup=False, soft_wrap=True)


def show_next(arguments: NewArguments, plan: Plan, run_dir: Path, console: Console) -> None:
    """Commands to continue with; more minutes only where they would teach more."""
    model = (run_dir / (MODELS[list(plan.tuning)[-1]] if plan.tuning else "base")).as_posix()
    program = command_prefix("scratch-gpt")
    publish = ["publish", model, "--dry_run"]
    publish += ["--language", arguments.language] if arguments.language else []
    commands = [
        shell_line([program, "chat", model, *(() if plan.tuning else ("--complete",))]),
        *([arguments.command(minutes=4 * arguments.minutes)] if plan.max_minutes else []),
        shell_line([program, *publish]),
    ]
    console.print("\n[bold]next[/bold]")
    for command in commands:
        console.print(f"[bold]$ {escape(command)}[/bold]", soft_wrap=True)
    if not plan.tuning:
        chat = (run_dir / MODELS["sft"]).as_posix()
        tune = ["sft", "--model_name_or_path", model, "--output_dir", chat]
        tune += ["--sources", "[{name: mine, path: rows.csv}]"]
        console.print("to make it answer questions, with rows of questions and answers (.csv, .jsonl):")
        console.print(f"[bold]$ {escape(shell_line([program, *tune]))}[/bold]", soft_wrap=True)
