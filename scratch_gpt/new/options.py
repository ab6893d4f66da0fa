# SPDX-License-Identifier: Apache-2.0
"""The command line of `scratch-gpt new`; heavy imports wait inside, so that help answers at once."""

from pathlib import Path
from typing import Annotated

import typer


def new(
    texts: Annotated[
        list[str],
        typer.Argument(metavar="TEXT ...", help="Files, folders or globs: text, .jsonl, .csv, .parquet."),
    ],
    minutes: Annotated[float, typer.Option("--minutes", help="The whole time that it may take.")] = 15,
    instructions: Annotated[
        str | None,
        typer.Option("--instructions", help="Rows of questions and answers: the model learns to answer."),
    ] = None,
    preferences: Annotated[
        str | None,
        typer.Option("--preferences", help="Rows of better and worse answers: the model is aligned."),
    ] = None,
    language: Annotated[
        str | None, typer.Option("--language", help="Language of the text for the model card, such as tr.")
    ] = None,
    output_dir: Annotated[
        str | None,
        typer.Option("--output_dir", help="Where all is written. Default: runs/NAME of the first text."),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option("--size", help="Parameters, such as 10m. Default: what the time is best spent on."),
    ] = None,
    documents: Annotated[
        str,
        typer.Option("--documents", help="How text files are divided: running (text), block, line or file."),
    ] = "running",
    dry_run: Annotated[
        bool, typer.Option("--dry_run", help="Look, measure and show the plan; train nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Train without asking.")] = False,
) -> None:
    """The best model that your text and your time make on this machine; run again to resume where it stopped."""

    from scratch_gpt.new.arguments import NewArguments, default_folder, parse_size
    from scratch_gpt.new.command import run_new

    arguments = NewArguments(
        texts,
        minutes,
        instructions,
        preferences,
        language,
        Path(output_dir) if output_dir else default_folder(texts),
        parse_size(size),
        documents,
        dry_run,
        yes,
    )
    raise typer.Exit(run_new(arguments))
