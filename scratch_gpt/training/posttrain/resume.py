# SPDX-License-Identifier: Apache-2.0
"""Whether a run is what the command asks for: a finished one, or the one that a checkpoint is of; and its order of rows."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback
from trl.trainer.utils import RepeatSampler

from scratch_gpt.errors import UserError
from scratch_gpt.runs.folders import atomic_write, plain_settings, read_json, read_yaml
from scratch_gpt.runs.log import console
from scratch_gpt.runs.provenance import read_provenance
from scratch_gpt.training.posttrain.arguments import PosttrainingArguments


INPUT_MODELS = ("model_name_or_path", "reward_model", "teacher_model_name_or_path")
# With another one of these, a finished run is the same one.
HARMLESS = frozenset(
    {
        *("output_dir", "resume_from_checkpoint", "num_threads", "logging_steps", "save_total_limit"),
        *("report_to", "push_to_hub", "hub_model_id", "hub_private_repo", "dataloader_num_workers"),
    }
)
# These may change in the course of a run: they decide when it is measured and saved.
WHEN = frozenset({"save_steps", "save_strategy", "eval_steps", "eval_strategy"})
# Filled in by `resolve_defaults` where they are open.
RESOLVED = frozenset(
    {
        *("learning_rate", "num_train_epochs", "max_length", "use_peft"),
        *("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"),
    }
)
# Of a checkpoint: what it is a checkpoint of.
SETTINGS_FILE = "settings.json"


def input_models(arguments: PosttrainingArguments) -> dict[str, str | None]:
    """Setting -> folder of each model that a stage begins with, the one that is trained first."""
    return {name: getattr(arguments, name, None) for name in INPUT_MODELS}


def is_finished(arguments: PosttrainingArguments) -> bool:
    """Whether `latest` finds a run that ended, with these settings and these models: there is nothing to do.

    Raises:
        UserError: a finished run of other settings, or of a model that was trained again since.
    """
    output_dir = Path(arguments.output_dir)  # type: ignore[arg-type]
    if arguments.resume_from_checkpoint != "latest" or not (output_dir / "run.yaml").is_file():
        return False
    # a setting that was added after the run is assumed to be at its default
    defaults = {entry.name: entry.default for entry in fields(arguments)}
    before = defaults | read_yaml(output_dir / "run.yaml")
    open_settings = {name for name in RESOLVED if getattr(arguments, name, None) is None}
    changed = _changes(arguments, before, read_provenance(output_dir), HARMLESS | open_settings)
    if changed:
        message = (
            f"{output_dir} holds a finished run of other settings ({'; '.join(changed.values())}): name a new output_dir, "
            "or remove the folder"
        )
        raise UserError("finished_run_differs", message, folder=output_dir, settings=list(changed))
    console.print(f"complete already: {output_dir}; for a new run name a new output_dir", soft_wrap=True)
    return True


def check_settings(arguments: PosttrainingArguments, checkpoint: Path) -> None:
    """Refuse to resume another run: with the optimizer and the schedule of the checkpoint, new settings would have no effect.

    Args:
        arguments: resolved.

    Raises:
        UserError: other settings, or a model that was trained again since.
    """
    if not (checkpoint / SETTINGS_FILE).is_file():  # of an earlier version
        return
    saved = read_json(checkpoint / SETTINGS_FILE)
    if changed := _changes(arguments, saved["settings"], saved["provenance"], HARMLESS | WHEN):
        message = (
            f"{checkpoint} was written with other settings ({'; '.join(changed.values())}): set them back to resume, or "
            "name a new output_dir"
        )
        raise UserError("settings_changed", message, settings=list(changed))


def _changes(
    arguments: PosttrainingArguments,
    before: Mapping[str, Any],
    led_here: Sequence[Mapping[str, Any]],
    harmless: frozenset[str],
) -> dict[str, str]:
    """Setting -> how it differs from a run's.

    Args:
        before: settings of the run.
        led_here: provenance of its models.
    """
    changed = {
        name: f"{name} was {before.get(name)}, is {value}"
        for name, value in plain_settings(arguments).items()
        if name not in harmless and value != before.get(name)
    }
    for name, model in input_models(arguments).items():
        if any(record not in led_here for record in read_provenance(model)):
            changed[name] = f"{name} {model} was trained again since"
    return changed


class SettingsOfCheckpoint(TrainerCallback):
    """Writes beside each checkpoint what `check_settings` compares."""

    def __init__(self, arguments: PosttrainingArguments) -> None:
        records = [record for model in input_models(arguments).values() for record in read_provenance(model)]
        self.content = {"settings": plain_settings(arguments), "provenance": records}

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            file = Path(args.output_dir) / f"checkpoint-{state.global_step}" / SETTINGS_FILE
            with atomic_write(file) as temporary:
                temporary.write_text(json.dumps(self.content, indent=1) + "\n", encoding="utf-8")


def resume_order(trainer: Trainer, epochs: int) -> None:
    """Let TRL's sampler of prompts, whose generator no checkpoint holds, continue after the orders of the finished epochs."""
    get_sampler = trainer._get_train_sampler

    def get_resumed(*args: Any, **kwargs: Any) -> Any:
        sampler = get_sampler(*args, **kwargs)
        if isinstance(sampler, RepeatSampler) and sampler.shuffle:
            for _ in range(epochs):
                torch.randperm(sampler.num_samples, generator=sampler.generator)
        return sampler

    trainer._get_train_sampler = get_resumed


def check_prompts(trainer: Trainer) -> None:
    """Raise UserError where no step has enough prompts: TRL's sampler leaves an incomplete one out, and none would remain."""
    sampler = trainer._get_train_sampler(trainer.train_dataset)
    if isinstance(sampler, RepeatSampler) and sampler.num_samples < sampler.batch_size:
        message = (
            f"{sampler.num_samples} training prompts are too few: a step takes {sampler.batch_size}: lower "
            "per_device_train_batch_size or give more prompts"
        )
        raise UserError("too_few_prompts", message, found=sampler.num_samples, needed=sampler.batch_size)
