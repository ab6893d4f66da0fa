# SPDX-License-Identifier: Apache-2.0
"""Rewards from a Python file of the user's: `rewards: [{path: my_rewards.py:brevity}]`.

Running the file is the user's choice, on the command line or in a config of his own. A config that lies in a model's
folder is the model's: such folders are passed around, and opening one must never run code.
"""

import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scratch_gpt.errors import UserError
from scratch_gpt.runs.log import console


def check_reward_path(path: Any) -> None:
    """Raise UserError unless `path` is FILE.py:FUNCTION and the file is there."""
    file, _, name = path.rpartition(":") if isinstance(path, str) else ("", "", "")
    if not file.endswith(".py") or not name.isidentifier():
        message = f"reward path {path!r} is not of the form FILE.py:FUNCTION"
        raise UserError("wrong_value", message, setting="path", value=path)
    if not Path(file).is_file():
        raise UserError("file_not_found", f"reward {name!r}: no file {file}", file=file)


def refuse_code_of_model(arguments: Any) -> None:
    """Refuse to run code that a config inside a model's folder names.

    Args:
        arguments: of the stage, as `parse` gives them: with the config file, and which settings came from it.

    Raises:
        UserError: there is such code.
    """
    paths = [entry["path"] for entry in arguments.rewards if "path" in entry]
    if not paths or arguments.given.get("rewards") != "config":
        return
    # also in a folder inside the model's, as a repository of the Hub may have one for configs
    if any((parent / "config.json").is_file() for parent in Path(arguments.config_file).resolve().parents):
        message = (
            f"{arguments.config_file} lies in a model's folder and names code to run ({paths[0]}): read it, then give "
            "--rewards on the command line, or copy the config elsewhere"
        )
        raise UserError("code_of_model", message, file=arguments.config_file, path=paths[0])


def load_reward(path: str) -> Callable[..., list[float | None]]:
    """The function of a file, called as TRL calls its reward functions, by keywords: prompts, completions, completion_ids.

    Raises:
        UserError: the file fails or has no such function; at each call, a function that fails or returns anything but a
            number (or None) for each answer.
    """
    file, _, name = path.rpartition(":")
    spec = importlib.util.spec_from_file_location(f"rewards_of_{Path(file).stem}", file)
    assert spec is not None and spec.loader is not None  # of a name that ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for the types of their fields
    console.print(f"reward {name}: runs the code of {Path(file).resolve()}", markup=False, soft_wrap=True)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise _failed(name, file, error) from None
    function = getattr(module, name, None)
    if not callable(function):
        raise UserError("reward_missing", f"{file} has no function {name}", file=file, reward=name)

    def score(prompts: Any, completions: Any, completion_ids: Any) -> list[float | None]:
        try:
            values = function(prompts=prompts, completions=completions, completion_ids=completion_ids)
            found = [None if value is None else float(value) for value in values]
        except Exception as error:
            raise _failed(name, file, error) from None
        if len(found) != len(completions):
            message = f"reward {name!r} of {file} returns {len(found)} numbers for {len(completions)} answers"
            raise UserError("reward_count", message, reward=name, found=len(found), wanted=len(completions))
        return found

    return score


def _failed(name: str, file: str, error: Exception) -> UserError:
    """What a user's code raised, with its line in his file."""
    lines = [
        str(frame.lineno)
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).resolve() == Path(file).resolve()
    ]
    place = f"{file}:{lines[-1]}" if lines else file
    message = (
        f"reward {name!r} fails at {place}: {type(error).__name__}: {error} (it is called with prompts, completions and "
        "completion_ids, by keywords, and returns a number for each answer)"
    )
    return UserError("reward_failed", message, reward=name, place=place)
