# SPDX-License-Identifier: Apache-2.0
"""`scratch-gpt new`: decide, write the configs, run the stages, show the results; the same command resumes."""

import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from scratch_gpt.errors import UserError
from scratch_gpt.new import showing
from scratch_gpt.new.arguments import NewArguments
from scratch_gpt.new.configs import write_configs
from scratch_gpt.new.decision import decide, seconds_so_far
from scratch_gpt.new.planning import Plan, read_plan
from scratch_gpt.new.text import CORPUS_FOLDER, PLAN, find_files, is_corpus
from scratch_gpt.pipeline import duration, run_steps


CONFIGS = "configs"


def run_new(arguments: NewArguments) -> int:
    """Do all of it, or what is left of an interrupted call; return the exit code.

    Raises:
        UserError: see `decide`; a folder that holds something else.
    """
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    folder = arguments.output_dir
    plan = _earlier_plan(arguments)
    if plan is not None:
        console.print(f"resuming {folder / PLAN}", soft_wrap=True)
        for text in _changed_texts(arguments):
            console.print(
                f"note: {text} is newer than {PLAN}, and the text as it was then is used",
                markup=False,
                soft_wrap=True,
            )
        showing.show_plan(plan, console)
    else:
        try:
            plan = decide(arguments, folder / CORPUS_FOLDER, console)
        except UserError:
            _remove_corpus(folder)
            raise
    if arguments.dry_run or not (arguments.yes or _agreed()):
        if not (folder / PLAN).is_file():
            _remove_corpus(folder)
        console.print("\nnothing was trained")
        return 0
    if not (folder / PLAN).is_file():
        plan.write(folder / PLAN)
    steps = write_configs(plan, folder)
    console.print(f"\nconfigs in {folder / CONFIGS}, each step by itself:", soft_wrap=True)
    exit_code = run_steps(steps, folder, console, arguments.command())
    if exit_code == 0:
        showing.show_result(plan, folder, console)
        showing.show_next(arguments, plan, folder, console)
        console.print(f"time {duration(seconds_so_far())} (this call)")
    return exit_code


def _remove_corpus(folder: Path) -> None:
    """Leave nothing behind where nothing was trained."""
    if is_corpus(folder / CORPUS_FOLDER):
        shutil.rmtree(folder / CORPUS_FOLDER)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _changed_texts(arguments: NewArguments) -> list[str]:
    """The texts that were edited after the plan was made."""
    planned = (arguments.output_dir / PLAN).stat().st_mtime
    changed = []
    for text in arguments.texts:
        with suppress(UserError):  # gone by now: the corpus is still there
            if any(file.stat().st_mtime > planned for file in find_files([text], arguments.output_dir)):
                changed.append(text)
    return changed


def _agreed() -> bool:
    """Whether the user agrees; a program that calls is not asked."""
    if not sys.stdin.isatty():
        return True
    return input("\nTrain this now? [Y/n] ").strip().lower() in ("", "y", "yes")


def _earlier_plan(arguments: NewArguments) -> Plan | None:
    """The plan of an interrupted or finished call of the same command.

    Raises:
        UserError: the folder holds something else.
    """
    folder = arguments.output_dir
    if folder.is_file():
        raise UserError("output_is_file", f"--output_dir {folder} is a file: name a folder", path=folder)
    if not folder.is_dir():
        return None
    if (folder / PLAN).is_file():
        plan, wanted = read_plan(folder / PLAN), arguments.inputs()
        changed = [name for name in wanted if wanted[name] != plan.inputs.get(name)]
        if changed:
            values = ", ".join(f"{name} was {plan.inputs.get(name)}" for name in changed)
            message = f"{folder} holds a run of another command ({values}): name a new --output_dir"
            raise UserError("settings_changed", message, settings=changed)
        return plan
    for entry in folder.iterdir():
        is_own = entry.name in (CORPUS_FOLDER, f"{CORPUS_FOLDER}.tmp") and is_corpus(entry)
        if not is_own and entry.name != f"{PLAN}.tmp":
            message = f"--output_dir {folder} holds {entry.name}, which this command did not make: name a new folder"
            raise UserError("output_occupied", message, folder=folder, file=entry.name)
    return None
