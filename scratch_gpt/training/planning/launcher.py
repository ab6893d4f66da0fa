# SPDX-License-Identifier: Apache-2.0
"""What a plan needs to know of the launcher: processes, sharding, checkpointed activations."""

import os
from dataclasses import dataclass
from pathlib import Path

import yaml

from scratch_gpt.errors import UserError
from scratch_gpt.settings.parsing import find_config


@dataclass(frozen=True)
class Launcher:
    """What the plan needs of an Accelerate configuration file."""

    num_processes: int = 1
    sharded: bool = False
    activation_checkpointing: bool = False


def find_launcher_file(name: str) -> str:
    """The Accelerate YAML of this name, also one of `train/accelerate/` from any working directory.

    Raises:
        UserError: there is no such file.
    """
    return find_config(name, ("train/accelerate",), "--accelerate_config")


def read_launcher(name: str | None) -> Launcher:
    """The settings of an Accelerate YAML; one process without a file. Its precision is not asked, see `ComputeSettings`.

    Raises:
        UserError: there is no such file, or it is no YAML mapping.
    """
    if name is None:
        return Launcher()
    path = find_launcher_file(name)
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UserError("invalid_yaml", f"--accelerate_config: {path} is not valid YAML: {error}") from None
    if not isinstance(values, dict):
        message = f"--accelerate_config: {path} is no mapping of settings"
        raise UserError("wrong_value", message, setting="accelerate_config", value=path)
    fsdp = values.get("fsdp_config") or {}
    return Launcher(
        # null, as Accelerate's own default file can have it
        num_processes=int(values.get("num_processes") or 1),
        sharded=values.get("distributed_type") == "FSDP",
        activation_checkpointing=bool(fsdp.get("fsdp_activation_checkpointing", False)),
    )


def launcher_of_environment(num_processes: int) -> Launcher:
    """What `accelerate launch` set for this process."""
    return Launcher(
        num_processes=num_processes,
        sharded=os.environ.get("ACCELERATE_USE_FSDP", "") == "true",
        activation_checkpointing=os.environ.get("FSDP_ACTIVATION_CHECKPOINTING", "") == "true",
    )
