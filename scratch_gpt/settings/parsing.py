# SPDX-License-Identifier: Apache-2.0
"""One way to configure: dataclasses filled from command line > YAML (`--config`) > default, by TRL's parser."""

import argparse
import dataclasses
import errno
import linecache
import sys
from collections.abc import Callable, Collection, Iterable
from difflib import get_close_matches
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, NoReturn

import yaml

from scratch_gpt.errors import UserError
from scratch_gpt.settings.checking import checked, choices, own_settings, takes_structure
from scratch_gpt.settings.processes import exit_with_error


# What the user can cure: no room, no permission, a file where a folder should be.
CURABLE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)

# Whose refusals are a line like ours.
LIBRARIES = ("transformers", "trl", "peft", "accelerate", "lm_eval")


class _OwnSettingsFirst(argparse.ArgumentDefaultsHelpFormatter):
    """Help that lists the settings in `own` first, the others only where `everything` is asked for."""

    def __init__(self, own: Collection[str], everything: bool, **options: Any) -> None:
        super().__init__(**options)
        self._own, self._everything = own, everything

    def add_arguments(self, actions: Iterable[argparse.Action]) -> None:
        """Argparse's, in that order."""
        first = sorted(actions, key=lambda action: action.dest not in self._own)
        super().add_arguments(action for action in first if self._everything or action.dest in self._own)


def _parser(arguments_class: type, everything: bool) -> Any:
    """TRL's parser; its help is of our settings alone, and with `--help-all` of all."""
    from trl import TrlParser  # slow to import, and `scripts_folder` does not need it

    own = own_settings(arguments_class)

    class Parser(TrlParser):
        """Lets values of our settings through as text: `checked` knows their types, and those of the YAML file too."""

        from_config: frozenset[str] = frozenset()

        def set_defaults_with_config(self, **config: Any) -> list[str]:
            self.from_config = frozenset(config)
            return list(super().set_defaults_with_config(**config))

        def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
            found, rest = super().parse_known_args(args, namespace)
            for name, hint in own.items():
                if hasattr(found, name):
                    setattr(found, name, checked(name, getattr(found, name), hint))
            return found, rest

        def error(self, message: str) -> NoReturn:
            raise UserError("invalid_arguments", message)

    parser = Parser(
        arguments_class,
        allow_abbrev=False,
        usage="%(prog)s [--config FILE] [--SETTING VALUE ...]",
        formatter_class=partial(_OwnSettingsFirst, {*own, "help", "help_all"}, everything),
    )
    for action in parser._actions:
        if hint := own.get(action.dest):
            action.type, action.choices = None, None
            if options := choices(hint):
                action.metavar = f"{{{','.join(map(str, options))}}}"
            if takes_structure(hint):
                action.nargs = None
    inherited = [field.name for field in dataclasses.fields(arguments_class) if field.name not in own]
    more = f"show the {len(inherited)} settings inherited from TRL and transformers too"
    parser.add_argument("--help-all", action="help", help=more if inherited else argparse.SUPPRESS)
    return parser


def parse(arguments_class: type, args: list[str] | None = None) -> Any:
    """Fill `arguments_class` from `args` (default: the command line).

    Raises:
        UserError: an unknown key, a YAML file that is missing or is not a mapping, a value that its setting does not take.
    """
    words = sys.argv[1:] if args is None else args
    parser = _parser(arguments_class, everything="--help-all" in words)
    try:
        arguments, unknown = parser.parse_args_and_config(words, return_remaining_strings=True)
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
    except (ValueError, TypeError, ImportError, RuntimeError) as error:
        raise UserError("invalid_arguments", " ".join(str(error).split())) from None
    if unknown:
        raise _unknown_setting(unknown[0], [field.name for field in dataclasses.fields(arguments_class)])
    given = {word.partition("=")[0] for word in words}
    by_user = {action.dest for action in parser._actions if given & {*action.option_strings}}
    origins = dict.fromkeys(parser.from_config, "config") | dict.fromkeys(by_user, "user")
    # may be frozen
    object.__setattr__(arguments, "given", origins)
    object.__setattr__(
        arguments, "config_file", words[words.index("--config") + 1] if parser.from_config else None
    )
    return arguments


def _unknown_setting(word: str, names: list[str]) -> UserError:
    key = word.partition("=")[0]
    nearest = get_close_matches(key.lstrip("-").replace("-", "_"), names, n=1)
    hint = f": did you mean {nearest[0]}?" if nearest else "; --help lists them"
    return UserError("invalid_arguments", f"there is no setting {key}{hint}")


def _place_of_refusal(error: Exception) -> str | None:
    """The place in one of LIBRARIES whose own `raise` it is: mostly a setting that they refuse; None of all others.

    What fails below such a line, such as memory that runs out, is none of that and keeps its traceback.
    """
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    if trace is None:
        return None
    module = str(trace.tb_frame.f_globals.get("__name__"))
    line = linecache.getline(trace.tb_frame.f_code.co_filename, trace.tb_lineno)
    refused = module.partition(".")[0] in LIBRARIES and line.lstrip().startswith("raise")
    return f"{module}:{trace.tb_lineno}" if refused else None


def run_stage(main: Callable[[Any], None], arguments_class: type, args: list[str] | None = None) -> None:
    """Parse `args` (default: the command line) and run one stage; a user's mistake becomes one line and exit status 2."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # of transformers: one bar a stage, and that is ours
    try:
        main(parse(arguments_class, args))
    except (UserError, StrictDataclassError) as error:
        exit_with_error(f"error: {' '.join(str(error).split())}", 2)
    except OSError as error:
        if error.errno not in CURABLE:
            raise
        exit_with_error(f"error: {error.strerror}: {error.filename or 'while writing'}", 2)
    except NotImplementedError as error:
        if "MPS" not in str(error):  # torch names the operation and the device
            raise
        operation = next(iter(str(error).split("'")[1::2]), "an operation")
        cure = "set PYTORCH_ENABLE_MPS_FALLBACK=1 to compute it on the CPU"
        exit_with_error(f"error: Apple GPUs have no kernel for {operation}: {cure}", 2)
    except (ValueError, ImportError, RuntimeError) as error:
        place = _place_of_refusal(error)
        if place is None:
            raise
        # with the place, since it may be a fault of ours that they refuse
        exit_with_error(f"error: {' '.join(str(error).split())} (raised in {place})", 2)
    except KeyboardInterrupt:
        print("interrupted: run the same command again to go on", file=sys.stderr)
        raise SystemExit(130) from None


def scripts_folder() -> Path:
    """The folder that holds `train/`, `eval/` and `model_card.md`: inside the wheel, or the checkout's root."""
    package = Path(str(resources.files("scratch_gpt")))
    shipped = package / "_scripts"
    return shipped if shipped.is_dir() else package.parent
