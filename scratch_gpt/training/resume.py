# SPDX-License-Identifier: Apache-2.0
"""What must be as before for a resumed run to give the bits of the uninterrupted one."""

import dataclasses
from pathlib import Path
from typing import Any

from scratch_gpt.errors import UserError
from scratch_gpt.training.arguments import PretrainArguments
from scratch_gpt.training.hardware import Hardware
from scratch_gpt.training.telemetry import console


# These change what is written, not what is computed. Every other setting counts, also one that is added later.
HARMLESS = frozenset(
    {
        *("output_dir", "resume_from_checkpoint", "allow_changed_settings"),
        *("logging_steps", "eval_steps", "save_steps", "save_total_limit"),
        *("max_eval_blocks", "per_device_eval_batch_size", "sample_prompts"),
        *("report_to", "push_to_hub", "hub_model_id", "hub_private_repo", "hub_strategy"),
        *("shards", "tokenizer"),  # folders may move: their content is compared by its hash
        *("mixed_precision", "num_threads"),  # as chosen, not as asked for: see `settings_of`
    }
)


def settings_of(arguments: PretrainArguments, hardware: Hardware, num_processes: int) -> dict[str, Any]:
    """All that decides the bits of a run, except the shards and the tokenizer."""
    settings = {name: value for name, value in dataclasses.asdict(arguments).items() if name not in HARMLESS}
    return {**settings, **dataclasses.asdict(hardware), "num_processes": num_processes}


def hardware_again(progress: dict[str, Any], arguments: PretrainArguments) -> Hardware:
    """Precision and threads as they were before the interruption, unless the arguments name others."""
    before = progress["settings"]
    precision = arguments.mixed_precision
    return Hardware(
        arguments.num_threads or before["num_threads"],
        before["mixed_precision"] if precision == "auto" else precision,
    )


def check_settings(
    progress: dict[str, Any], settings: dict[str, Any], checkpoint: Path, allow_changed_settings: bool
) -> None:
    """List what is not as it was in the run that wrote the checkpoint.

    Raises:
        UserError: something is not, and that is not allowed; or the model itself is another.
    """
    before = progress["settings"]
    changed = [
        f"{name} was {before.get(name)}, is {settings.get(name)}"
        for name in sorted(before.keys() | settings.keys())
        if before.get(name) != settings.get(name)
    ]
    if not changed:
        return
    if before["model_config"] != settings["model_config"]:
        raise UserError(f"{checkpoint} holds another model ({'; '.join(changed)}): name a new output_dir")
    if not allow_changed_settings:
        raise UserError(
            f"{checkpoint} was written with other settings ({'; '.join(changed)}): set them back to go on exactly, or add "
            "--allow_changed_settings true"
        )
    console.print(f"going on with changed settings: {'; '.join(changed)}", soft_wrap=True)
