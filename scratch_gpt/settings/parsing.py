# SPDX-License-Identifier: Apache-2.0
"""One way to configure: dataclasses filled from command line > YAML (`--config`) > default, by TRL's parser."""

import argparse
import dataclasses
import errno
import io
import linecache
import os
import sys
from collections.abc import Callable, Collection, Iterable
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, NoReturn, get_type_hints

import yaml

from scratch_gpt.errors import UserError, did_you_mean, did_you_mean_path, wrong_value
from scratch_gpt.settings.checking import (
    checked,
    choices,
    decode_list,
    decode_yaml,
    load_yaml,
    own_settings,
    takes_structure,
)
from scratch_gpt.settings.processes import exit_with_error


# What the user can cure: no room, no permission, a file where a folder should be.
CURABLE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)

# Folders of the scripts folder whose files `--config` finds by their names from any working directory.
CONFIG_FOLDERS = ("train/configs", "eval/configs")

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
    structures = {name for name, hint in get_type_hints(arguments_class).items() if takes_structure(hint)}

    class Parser(TrlParser):
        """Lets values of our settings through as text: `checked` knows their types, and those of the YAML file too."""

        required: tuple[str, ...] = ()

        def set_defaults_with_config(self, **config: Any) -> list[str]:
            for action in self._actions:
                if isinstance(config.get(action.dest), str):
                    self._check_value(action, config[action.dest])
            if unknown := super().set_defaults_with_config(**config):
                raise self.unknown_setting(unknown[0].removeprefix("--"))
            return []

        def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
            found, rest = super().parse_known_args(args, namespace)
            # before the settings are checked: one that is missing may be the mistyped one
            if rest:
                raise self.unknown_setting(rest[0].partition("=")[0])
            for name in self.required:
                if getattr(found, name) is None:
                    message = f"{name} is missing: give --{name} or {name}: in the YAML"
                    raise UserError("setting_missing", message, setting=name)
            for name, value in list(vars(found).items()):
                if name in own:
                    if isinstance(value, list) and value is not self.get_default(name):
                        value = decode_list(value)  # of the command line
                    setattr(found, name, checked(name, value, own[name]))
                elif name in structures and isinstance(value, str) and value.lstrip().startswith(("{", "[")):
                    setattr(found, name, decode_yaml(value, name))
            return found, rest

        def unknown_setting(self, key: str) -> UserError:
            """The error for a key that no setting has."""
            names = [action.dest for action in self._actions]
            hint = did_you_mean(key.lstrip("-"), names, "; --help lists them")
            return UserError("invalid_arguments", f"there is no setting {key}{hint}")

        def _check_value(self, action: argparse.Action, value: Any) -> None:
            if action.choices is not None and value not in action.choices:
                names = [str(choice) for choice in action.choices]
                raise wrong_value(action.dest, value, f"one of {', '.join(names)}", choices=names)

        def error(self, message: str) -> NoReturn:
            raise UserError("invalid_arguments", message)

    parser = Parser(
        arguments_class,
        allow_abbrev=False,
        usage="%(prog)s [--config FILE] [--SETTING VALUE ...]",
        formatter_class=partial(_OwnSettingsFirst, {*own, "help", "help_all"}, everything),
    )
    defaults = {field.name: field.default for field in dataclasses.fields(arguments_class)}
    parser.required = tuple(action.dest for action in parser._actions if action.required)
    for action in parser._actions:
        action.required = False
        if hint := own.get(action.dest):
            action.type, action.choices = None, None
            if options := choices(hint):
                action.metavar = f"{{{','.join(map(str, options))}}}"
        if action.dest in structures:
            action.type, action.nargs = None, None
            if action.default is None and defaults[action.dest] is not dataclasses.MISSING:
                action.default = defaults[action.dest]  # which TRL's parser drops from a union with a list
    inherited = [field.name for field in dataclasses.fields(arguments_class) if field.name not in own]
    more = f"show the {len(inherited)} settings inherited from TRL and transformers too"
    parser.add_argument("--help-all", action="help", help=more if inherited else argparse.SUPPRESS)
    return parser


def parse(arguments_class: type, args: list[str] | None = None) -> Any:
    """Fill `arguments_class` from `args` (default: the command line).

    Raises:
        UserError: an unknown key, a YAML file that is missing or is not a mapping, a value that its setting does not take.
    """
    config_name, words = _split_config(sys.argv[1:] if args is None else args)
    config_file = None if config_name is None else find_config(config_name)
    config = {} if config_file is None else _read_config(config_file)
    parser = _parser(arguments_class, everything="--help-all" in words)
    try:
        parser.set_defaults_with_config(**config)
        (arguments,) = parser.parse_args_into_dataclasses(words)
    except UserError:
        raise
    except (ValueError, TypeError, ImportError, RuntimeError) as error:
        raise UserError("invalid_arguments", " ".join(str(error).split())) from None
    given = {word.partition("=")[0] for word in words}
    by_user = {action.dest for action in parser._actions if given & {*action.option_strings}}
    origins = dict.fromkeys(config, "config") | dict.fromkeys(by_user, "user")
    # may be frozen
    object.__setattr__(arguments, "given", origins)
    object.__setattr__(arguments, "config_file", config_file)
    return arguments


def _split_config(words: list[str]) -> tuple[str | None, list[str]]:
    """The value of `--config`, and the other words."""
    config, others, following = None, [], iter(words)
    for word in following:
        key, equals, value = word.partition("=")
        if key != "--config":
            others.append(word)
            continue
        if config is not None:
            raise UserError("invalid_arguments", "--config is given twice: one file holds the settings")
        config = value if equals else next(following, "")
        if not config:
            raise UserError("setting_missing", "--config needs a file name", setting="config")
    return config, others


def find_config(name: str, folders: Collection[str] = CONFIG_FOLDERS, key: str = "--config") -> str:
    """The YAML file of this name: of the working directory, else of the package's own.

    `train/configs/small/pretrain.yaml` and `small/pretrain.yaml` name the same file from any working directory, also
    where the package was installed from a wheel.

    Args:
        folders: of the scripts folder, in which short names are looked for.
        key: that gave the name.

    Raises:
        UserError: there is no such file.
    """
    path, root = Path(name), scripts_folder()
    if os.path.isfile(path):  # False too for a name that no file system takes
        return name
    if ".." not in path.parts:
        for folder in (root, *(root / folder for folder in folders)):
            if os.path.isfile(folder / path):
                return str(folder / path)
    shipped = [file for folder in folders for file in (root / folder).rglob("*.yaml")]
    known = [file.relative_to(root).as_posix() for file in shipped]
    known += [
        file.relative_to(root / folder).as_posix()
        for file in shipped
        for folder in folders
        if file.is_relative_to(root / folder)
    ]
    message = f"{key}: no file {name}{did_you_mean_path(path, did_you_mean(path.as_posix(), known))}"
    raise UserError("file_not_found", message, file=name)


def _read_config(file: str) -> dict[str, Any]:
    try:
        config = load_yaml(Path(file).read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        message = f"config file {file} is not UTF-8 ({error.reason} at byte {error.start}): save it as UTF-8"
        raise UserError("invalid_yaml", message) from None
    except yaml.YAMLError as error:
        message = f"config file {file} is not valid YAML: {' '.join(str(error).split())}"
        raise UserError("invalid_yaml", message) from None
    if not isinstance(config, dict):
        message = f"config file {file} must be a mapping of settings such as seed: 0, got {config!r:.60}"
        raise UserError("invalid_yaml", message)
    variables = config.pop("env", None) or {}  # a key of TRL's own parser
    if not isinstance(variables, dict):
        raise wrong_value("env", variables, "a mapping of environment variables", where=f"{file}: ")
    os.environ.update({str(name): str(value) for name, value in variables.items()})
    return {str(name): value for name, value in config.items()}


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


def line_of_mistake(error: Exception) -> str | None:
    """The line that says what a user can fix; None for an error that only a programmer can fix."""
    line = " ".join(str(error).split())
    if isinstance(error, UserError):
        return line
    from huggingface_hub.errors import StrictDataclassError  # slow to import

    if isinstance(error, StrictDataclassError):
        return line
    if isinstance(error, OSError) and error.errno in CURABLE:
        return f"{error.strerror}: {error.filename or 'while writing'}"
    if isinstance(error, RuntimeError):
        from scratch_gpt.settings.hardware import is_out_of_memory  # torch: slow to import

        if is_out_of_memory(error):
            return (
                "out of memory: lower per_device_train_batch_size or per_device_eval_batch_size (batch_size of a "
                f"benchmark), or set activation_checkpointing true ({'. '.join(line.split('. ')[:2])})"
            )
    if isinstance(error, NotImplementedError) and "MPS" in line:  # torch names the operation and the device
        operation = next(iter(line.split("'")[1::2]), "an operation")
        cure = "set PYTORCH_ENABLE_MPS_FALLBACK=1 to compute it on the CPU"
        return f"Apple GPUs have no kernel for {operation}: {cure}"
    if isinstance(error, ValueError | ImportError | RuntimeError) and (place := _place_of_refusal(error)):
        # with the place, since it may be a fault of ours that they refuse
        return f"{line} (raised in {place})"
    return None


def run_stage(main: Callable[[Any], None], arguments_class: type, args: list[str] | None = None) -> None:
    """Parse `args` (default: the command line) and run one stage; a user's mistake becomes one line and exit status 2."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # of transformers: one bar a stage, and that is ours
    show_all_characters()
    try:
        main(parse(arguments_class, args))
    except KeyboardInterrupt:
        print("interrupted: run the same command again to resume", file=sys.stderr)
        raise SystemExit(130) from None
    except Exception as error:
        line = line_of_mistake(error)
        if line is None:
            raise
        exit_with_error(f"error: {line}", 2)


def show_all_characters() -> None:
    """Let the standard streams replace what their encoding lacks: a pipe on Windows has the 256 characters of cp1252."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def scripts_folder() -> Path:
    """The folder that holds `train/`, `eval/` and `model_card.md`: inside the wheel, or the checkout's root."""
    package = Path(str(resources.files("scratch_gpt")))
    shipped = package / "_scripts"
    return shipped if shipped.is_dir() else package.parent
