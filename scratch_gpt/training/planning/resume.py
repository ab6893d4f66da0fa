# SPDX-License-Identifier: Apache-2.0
"""Whether a pretraining run may be resumed: its settings beside the checkpoint's. `pretrain/pretraining.py` restores the state."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scratch_gpt.data.shards.mixed_blocks import parse_shards
from scratch_gpt.errors import UserError
from scratch_gpt.runs.checkpoints import PROGRESS_FILE, read_progress
from scratch_gpt.runs.log import console
from scratch_gpt.settings.hardware import gpu_name
from scratch_gpt.training.pretrain.arguments import PretrainArguments


# A setting that is younger than a run had no other value in it.
DEFAULTS = {entry.name: entry.default for entry in dataclasses.fields(PretrainArguments)}
BY_RULE = ("learning_rate", "warmup_steps", "per_device_train_batch_size", "gradient_accumulation_steps")
# Their product is the blocks of a step, which another number of processes keeps.
STEP = ("per_device_train_batch_size", "gradient_accumulation_steps", "num_processes")
# What depends on the device, with the value that leaves it open.
BY_DEVICE = {
    "mixed_precision": "auto",
    "attn_implementation": "auto",
    "torch_compile": None,
    "activation_checkpointing": None,
}
# Names of version 0.2.0, which checkpoints still hold.
RENAMED = {"gradient_checkpointing": "activation_checkpointing"}
# With another one of these, a checkpoint's weights or optimizer state cannot be loaded.
UNCHANGEABLE = ("model_config", "objective", "optim")
# These change what is written, not what is computed. Every other setting counts, also one that is added later.
HARMLESS = frozenset(
    {
        *("output_dir", "resume_from_checkpoint", "allow_changed_settings"),
        *("logging_steps", "eval_steps", "save_steps", "save_total_limit"),
        *("validation_shards", "max_eval_blocks", "per_device_eval_batch_size", "sample_prompts"),
        *("report_to", "push_to_hub", "hub_model_id", "hub_private_repo", "hub_strategy"),
        *("shards", "tokenizer"),  # folders may move: their content is compared by its hash
    }
)


def settings_of(arguments: PretrainArguments, num_processes: int) -> dict[str, Any]:
    """All that decides the bits of a run, except the shards and the tokenizer; `device` is the one of this machine."""
    names = [entry.name for entry in dataclasses.fields(PretrainArguments) if entry.name not in HARMLESS]
    values = {name: getattr(arguments, name) for name in names}
    settings = {**values, "num_processes": num_processes, "device": gpu_name() or "cpu"}
    entries = parse_shards(arguments.shards)
    if len(entries) > 1:
        paths = list(dict.fromkeys(entry.path for entry in entries))
        settings["mixture"] = [
            [paths.index(each.path), each.weight, each.start, each.stop] for each in entries
        ]
    return settings


def restore_settings(arguments: PretrainArguments, settings: Mapping[str, Any]) -> PretrainArguments:
    """Fill what `arguments` leave open from the `settings` of the run that is resumed."""
    settings = {RENAMED.get(name, name): value for name, value in settings.items()}
    names = [name for name in BY_RULE if getattr(arguments, name) is None]
    names += [name for name, left_open in BY_DEVICE.items() if getattr(arguments, name) == left_open]
    same_budget = all(
        getattr(arguments, name) == settings.get(name) for name in ("tokens", "num_train_epochs")
    )
    if arguments.max_steps < 0 and same_budget:
        names.append("max_steps")
    return dataclasses.replace(arguments, **{name: settings[name] for name in names if name in settings})


def share_step(
    arguments: PretrainArguments, settings: Mapping[str, Any], num_processes: int
) -> tuple[PretrainArguments, dict[str, int]]:
    """Share the steps of the run that is resumed among another number of processes: the same blocks in each step.

    Args:
        arguments: with the values of that run, see `restore_settings`.
        settings: of that run.
        num_processes: of this launch.

    Returns:
        The arguments with a micro-batch, at most as large as before, and accumulation that make the same step; and what
        a checkpoint keeps as `STEP`: the settings that the run began with. Nothing changes and nothing is kept where the
        processes are as many, or another step is asked for.

    Raises:
        UserError: the blocks of a step cannot be shared equally.
    """
    began_with: dict[str, int] = {name: settings[name] for name in STEP}
    micro_batch, accumulation, processes = began_with.values()
    size, micro_batches = arguments.per_device_train_batch_size, arguments.gradient_accumulation_steps
    if size is None or micro_batches is None or processes == num_processes:
        return arguments, {}
    blocks = micro_batch * accumulation * processes
    if size * micro_batches * num_processes == blocks:
        return arguments, began_with
    if (size, micro_batches) != (micro_batch, accumulation):
        return arguments, {}
    if blocks % num_processes:
        fitting = ", ".join(str(count) for count in range(1, blocks + 1) if blocks % count == 0)
        message = (
            f"a step of the run takes {blocks} blocks, which {num_processes} processes cannot share equally: start "
            f"{fitting} processes"
        )
        raise UserError("step_not_divisible", message, blocks=blocks, num_processes=num_processes)
    share = blocks // num_processes
    size = next(size for size in range(min(micro_batch, share), 0, -1) if share % size == 0)
    shared = dataclasses.replace(
        arguments, per_device_train_batch_size=size, gradient_accumulation_steps=share // size
    )
    return shared, began_with


def changed_device(settings: Mapping[str, Any]) -> bool:
    """Whether the run with these settings ran on another device; older checkpoints do not say on which."""
    return "device" in settings and settings["device"] != (gpu_name() or "cpu")


def portable_settings(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings that a resumed run takes over; on another device, those that depend on it are decided again."""
    if not changed_device(settings):
        return settings
    return {name: value for name, value in settings.items() if name not in BY_DEVICE}


def is_finished(arguments: PretrainArguments, content_hash: str) -> bool:
    """Whether `latest` finds a run that ended, with these settings and on these shards: there is nothing to do.

    Raises:
        UserError: a finished run of other settings or shards.
    """
    output_dir = Path(arguments.output_dir)
    if arguments.resume_from_checkpoint != "latest" or not (output_dir / "run.yaml").is_file():
        return False
    if not (output_dir / PROGRESS_FILE).is_file():  # nobody knows what it was trained on
        return False
    progress = read_progress(output_dir)
    before = progress["settings"]
    changed = _changed(before, settings_of(restore_settings(arguments, before), before["num_processes"]))
    if progress["content_hash"] != content_hash:
        changed["shards"] = "the shards are others"
    if changed:
        message = (
            f"{output_dir} holds a finished run of other settings ({'; '.join(changed.values())}): name a new output_dir, "
            "or remove the folder"
        )
        raise UserError("finished_run_differs", message, folder=output_dir, settings=list(changed))
    console.print(
        f"complete already: {output_dir}, {progress['step']} steps; for a new run name a new output_dir",
        soft_wrap=True,
    )
    return True


def check_settings(
    progress: dict[str, Any], settings: dict[str, Any], checkpoint: Path, allow_changed_settings: bool
) -> None:
    """List what is not as it was in the run that wrote the checkpoint.

    Args:
        progress: of the checkpoint.
        settings: of this run, see `settings_of`.

    Raises:
        UserError: something is not, and that is not allowed; or the model or the optimizer is another.
    """
    before = progress["settings"]
    changed = _changed(before, settings)
    if changed_device(before):
        others = [f"; {changed.pop(name)}" for name in BY_DEVICE if name in changed]
        console.print(
            f"device was {before['device']}, is {settings['device']}: other kernels, so not bit for bit the run of before"
            + "".join(others),
            soft_wrap=True,
        )
    elif before["num_threads"] != settings["num_threads"] and settings["device"] == "cpu":
        console.print(
            f"num_threads was {before['num_threads']}, is {settings['num_threads']}: sums in another order, so not bit "
            f"for bit the run of before; for that add --num_threads {before['num_threads']}",
            soft_wrap=True,
        )
    if not changed:
        return
    changes = "; ".join(changed.values())
    # the length that max_minutes has set is in the schedule by then
    length = ("max_minutes",) if progress.get("replanned") else ()
    if not changed.keys().isdisjoint(UNCHANGEABLE + length):
        message = f"{checkpoint} holds another model, optimizer or length ({changes}): name a new output_dir"
        raise UserError("cannot_resume", message, settings=list(changed))
    if not allow_changed_settings:
        message = (
            f"{checkpoint} was written with other settings ({changes}): set them back to resume exactly, or add "
            "--allow_changed_settings true"
        )
        raise UserError("settings_changed", message, settings=list(changed))
    console.print(f"resuming with changed settings: {changes}", soft_wrap=True)


def _changed(before: dict[str, Any], now: dict[str, Any]) -> dict[str, str]:
    """By name, what is reported of each setting that is another; `check_settings` reports what is the machine's own."""
    before = {RENAMED.get(name, name): value for name, value in before.items()}
    before = {name: DEFAULTS.get(name) for name in now} | before
    return {
        name: f"{name} was {before[name]}, is {now.get(name)}"
        for name in sorted(before)
        if before[name] != now.get(name) and name not in ("num_threads", "device")
    }
