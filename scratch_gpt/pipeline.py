# SPDX-License-Identifier: Apache-2.0
"""The steps of a pipeline, one after the other: each by the command line that is printed, and none twice."""

import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from scratch_gpt.launching import launch_preloaded, shell_line
from scratch_gpt.settings.parsing import scripts_folder


@dataclass(frozen=True)
class Step:
    """One command of a pipeline.

    Args:
        script: file below the scripts folder.
        config: its YAML, a path or below the scripts folder.
        products: files that exist when the step is complete, relative to the run's folder; none: it always runs.
        folders: the arguments that name folders, and these folders relative to the run's; the YAML names the others.
        home: the run's folder in the YAML, where the arguments need not repeat its folders.
    """

    script: str
    config: str
    products: tuple[str, ...]
    folders: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    home: Path | None = None

    @property
    def name(self) -> str:
        """The stage or benchmark."""
        return Path(self.script).stem

    def arguments(self, run_dir: Path, seed: int = 0) -> list[str]:
        """The command line after the script's name; what the YAML says right is not repeated."""
        arguments = ["--config", shown_path(scripts_folder() / self.config)]
        for key, names in self.folders.items():
            if run_dir != self.home or key == "model":
                arguments += [f"--{key}", *((run_dir / name).as_posix() for name in names)]
        if seed and self.products:  # the card has nothing random
            arguments += ["--seed", str(seed)]
        return arguments

    def is_complete(self, run_dir: Path) -> bool:
        """Whether a second call has nothing to do."""
        return all((run_dir / product).is_file() for product in self.products)


def shown_path(path: Path) -> str:
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
    return shown_path(folder / program)


def duration(seconds: float) -> str:
    """For example "14 min 36 s"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def run_steps(
    steps: Sequence[Step],
    run_dir: Path,
    console: Console,
    again: str,
    start: Callable[[str, list[str]], int] = launch_preloaded,
    seed: int = 0,
) -> int:
    """Run the steps in order, each announced by its command line; stop at the first that fails.

    What is complete is not run again, up to the first step that is run: what comes after it may have been made of something
    else, and the step itself knows.

    Args:
        again: the command line that resumes the pipeline.

    Returns:
        The exit code: 0, or that of the failing step.
    """
    launcher = command_prefix("accelerate")
    as_before = True
    for step in steps:
        arguments = step.arguments(run_dir, seed)
        script = shown_path(scripts_folder() / step.script)
        command = shell_line([launcher, "launch", script, *arguments])
        if step.products and as_before and step.is_complete(run_dir):
            console.print(
                f"[dim]{step.name}: complete already ({escape(step.products[0])})[/dim]", soft_wrap=True
            )
            continue
        as_before = False
        console.print(f"\n[bold]$ {escape(command)}[/bold]", soft_wrap=True)
        started = time.monotonic()
        exit_code = start(step.script, arguments)
        if exit_code != 0:
            console.print(
                f"\n{step.name} stopped with exit code {exit_code}. This step alone: {escape(command)}\n"
                f"To resume from here: {escape(again)}",
                soft_wrap=True,
            )
            return exit_code
        console.print(f"[dim]{step.name}: {time.monotonic() - started:.0f} s[/dim]")
    return 0
