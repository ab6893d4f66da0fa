# SPDX-License-Identifier: Apache-2.0
"""The reference of keys, docs/reference/keys/: a page for each command, from its settings."""

import scratch_gpt.native_libraries  # noqa: F401  # before torch

import dataclasses
import functools
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType, NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from scratch_gpt import cli
from scratch_gpt.settings.checking import own_settings, takes_structure
from scratch_gpt.training.planning.estimate import PlanArguments


ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "reference" / "keys"
NAMES = {bool: "true, false", int: "whole number", float: "number", str: "text"}


@functools.cache
def load(script: str) -> ModuleType:
    """The module of a file of train/ or eval/."""
    path = ROOT / script
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}_{path.stem}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def settings_of(script: str) -> Any:
    """The dataclass that the script hands to `run_stage`."""
    (name,) = re.findall(r"run_stage\(main, (\w+)\)", (ROOT / script).read_text(encoding="utf-8"))
    return getattr(load(script), name)


def kind(hint: Any) -> str:
    """The values a setting takes, in words."""
    if takes_structure(hint):
        return "YAML"
    origin, options = get_origin(hint), [option for option in get_args(hint) if option is not NoneType]
    if origin is Annotated:
        return kind(options[0])
    if origin is Literal:
        return ", ".join(map(str, options))
    if origin is list:
        return f"list of {kind(options[0])}"
    if options:
        return " or ".join(dict.fromkeys(map(kind, options)))
    return NAMES.get(hint, getattr(hint, "__name__", str(hint)))


def default(field: dataclasses.Field[Any]) -> str:
    """The default as YAML says it; nothing where there is none, or where the help names the rule."""
    value = field.default
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    if value is dataclasses.MISSING or value in (None, "", [], {}):
        return ""
    shown = str(value).lower() if isinstance(value, bool) else str(value)
    return "`" + shown.replace("\n", "\\n").replace("|", "\\|") + "`"


def page(command: str, script: str | None, arguments: Any) -> str:
    """The page of a command."""
    own = own_settings(arguments)
    names = [field.name for field in dataclasses.fields(arguments)]
    refused = {name: cure for name, cure in getattr(arguments, "unused", {}).items() if name in names}
    inherited = [name for name in names if name not in own and name not in refused]
    lines = [
        f"# Keys of `{command}`",
        "",
        "<!-- written by docs/key_pages.py; `make refresh` renews it -->",
        "",
    ]
    lines += [
        f"Keys of `scratch-gpt {command}`"
        + (f" and of `accelerate launch {script}`" if script else "")
        + ". A key is taken from the command line, else from the YAML file of `--config`, else from its default.",
        "",
        "| key | values | default | meaning |",
        "|---|---|---|---|",
    ]
    for field in dataclasses.fields(arguments):
        if field.name in own:
            meaning = " ".join(str(field.metadata.get("help", "")).split()).replace("|", "\\|")
            values = kind(own[field.name]).replace("|", "\\|")
            lines.append(f"| `{field.name}` | {values} | {default(field)} | {meaning} |")
    if inherited:
        lines += [
            "",
            f"`{command}` also takes {len(inherited)} settings of transformers' `TrainingArguments` and TRL's configurations; "
            "`--help-all` lists them.",
        ]
    if refused:
        lines += [
            "",
            f"`{command}` refuses settings that TRL takes and that would have no effect here:",
            "",
            "| key | instead |",
            "|---|---|",
            *(f"| `{name}` | {cure} |" for name, cure in refused.items()),
        ]
    return "\n".join(lines) + "\n"


def pages() -> dict[Path, str]:
    """The text of each page."""
    scripts = {name: script for name, (script, _) in {**cli.STAGES, **cli.BENCHMARKS}.items()}
    written = {name: page(name, script, settings_of(script)) for name, script in scripts.items()}
    written["plan"] = page("plan", None, PlanArguments)
    return {FOLDER / f"{name}.md": text for name, text in written.items()}
