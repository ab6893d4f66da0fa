# SPDX-License-Identifier: Apache-2.0
"""One way to configure: dataclasses filled from command line > YAML (`--config`) > default, by TRL's parser."""

import argparse
import dataclasses
import errno
import inspect
import json
import sys
from collections.abc import Callable, Collection, Iterable
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from scratch_gpt.errors import UserError, wrong_value


# What the user can cure: no room, no permission, a file where a folder should be.
CURABLE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)


def decode_yaml(value: Any, name: str) -> Any:
    """A mapping or list given on the command line arrives as text: JSON or YAML's flow style."""
    if not isinstance(value, str):
        return value
    try:
        decoded = json.loads(value)  # before YAML 1.1, to which 1e-6 is no number
    except json.JSONDecodeError:
        try:
            decoded = yaml.safe_load(value)
        except yaml.YAMLError as error:
            reason = getattr(error, "problem", error)
            message = f"--{name} must be YAML or JSON, got {value!r} ({reason})"
            raise UserError("wrong_value", message, setting=name, value=value) from None
    if not isinstance(decoded, dict | list):
        raise wrong_value(name, value, "a mapping or a list", where="--")
    return decoded


def check_seed(seed: int) -> None:
    """Refuse what a generator of numpy or torch would not take, the process's number added."""
    if not 0 <= seed < 1 << 31:
        raise wrong_value("seed", seed, f"from 0 to {(1 << 31) - 1}")


class _OwnSettingsFirst(argparse.ArgumentDefaultsHelpFormatter):
    """Help that lists the settings in `own` first, the others only where `everything` is asked for."""

    def __init__(self, own: Collection[str], everything: bool, **options: Any) -> None:
        super().__init__(**options)
        self._own, self._everything = own, everything

    def add_arguments(self, actions: Iterable[argparse.Action]) -> None:
        """Argparse's, in that order."""
        first = sorted(actions, key=lambda action: action.dest not in self._own)
        super().add_arguments(action for action in first if self._everything or action.dest in self._own)


def _own_settings(arguments_class: type) -> set[str]:
    """The settings that are declared here or by a recipe, not inherited from a configuration of TRL or transformers."""
    ours = (
        base
        for base in arguments_class.__mro__
        if base.__module__.split(".")[0] not in ("trl", "transformers")
    )
    return {name for base in ours for name in inspect.get_annotations(base)}


def _parser(arguments_class: type, everything: bool) -> Any:
    """TRL's parser; its help is of our settings alone, and with `--help-all` of all."""
    from trl import TrlParser  # slow to import, and `scripts_folder` does not need it

    own = _own_settings(arguments_class)
    inherited = [field.name for field in dataclasses.fields(arguments_class) if field.name not in own]
    parser = TrlParser(
        arguments_class,
        allow_abbrev=False,
        usage="%(prog)s [--config FILE] [--SETTING VALUE ...]",
        formatter_class=partial(_OwnSettingsFirst, own | {"help", "help_all"}, everything),
    )
    more = f"show the {len(inherited)} settings inherited from TRL and transformers too"
    parser.add_argument("--help-all", action="help", help=more if inherited else argparse.SUPPRESS)
    return parser


def parse(arguments_class: type, args: list[str] | None = None) -> Any:
    """Fill `arguments_class` from `args` (default: the command line).

    Raises:
        UserError: an unknown key in the YAML, a YAML file that is missing or is not a mapping, a value that the
            dataclass refuses.
    """
    everything = "--help-all" in (sys.argv if args is None else args)
    try:
        (arguments,) = _parser(arguments_class, everything).parse_args_and_config(args)
    except FileNotFoundError as error:
        message = f"config file not found: {error.filename}"
        raise UserError("file_not_found", message, file=error.filename) from None
    except IndexError:
        raise UserError("setting_missing", "--config needs a file name", setting="config") from None
    except yaml.YAMLError as error:
        message = f"config file is not valid YAML: {' '.join(str(error).split())}"
        raise UserError("invalid_yaml", message) from None
    except UserError:
        raise
    except (ValueError, TypeError) as error:
        raise UserError("invalid_arguments", " ".join(str(error).split())) from None
    return arguments


def run_stage(main: Callable[[Any], None], arguments_class: type, args: list[str] | None = None) -> None:
    """Parse `args` (default: the command line) and run one stage; a user's mistake becomes one line and exit status 2."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # of transformers: one bar a stage, and that is ours
    try:
        main(parse(arguments_class, args))
    except (UserError, StrictDataclassError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:
        if error.errno not in CURABLE:
            raise
        print(f"error: {error.strerror}: {error.filename or 'while writing'}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("interrupted: run the same command again to go on", file=sys.stderr)
        raise SystemExit(130) from None


def check_positive(arguments: Any, *names: str) -> None:
    """Raise UserError if a number is below 1; None is no number."""
    for name in names:
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise wrong_value(name, value, "at least 1")


def scripts_folder() -> Path:
    """The folder that holds `train/`, `eval/` and `model_card.md`: inside the wheel, or the checkout's root."""
    package = Path(str(resources.files("scratch_gpt")))
    shipped = package / "_scripts"
    return shipped if shipped.is_dir() else package.parent
