# SPDX-License-Identifier: Apache-2.0
"""A stage's output folder, or a file, appears under its name only when it is complete; what was done before that is not
lost.
"""

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from scratch_gpt.errors import UserError


fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

# Inside the unfinished folder: what is needed to resume, gone in the finished one.
PROGRESS = ".progress"
# By which settings the folder is, or was, written.
SETTINGS_FILE = "settings.sha256"
STATE = "state.safetensors"
# Of the folder that this process writes, open as long as it does.
_locks: list[int] = []


def lock(folder: Path) -> None:
    """Make this process the only one that writes into a folder, until it ends or locks another one.

    The lock is the system's, on the folder itself: it leaves no file, and a kill leaves no lock. Where the system or the
    file system has no such locks, nothing is locked.

    Raises:
        UserError: another process writes into the folder.
    """
    while _locks:
        os.close(_locks.pop())
    if fcntl is None:
        return
    _locks.append(os.open(folder, os.O_RDONLY))
    try:
        fcntl.flock(_locks[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        message = f"another run is writing {folder}: wait for its end or stop it, or name a new output_dir"
        raise UserError("folder_in_use", message, folder=folder) from None
    except OSError:
        pass


@contextmanager
def atomic_directory(
    output_dir: str | Path, contents: tuple[str, ...], settings: Any = None
) -> Iterator[Path]:
    """Give a folder beside `output_dir` to write to; when the block ends well, it takes that name.

    Args:
        output_dir: a new folder, or an older result of the same stage, which is replaced.
        contents: names that a result of this stage may hold.
        settings: all that decides the result, as plain values. If an earlier try with the same settings was
            interrupted after it recorded its progress, its folder is given again, as it is; None: always an empty one,
            gone if the block fails.

    Raises:
        UserError: `output_dir` is a file, or holds something else, which replacing would delete; it cannot be
            written, for want of room or permission; another run is writing it.
    """
    output_dir = Path(output_dir)
    if output_dir.is_file():
        message = f"output_dir {output_dir} is a file: name a folder"
        raise UserError("output_is_file", message, path=output_dir)
    if output_dir.is_dir():
        for entry in output_dir.iterdir():
            if entry.name not in (*contents, PROGRESS, SETTINGS_FILE):
                message = (
                    f"output_dir {output_dir} holds {entry.name}, not made by this stage: name a new folder"
                )
                raise UserError("output_occupied", message, folder=output_dir, file=entry.name)
    temporary = output_dir.with_name(output_dir.name + ".tmp")
    with _writing(output_dir):
        # The folder stays the same one from here to its end: who removed it would remove another run's lock with it.
        temporary.mkdir(parents=True, exist_ok=True)
        lock(temporary)
        # What was written before the first record of progress would be written once more behind itself.
        recorded = (temporary / PROGRESS / STATE).is_file()
        if settings is None or not recorded or not has_settings(temporary, settings):
            for entry in temporary.iterdir():
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            if settings is not None:
                (temporary / PROGRESS).mkdir()
                (temporary / SETTINGS_FILE).write_text(_digest(settings))
        try:
            yield temporary
        except BaseException:
            if settings is None:
                shutil.rmtree(temporary)
            raise
        if output_dir.exists():
            shutil.rmtree(output_dir)
        temporary.rename(output_dir)
        shutil.rmtree(output_dir / PROGRESS, ignore_errors=True)


def has_settings(folder: str | Path, settings: Any) -> bool:
    """Whether `atomic_directory` wrote the folder, finished or not, with these settings."""
    mark = Path(folder) / SETTINGS_FILE
    return mark.is_file() and mark.read_text() == _digest(settings)


def _digest(settings: Any) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Give a file beside `path` to write to; when the block ends well, it takes that name.

    Raises:
        UserError: it cannot be written, for want of room or permission.
    """
    path = Path(path)
    temporary = path.with_name(path.name + ".tmp")
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def read_json(path: str | Path) -> Any:
    """What a JSON file holds.

    Raises:
        UserError: it cannot be read, or is no JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        message = f"cannot read {path} ({error}): delete it, or write it again"
        raise UserError("unreadable_file", message, file=path) from None


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file, empty where there is none; UserError if it is damaged."""
    path = Path(path)
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        message = f"cannot read {path} ({error}): write it again"
        raise UserError("unreadable_file", message, file=path) from None
    return found if isinstance(found, dict) else {}


@contextmanager
def _writing(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = (
            f"cannot write {output}: {error.strerror or error} (make room or give permission, then run the same "
            "command again)"
        )
        raise UserError("cannot_write", message, path=output) from None


def save_progress(folder: Path, values: Any, arrays: dict[str, np.ndarray]) -> None:
    """Replace the folder's record of how far a stage has come; a kill leaves the old one or the new one."""
    path = folder / PROGRESS / STATE
    temporary = path.with_name(STATE + ".tmp")
    # The format wants a tensor; the values travel as its metadata.
    data = save({"": np.zeros(1), **arrays}, metadata={"values": json.dumps(values)})
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def load_progress(folder: Path) -> tuple[Any, dict[str, np.ndarray]] | None:
    """What `save_progress` saved last; None if it never did.

    Raises:
        UserError: the record is damaged.
    """
    path = folder / PROGRESS / STATE
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in sorted(file.keys())}
            return json.loads(file.metadata()["values"]), arrays
    except SafetensorError as error:
        message = f"{path} is damaged ({error}): remove {folder} and run again"
        raise UserError("damaged_file", message, file=path) from None


def plain_settings(arguments: Any) -> dict[str, Any]:
    """The arguments as `run.yaml` has them."""
    values = arguments.to_dict() if hasattr(arguments, "to_dict") else dataclasses.asdict(arguments)
    plain: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return plain


def write_run_yaml(arguments: Any, output_dir: str | Path) -> None:
    """Write the resolved arguments as `run.yaml`, the last file of a stage: present means complete."""
    plain = plain_settings(arguments)
    with atomic_write(Path(output_dir) / "run.yaml") as temporary:
        temporary.write_text(yaml.safe_dump(plain, sort_keys=True, allow_unicode=True), encoding="utf-8")
