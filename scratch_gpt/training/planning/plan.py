# SPDX-License-Identifier: Apache-2.0
"""The plan of a pretraining run: every setting decided, once, with where its value is from.

Given values stay. What is open comes from the checkpoint that is resumed, else from a scaling rule or the machine.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from transformers import PreTrainedConfig, PreTrainedTokenizerFast

from scratch_gpt.data.shards.mixed_blocks import MixedBlocks
from scratch_gpt.errors import UserError
from scratch_gpt.runs.checkpoints import MANIFEST_FILE, checkpoint_step, read_progress, resolve_checkpoint
from scratch_gpt.runs.cost import count_parameters
from scratch_gpt.runs.log import console
from scratch_gpt.settings.hardware import describe_compute, gpu_memory
from scratch_gpt.training.planning.execution import choose_attention, choose_checkpointing, choose_compilation
from scratch_gpt.training.planning.launcher import Launcher, launcher_of_environment
from scratch_gpt.training.planning.memory import OptimizerBuilder, StepSettings, memory_of_a_step
from scratch_gpt.training.planning.mixture import check_phases, describe_mixture
from scratch_gpt.training.planning.resume import (
    BY_DEVICE,
    check_settings,
    portable_settings,
    restore_settings,
    settings_of,
    share_step,
)
from scratch_gpt.training.planning.scaling import (
    CPU_MICRO_BATCH_TOKENS,
    GOOD_PASSES,
    Scale,
    apply_scaling_rules,
    good_passes,
)
from scratch_gpt.training.pretrain.arguments import PretrainArguments
from scratch_gpt.training.pretrain.continued import base_config, read_base_run
from scratch_gpt.training.pretrain.optimization import build_optimizer
from scratch_gpt.training.pretrain.setup import build_config, select_precision_and_threads


# The rest of a device goes to its driver's context and to holes between blocks of the allocator.
USABLE_SHARE = 0.9

Origin = Literal["user", "config", "default", "checkpoint", "rule", "hardware"]
# Settings that may be left open, and who decides then where nothing is resumed.
OPEN: dict[str, Origin] = {
    **{entry.name: "rule" for entry in dataclasses.fields(Scale)},
    "mixed_precision": "hardware",
    "num_threads": "hardware",
    "attn_implementation": "hardware",
    "torch_compile": "rule",
    "activation_checkpointing": "rule",
}


@dataclass(frozen=True, kw_only=True)
class PretrainPlan(PretrainArguments):
    """The settings of a run with nothing open, and what follows from them.

    Attributes:
        num_processes: of the launch.
        sequence_length: tokens of a block.
        config: of the model.
        checkpoint: to resume from, None for a new run.
        began_with: the `STEP` settings of a run that began with another number of processes, else empty.
        origins: where the value of each setting is from.
        rules: a line for each value that a scaling rule gave.
        mixture: a line for each folder of shards, where there are several.
    """

    # `field()`: without the default of the class above
    max_steps: int = field()
    per_device_train_batch_size: int = field()
    gradient_accumulation_steps: int = field()
    learning_rate: float = field()
    warmup_steps: int = field()
    mixed_precision: Literal["no", "bf16", "fp16"] = field()
    num_threads: int = field()
    attn_implementation: Literal["sdpa", "eager", "flex_attention", "flash_attention_2", "varlen"] = field()
    torch_compile: bool = field()
    activation_checkpointing: bool = field()
    num_processes: int
    sequence_length: int
    config: PreTrainedConfig
    checkpoint: Path | None
    began_with: Mapping[str, int]
    origins: Mapping[str, Origin]
    rules: Sequence[str]
    mixture: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Nothing: the values were checked before they were decided upon."""

    @property
    def blocks_per_step(self) -> int:
        """Blocks of all processes in one optimizer step."""
        return self.per_device_train_batch_size * self.gradient_accumulation_steps * self.num_processes

    def settings(self) -> dict[str, Any]:
        """What decides the bits of the run, as checkpoints keep it."""
        return settings_of(self, self.num_processes) | dict(self.began_with)

    def to_dict(self) -> dict[str, Any]:
        """The settings as `run.yaml` has them; what the machine decided is open, as that file may serve on another one."""
        values = {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(PretrainArguments)}
        left_open = {**BY_DEVICE, "num_threads": None}
        decided = {name for name in left_open if self.origins[name] in ("hardware", "rule", "checkpoint")}
        return values | {name: left_open[name] for name in decided}


def step_settings(arguments: PretrainArguments, launcher: Launcher, sequence_length: int) -> StepSettings:
    """One step's settings; what is open of the batch counts as 1 block, in more than one micro-batch."""
    return StepSettings(
        micro_batch=arguments.per_device_train_batch_size or 1,
        sequence_length=sequence_length,
        accumulation=arguments.gradient_accumulation_steps or 2,
        # bfloat16 is what nearly all hardware of today is faster with
        mixed_precision="bf16" if arguments.mixed_precision == "auto" else arguments.mixed_precision,
        activation_checkpointing=bool(arguments.activation_checkpointing)
        or launcher.activation_checkpointing,
        num_processes=launcher.num_processes,
        sharded=launcher.sharded,
    )


def optimizer_builder(arguments: PretrainArguments, mixed_precision: str) -> OptimizerBuilder:
    """What makes the run's optimizer; an open learning rate counts as 1e-3, its memory is the same."""
    learning_rate = arguments.learning_rate or 1e-3
    betas = (arguments.adam_beta1, arguments.adam_beta2)
    return lambda model: build_optimizer(
        model, arguments.optim, learning_rate, arguments.weight_decay, betas, mixed_precision
    )


def resolve_scale(
    arguments: PretrainArguments,
    config: PreTrainedConfig,
    launcher: Launcher,
    sequence_length: int,
    manifest: Mapping[str, Any] | None,
    device_memory: float | None,
) -> tuple[Scale, bool, list[str]]:
    """The scale of the run, checkpointed activations, and lines that say where the new values are from.

    See `apply_scaling_rules` and `choose_checkpointing`.

    Args:
        manifest: of the training shards; None where there are none yet.
        device_memory: bytes of a GPU, which bound the micro-batch; None: a CPU, whose caches do.
    """
    settings = step_settings(arguments, launcher, sequence_length)
    optimizer_of = optimizer_builder(arguments, settings.mixed_precision)

    def fits(micro_batch: int) -> bool:
        if device_memory is None:
            return micro_batch * sequence_length <= CPU_MICRO_BATCH_TOKENS
        trial = dataclasses.replace(settings, micro_batch=micro_batch)
        needed = memory_of_a_step(config, trial, optimizer_of, arguments.attn_implementation)
        return sum(needed.values()) <= USABLE_SHARE * device_memory

    # not twice, where the launcher wraps the layers already
    needs_room = bool(device_memory) and not launcher.activation_checkpointing
    checkpointing = choose_checkpointing(arguments, sequence_length, fits if needs_room else None)
    settings = dataclasses.replace(
        settings, activation_checkpointing=checkpointing or launcher.activation_checkpointing
    )
    scale, lines = apply_scaling_rules(
        arguments,
        count_parameters(config),
        sequence_length=sequence_length,
        available_tokens=manifest["blocks"] * sequence_length if manifest else None,
        passes=good_passes(manifest) if manifest else GOOD_PASSES,
        base_run=read_base_run(arguments.model_name_or_path) if arguments.model_name_or_path else None,
        num_processes=launcher.num_processes,
        fits=fits,
    )
    return scale, checkpointing, lines


def resolve(
    arguments: PretrainArguments, tokenizer: PreTrainedTokenizerFast, blocks: MixedBlocks, num_processes: int
) -> PretrainPlan:
    """Decide all that `arguments` leave open; all processes call it and get the same plan.

    Args:
        blocks: of the training split.

    Raises:
        UserError: a model that cannot be, or does not fit; a checkpoint or folder that cannot be used; a run of other
            settings or shards; a step of more blocks than there are.
    """
    checkpoint = resolve_checkpoint(
        Path(arguments.output_dir), arguments.resume_from_checkpoint, MANIFEST_FILE
    )
    progress = read_progress(checkpoint) if checkpoint else None
    sequence_length = blocks.manifest["sequence_length"]
    model = (arguments.objective, arguments.model_config, tokenizer, sequence_length)
    if arguments.model_name_or_path:
        config = base_config(arguments.model_name_or_path, *model)
    else:
        config = build_config(*model)
    restored = arguments
    began_with: Mapping[str, int] = {}
    if progress:
        restored = restore_settings(arguments, portable_settings(progress["settings"]))
        restored, began_with = share_step(restored, progress["settings"], num_processes)
    launcher = launcher_of_environment(num_processes)
    hardware = select_precision_and_threads(restored.mixed_precision, restored.num_threads)
    with_precision = dataclasses.replace(restored, mixed_precision=hardware.mixed_precision)  # type: ignore[arg-type]
    scale, checkpointing, rules = resolve_scale(
        with_precision, config, launcher, sequence_length, blocks.manifest, gpu_memory()
    )
    values = {entry.name: getattr(restored, entry.name) for entry in dataclasses.fields(PretrainArguments)}
    own_blocks = scale.max_steps * scale.per_device_train_batch_size * scale.gradient_accumulation_steps
    torch_compile, reason = choose_compilation(
        restored.torch_compile, config, own_blocks * sequence_length, sequence_length
    )
    decided = {
        **dataclasses.asdict(scale),
        **dataclasses.asdict(hardware),
        "attn_implementation": choose_attention(
            restored.attn_implementation, config, hardware.mixed_precision
        ),
        "torch_compile": torch_compile,
        "activation_checkpointing": checkpointing,
    }
    plan = PretrainPlan(
        **(values | decided),
        num_processes=num_processes,
        sequence_length=sequence_length,
        config=config,
        checkpoint=checkpoint,
        began_with=began_with,
        origins=origins_of(arguments, restored),
        rules=[*rules, reason] if reason else rules,
    )
    if plan.blocks_per_step > len(blocks):
        message = (
            f"one step takes {plan.blocks_per_step} blocks and the shards hold {len(blocks)}: lower "
            "per_device_train_batch_size or gradient_accumulation_steps, or write more text"
        )
        raise UserError("step_too_large", message, blocks=plan.blocks_per_step)
    if checkpoint and progress:
        if progress["content_hash"] != blocks.manifest["content_hash"]:
            if not plan.allow_changed_settings:
                message = (
                    f"{checkpoint} was trained on other shards than {' and '.join(blocks.parts)}: name a new output_dir, or "
                    "add --allow_changed_settings true to train on with these"
                )
                raise UserError("trained_on_other_shards", message, folder=checkpoint)
            console.print(f"continuing on other shards: {', '.join(blocks.parts)}", soft_wrap=True)
        check_settings(progress, plan.settings(), checkpoint, plan.allow_changed_settings)
        check_phases(blocks, plan.max_steps, plan.blocks_per_step, checkpoint, progress)
    first_step = min(checkpoint_step(checkpoint), plan.max_steps) if checkpoint else 0
    mixture = describe_mixture(blocks, plan.max_steps, plan.blocks_per_step, first_step)
    return dataclasses.replace(plan, mixture=mixture)


def origins_of(arguments: PretrainArguments, restored: PretrainArguments) -> dict[str, Origin]:
    """Where the value of each setting is from.

    Args:
        arguments: as given.
        restored: the same with the values of the run that is resumed.
    """
    origins: dict[str, Origin] = {}
    for entry in dataclasses.fields(PretrainArguments):
        default = entry.default_factory() if callable(entry.default_factory) else entry.default
        changed = getattr(arguments, entry.name) != default
        origins[entry.name] = arguments.given.get(entry.name) or ("user" if changed else "default")
    budget = next(
        (name for name in ("tokens", "num_train_epochs") if getattr(arguments, name) is not None), None
    )
    for name, origin in OPEN.items():
        if getattr(arguments, name) not in (None, -1, "auto"):
            continue
        origins[name] = origins[budget] if name == "max_steps" and budget else origin
        if getattr(restored, name) != getattr(arguments, name):
            origins[name] = "checkpoint"
    for name in ("per_device_train_batch_size", "gradient_accumulation_steps"):
        if getattr(arguments, name) not in (None, getattr(restored, name)):
            origins[name] = "checkpoint"  # shared among other processes
    return origins


def announce(plan: PretrainPlan, num_parameters: int, tokens: int) -> None:
    """Print what will be trained, which values were decided here, and by what.

    Args:
        tokens: of text in the shards.
    """
    if plan.model_name_or_path and not plan.checkpoint:
        console.print(f"begins with the weights of {plan.model_name_or_path}: {plan.config.architectures[0]}")
    for line in plan.rules:
        console.print(f"by rule: {line}", markup=False, highlight=False)
    for line in plan.mixture:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    decided = ", ".join(f"{name} {getattr(plan, name)} ({plan.origins[name]})" for name in OPEN)
    console.print(f"settings: {decided}", soft_wrap=True)
    if plan.began_with:
        size, micro_batches, processes = plan.began_with.values()
        console.print(
            f"num_processes was {processes}, is {plan.num_processes}: {plan.blocks_per_step} blocks a step as before, "
            f"{plan.per_device_train_batch_size} x {plan.gradient_accumulation_steps} in each process (was {size} x "
            f"{micro_batches}); the same blocks in the same order, sums in another, so losses differ by rounding",
            soft_wrap=True,
        )
    if plan.warmup_steps > plan.max_steps:
        console.print(
            f"warning: warmup_steps {plan.warmup_steps} are more than the run's {plan.max_steps} steps: the learning "
            "rate does not reach its peak",
            soft_wrap=True,
        )
    console.print(
        f"{num_parameters:,} parameters, {plan.max_steps} steps, {tokens:,} tokens in the shards; "
        + describe_compute(plan.mixed_precision, plan.num_threads, plan.num_processes)
        + (f"; resuming after step {checkpoint_step(plan.checkpoint)}" if plan.checkpoint else "")
    )
