# SPDX-License-Identifier: Apache-2.0
"""Settings that come from TRL and transformers: those that a stage would not use, and values that they would take silently."""

import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from transformers import GenerationConfig
from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION

from scratch_gpt.errors import UserError, did_you_mean, wrong_value
from scratch_gpt.settings.checking import Range


# Settings of TRL's that no stage has a use for -> what to do in their place; a stage's own are in its `unused`.
UNUSED = {
    "chat_template_path": "conversations are written by the chat template of the model's folder: change chat_template.jinja there",
    "eos_token": "an answer ends with the token that the chat template writes behind it: change chat_template.jinja in the model's folder",
    "pad_token": "rows are padded with the token that the tokenizer names: change tokenizer_config.json in the model's folder",
    "truncation_mode": "rows over max_length are left out, never cut: raise max_length",
    "dataset_text_field": "name the columns in the source: columns: {prompt: NAME, response: NAME}",
    "dataset_kwargs": "rows are tokenized by the stage itself: leave it out",
    "max_tool_calling_iterations": "answers are written without tools: leave it out",
}

_COUNT = Range("at least 1", lambda value: value >= 1)
_SHARE = Range("above 0 and at most 1", lambda value: 0 < value <= 1)
_BELOW_ONE = Range("at least 0 and below 1", lambda value: 0 <= value < 1)
_NOT_NEGATIVE = Range("at least 0", lambda value: value >= 0)
_POSITIVE = Range("above 0", lambda value: value > 0)
# What torch refuses with a traceback in the middle of a run, or nobody does.
RANGES = {
    **dict.fromkeys(("per_device_train_batch_size", "per_device_eval_batch_size"), _COUNT),
    **dict.fromkeys(("gradient_accumulation_steps", "max_length", "max_completion_length"), _COUNT),
    **dict.fromkeys(("adam_beta1", "adam_beta2"), _BELOW_ONE),
    **dict.fromkeys(("weight_decay", "max_grad_norm", "learning_rate"), _NOT_NEGATIVE),
    **dict.fromkeys(("num_train_epochs", "temperature", "repetition_penalty"), _POSITIVE),
    **dict.fromkeys(("top_p", "top_entropy_quantile"), _SHARE),
    "label_smoothing": Range("at least 0 and below 0.5", lambda value: 0 <= value < 0.5),
    "label_smoothing_factor": _BELOW_ONE,
    "ld_alpha": Range("at least 0 and at most 1", lambda value: 0 <= value <= 1),
}


def refuse_unused(arguments: Any, cures: Mapping[str, str]) -> None:
    """Refuse settings of TRL's that a stage accepts and does not use.

    Args:
        cures: setting -> what to do in its place; settings that `arguments` do not have are passed over.

    Raises:
        UserError: one of them is not its default.
    """
    for entry in fields(arguments):
        value = getattr(arguments, entry.name)
        if entry.name in cures and value != entry.default:
            message = f"{entry.name} {value} has no effect here: {cures[entry.name]}"
            raise UserError("setting_without_effect", message, setting=entry.name)


def refuse_without(arguments: Any, switch: str, names: Sequence[str]) -> None:
    """Refuse settings that only count where another one is given.

    Raises:
        UserError: one of `names` is not its default, and `switch` is empty.
    """
    defaults = {entry.name: entry.default for entry in fields(arguments)}
    for name in names:
        value = getattr(arguments, name)
        if not getattr(arguments, switch) and value != defaults[name]:
            message = f"{name} {value} has no effect without {switch}"
            raise UserError("setting_without_effect", message, setting=name)


def refuse_sharding(arguments: Any) -> None:
    """Refuse weights that are divided among processes: the finished model is written by one of them.

    Raises:
        UserError: by the launcher or by a setting, FSDP or DeepSpeed; by the launcher, Megatron.
    """
    for kind in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
        launched = os.environ.get(f"ACCELERATE_USE_{kind}") == "true"
        if launched or getattr(arguments, kind.lower(), None):
            message = (
                f"{kind} is not supported after pretraining, where each process holds the whole model: use "
                "train/accelerate/multi_gpu.yaml, and use_peft or activation_checkpointing if memory runs out"
            )
            raise UserError("unsupported_parallelism", message, kind=kind)


def check_ranges(arguments: Any) -> None:
    """Refuse numbers that make no sense, and what needs a GPU where there is none.

    Raises:
        UserError: such a setting.
    """
    for name, limits in RANGES.items():
        value = getattr(arguments, name, None)
        if value is not None and not limits.holds(value):
            raise wrong_value(name, value, limits.wanted)
    if getattr(arguments, "activation_offloading", False) and not torch.accelerator.is_available():
        message = "activation_offloading needs a GPU to take activations from: leave it out"
        raise UserError("setting_without_effect", message, setting="activation_offloading")


def check_options(arguments: Any) -> None:
    """Refuse options that the schedule of the learning rate or `generate` does not have.

    Behind transformers' own checks, which make mappings of text.

    Raises:
        UserError: such an option.
    """
    known = inspect.signature(TYPE_TO_SCHEDULER_FUNCTION[arguments.lr_scheduler_type]).parameters
    for name in arguments.lr_scheduler_kwargs or {}:
        if name not in known:
            message = (
                f"lr_scheduler_kwargs: the schedule {arguments.lr_scheduler_type.value} has no option "
                f"{name}{did_you_mean(name, known)}"
            )
            raise UserError("unknown_key", message, key=name)
    options = getattr(arguments, "generation_kwargs", None)
    for name in options if isinstance(options, dict) else ():
        if not hasattr(GenerationConfig(), name):
            message = f"generation_kwargs: generate has no option {name}{did_you_mean(name, vars(GenerationConfig()))}"
            raise UserError("unknown_key", message, key=name)
