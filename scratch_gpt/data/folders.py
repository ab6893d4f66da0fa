# SPDX-License-Identifier: Apache-2.0
"""A stage's output folder appears under its name only when it is complete."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scratch_gpt.errors import UserError


@contextmanager
def written_whole(output_dir: str | Path, contents: tuple[str, ...]) -> Iterator[Path]:
    """Give a folder beside `output_dir` to write to; when the block ends well, it takes that name, else it goes.

    Args:
        output_dir: a new folder, or an older result of the same stage, which is replaced.
        contents: names that a result of this stage may hold.

    Raises:
        UserError: `output_dir` is a file, or holds something else, which replacing would delete.
    """
    output_dir = Path(output_dir)
    if output_dir.is_file():
        raise UserError(f"output_dir {output_dir} is a file: name a folder")
    if output_dir.is_dir():
        for entry in output_dir.iterdir():
            if entry.name not in contents:
                raise UserError(
                    f"output_dir {output_dir} holds {entry.name}, not made by this stage: name a new folder"
                )
    temporary = output_dir.with_name(output_dir.name + ".tmp")
    if temporary.exists():
        shutil.rmtree(temporary)
    temporary.mkdir(parents=True)
    try:
        yield temporary
    except BaseException:
        shutil.rmtree(temporary)
        raise
    if output_dir.exists():
        shutil.rmtree(output_dir)
    temporary.rename(output_dir)
