# SPDX-License-Identifier: Apache-2.0
"""One check of all settings: values of the type, among the choices and in the range that a field declares.

A field says what it takes by its type: `int`, `Literal["muon", "adamw"]`, `Annotated[float, Range(...)]`. Values from the
command line, from YAML and from Python pass the same check.
"""

import inspect
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from scratch_gpt.errors import UserError, wrong_value


@dataclass(frozen=True)
class Range:
    """Which values of its type a setting takes, beside the type in `Annotated`.

    Attributes:
        wanted: follows "must be".
        holds: False for NaN too.
    """

    wanted: str
    holds: Callable[[Any], bool]


Count = Annotated[int, Range("at least 1", lambda value: value >= 1)]
Positive = Annotated[float, Range("above 0 and finite", lambda value: 0 < value < math.inf)]
NotNegative = Annotated[float, Range("at least 0", lambda value: value >= 0)]
# What a generator of numpy or torch takes, the process's number added.
Seed = Annotated[int, Range(f"from 0 to {(1 << 31) - 1}", lambda value: 0 <= value < 1 << 31)]

KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as PyYAML reads it, but 1e-6 is a number, as in YAML 1.2 and JSON."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+\Z"), list("-+0123456789")
)


def load_yaml(text: str) -> Any:
    """The value of a YAML text.

    Raises:
        yaml.YAMLError: it is not valid YAML.
    """
    return yaml.load(text, Loader=_Loader)  # a SafeLoader


def decode_list(words: list[Any]) -> list[Any]:
    """The items of a list given on the command line: `a b c`, or one word `[a, b, c]`; other texts stay as they are."""
    if len(words) == 1 and isinstance(words[0], str) and words[0].startswith("[") and words[0].endswith("]"):
        try:
            decoded = load_yaml(words[0])
        except yaml.YAMLError:
            return words
        return decoded if isinstance(decoded, list) else words
    return words


def decode_yaml(value: Any, name: str) -> Any:
    """A mapping or list given on the command line arrives as text: YAML's flow style or JSON."""
    if not isinstance(value, str):
        return value
    try:
        decoded = json.loads(value)  # YAML does not know all of JSON's escapes
    except json.JSONDecodeError:
        try:
            decoded = load_yaml(value)
        except yaml.YAMLError as error:
            reason = getattr(error, "problem", error)
            message = f"--{name} must be YAML or JSON, got {value!r} ({reason})"
            raise UserError("wrong_value", message, setting=name, value=value) from None
    if not isinstance(decoded, dict | list):
        raise wrong_value(name, value, "a mapping or a list", where="--")
    return decoded


def own_settings(arguments_class: Any) -> dict[str, Any]:
    """Type by name of the settings that are declared here or by a recipe, not by a configuration of TRL or transformers."""
    ours = (
        base
        for base in arguments_class.__mro__
        if base.__module__.split(".")[0] not in ("trl", "transformers")
    )
    names = {name for base in ours for name in inspect.get_annotations(base)}
    hints = get_type_hints(arguments_class, include_extras=True)
    return {field.name: hints[field.name] for field in fields(arguments_class) if field.name in names}


def check_values(arguments: Any) -> None:
    """Check all of `own_settings`, and put values that were given as text in their place.

    Raises:
        UserError: a value that its setting does not take.
    """
    for name, hint in own_settings(type(arguments)).items():
        # `arguments` may be frozen
        object.__setattr__(arguments, name, checked(name, getattr(arguments, name), hint))


def takes_structure(hint: Any) -> bool:
    """Whether a setting is a mapping or a list of them, which the command line gives as one text."""
    kind, options = get_origin(hint) or hint, get_args(hint)
    return kind is dict or (
        kind in (list, Annotated, Union, UnionType) and any(map(takes_structure, options))
    )


def choices(hint: Any) -> tuple[Any, ...]:
    """The values of a `Literal`, also of one beside None; empty for other types."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    return sum((choices(option) for option in get_args(hint) if get_origin(option)), ())


def checked(name: str, value: Any, hint: Any) -> Any:
    """The value as its type has it: text becomes a number, a truth or a structure, a single item a list.

    Raises:
        UserError: the setting does not take it.
    """
    kind, options = get_origin(hint) or hint, get_args(hint)
    if kind is Annotated:
        value = checked(name, value, options[0])
        for limits in options[1:]:
            if not limits.holds(value):
                raise wrong_value(name, value, limits.wanted)
        return value
    if kind in (Union, UnionType):
        if value is None:
            return None
        kinds = [option for option in options if option is not NoneType]
        if len(kinds) > 1:  # text, or a structure
            as_text = isinstance(value, str) and not value.lstrip().startswith(("[", "{"))
            kinds = [option for option in kinds if (option is str) == as_text]
        return checked(name, value, kinds[0])
    if kind is Literal:
        # YAML 1.1 reads a bare no as false
        value = "no" if value is False and "no" in options else value
        if value not in options:
            *others, last = options
            raise wrong_value(name, value, f"{', '.join(others)} or {last}", choices=options)
        return value
    if kind in (dict, list) and value is None:  # a key of a YAML file without a value
        return kind()
    if takes_structure(hint):
        value = decode_yaml(value, name)
    if kind is list:
        items = value if isinstance(value, list | tuple) else [value]
        return [checked(name, item, options[0]) for item in items]
    if kind is dict and not isinstance(value, dict):
        raise wrong_value(name, value, "a mapping such as {key: value}")
    return _scalar(name, value, kind) if kind in KINDS else value


def _scalar(name: str, value: Any, kind: type) -> Any:
    if isinstance(value, str) and kind is not str:
        value = _from_text(value, kind)
    if kind is int and isinstance(value, float) and value.is_integer():
        value = int(value)
    fits = isinstance(value, int | float if kind is float else kind)
    if not fits or (isinstance(value, bool) and kind is not bool):
        raise wrong_value(name, value, KINDS[kind])
    return value


def _from_text(text: str, kind: type) -> Any:
    if kind is bool:
        return WORDS.get(text.lower(), text)
    for read in (kind, float):  # 1e6 is a whole number too
        try:
            return read(text)
        except ValueError:
            pass
    return text
