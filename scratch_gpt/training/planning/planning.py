# SPDX-License-Identifier: Apache-2.0
"""What a pretraining run will need, before anything is trained: parameters, compute, memory, time, cost.

Nothing here allocates a weight: parameters are counted on the meta device, memory on fake tensors (memory.py).
"""

import dataclasses
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml
from huggingface_hub.errors import StrictDataclassError
from rich.table import Table

from scratch_gpt.configuration_scratch_gpt import ScratchGPTConfig
from scratch_gpt.data.shards.blocks import PackedBlocks
from scratch_gpt.errors import UserError, wrong_value
from scratch_gpt.runs.cost import count_parameters, training_flops_per_token
from scratch_gpt.runs.log import console
from scratch_gpt.tokenization import load_tokenizer
from scratch_gpt.training.planning.memory import (
    OptimizerBuilder,
    StepSettings,
    largest_micro_batch,
    memory_of_a_step,
)
from scratch_gpt.training.pretrain.arguments import PretrainArguments
from scratch_gpt.training.pretrain.objectives import check_model_config
from scratch_gpt.training.pretrain.optimization import build_optimizer
from scratch_gpt.training.pretrain.scaling import (
    CHINCHILLA_TOKENS_PER_PARAMETER,
    CPU_MICRO_BATCH_TOKENS,
    apply_scaling_rules,
)


# The rest of a device goes to its driver's context and to holes between blocks of the allocator.
USABLE_SHARE = 0.9
GIB = 2**30

Arguments = TypeVar("Arguments", bound=PretrainArguments)


@dataclass
class PlanArguments(PretrainArguments):
    """Settings of `scratch-gpt plan`: those of pretraining, and what the run will meet."""

    accelerate_config: str | None = field(
        default=None,
        metadata={
            "help": "Launcher settings, a YAML file: processes, sharding, checkpointing. Default: one process."
        },
    )
    sequence_length: int | None = field(
        default=None,
        metadata={"help": "Tokens in a block. Default: as in the shards if they exist, else all positions."},
    )
    device_memory: float | None = field(
        default=None,
        metadata={
            "help": "GiB of one GPU: the plan says which micro-batch fits. Default: planned for a CPU."
        },
    )
    tokens_per_second: float | None = field(
        default=None,
        metadata={"help": "Throughput of all processes together, as eval/engineering/speed.py measures it."},
    )
    cost_per_hour: float | None = field(
        default=None, metadata={"help": "Price of all devices together for one hour, in your currency."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("sequence_length", "device_memory", "tokens_per_second"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise wrong_value(name, value, "above 0")


@dataclass(frozen=True)
class Launcher:
    """What the plan needs of an Accelerate configuration file."""

    num_processes: int = 1
    sharded: bool = False
    gradient_checkpointing: bool = False


def read_launcher(path: str | None) -> Launcher:
    """The settings of an Accelerate YAML; one process without a file. Its precision is not asked, see `ComputeSettings`.

    Raises:
        UserError: there is no such file, or it is no YAML mapping.
    """
    if path is None:
        return Launcher()
    if not Path(path).is_file():
        raise UserError("file_not_found", f"--accelerate_config: no file {path}", file=path)
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
        gradient_checkpointing=bool(fsdp.get("fsdp_activation_checkpointing", False)),
    )


def launcher_of_environment(num_processes: int) -> Launcher:
    """What `accelerate launch` told this process."""
    return Launcher(
        num_processes=num_processes,
        sharded=os.environ.get("ACCELERATE_USE_FSDP", "") == "true",
        gradient_checkpointing=os.environ.get("FSDP_ACTIVATION_CHECKPOINTING", "") == "true",
    )


def gpu_memory() -> int | None:
    """Bytes of this machine's first GPU, None without one."""
    return torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else None


def step_settings(arguments: PretrainArguments, launcher: Launcher, sequence_length: int) -> StepSettings:
    """One step's settings; what is open of the batch counts as 1 block, in more than one micro-batch."""
    return StepSettings(
        micro_batch=arguments.per_device_train_batch_size or 1,
        sequence_length=sequence_length,
        accumulation=arguments.gradient_accumulation_steps or 2,
        # bfloat16 is what nearly all hardware of today is faster with
        mixed_precision="bf16" if arguments.mixed_precision == "auto" else arguments.mixed_precision,
        gradient_checkpointing=arguments.gradient_checkpointing or launcher.gradient_checkpointing,
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


def complete(
    arguments: Arguments,
    config: ScratchGPTConfig,
    launcher: Launcher,
    sequence_length: int,
    available_tokens: int | None,
    device_memory: float | None,
) -> tuple[Arguments, list[str]]:
    """`arguments` with nothing open, and lines that say where the new values are from: see `apply_scaling_rules`.

    Args:
        device_memory: bytes of a GPU, which bound the micro-batch; None: a CPU, whose caches do.
    """
    settings = step_settings(arguments, launcher, sequence_length)

    def fits(micro_batch: int) -> bool:
        if device_memory is None:
            return micro_batch * sequence_length <= CPU_MICRO_BATCH_TOKENS
        trial = dataclasses.replace(settings, micro_batch=micro_batch)
        optimizer_of = optimizer_builder(arguments, settings.mixed_precision)
        needed = memory_of_a_step(config, trial, optimizer_of, arguments.attn_implementation)
        return sum(needed.values()) <= USABLE_SHARE * device_memory

    return apply_scaling_rules(
        arguments,
        count_parameters(config),
        sequence_length=sequence_length,
        available_tokens=available_tokens,
        num_processes=launcher.num_processes,
        fits=fits,
    )


@dataclass(frozen=True)
class Plan:
    """The figures of a run; memory in bytes, time in seconds, unknown ones None.

    Attributes:
        arguments: with nothing open.
        rules: a line for each value that was found by a rule.
    """

    arguments: PlanArguments
    rules: list[str]
    config: ScratchGPTConfig
    settings: StepSettings
    parameters: dict[str, int]
    flops_per_token: dict[str, int]
    memory: dict[str, int]
    tokens_per_step: int
    tokens: int
    largest_micro_batch: int | None
    seconds: float | None
    cost: float | None

    @property
    def num_parameters(self) -> int:
        """All parameters."""
        return sum(self.parameters.values())

    @property
    def chinchilla_tokens(self) -> int:
        """The token budget that makes the best of the compute at this size."""
        return CHINCHILLA_TOKENS_PER_PARAMETER * self.num_parameters


def make_plan(arguments: PlanArguments) -> Plan:
    """Plan the run that `train/pretrain.py` would start with these arguments and launcher settings.

    Raises:
        UserError: the vocabulary is not known yet, a file is missing, or the model cannot be.
    """
    if arguments.objective != "causal":
        message = f"plan knows objective causal alone, got {arguments.objective}"
        raise UserError("wrong_value", message, setting="objective", value=arguments.objective)
    launcher = read_launcher(arguments.accelerate_config)
    shards = Path(str(arguments.shards)) / "train"
    manifest = PackedBlocks(shards).manifest if (shards / "manifest.json").is_file() else None
    model_config: dict[str, Any] = dict(arguments.model_config)  # type: ignore[arg-type]  # a mapping once parsed
    if "vocab_size" not in model_config:
        if not Path(str(arguments.tokenizer)).is_dir():
            message = (
                f"the vocabulary is not known: there is no tokenizer in {arguments.tokenizer} yet; run its stage, or "
                "give vocab_size in model_config"
            )
            raise UserError("no_tokenizer", message, folder=arguments.tokenizer)
        model_config["vocab_size"] = len(load_tokenizer(str(arguments.tokenizer)))
    sequence_length = arguments.sequence_length or (manifest or model_config).get(
        "sequence_length" if manifest else "max_position_embeddings"
    )
    if sequence_length is None:
        message = "sequence_length is not known: there are no shards yet, so give --sequence_length"
        raise UserError("setting_missing", message, setting="sequence_length")
    model_config.setdefault("max_position_embeddings", sequence_length)
    check_model_config(model_config, ScratchGPTConfig.model_type)
    try:
        config = ScratchGPTConfig(**model_config)
    except (ValueError, StrictDataclassError) as error:
        raise UserError("invalid_model_config", f"model_config: {error}") from None

    memory = arguments.device_memory * GIB if arguments.device_memory else None
    available = manifest["blocks"] * sequence_length if manifest else None
    arguments, rules = complete(arguments, config, launcher, sequence_length, available, memory)
    settings = step_settings(arguments, launcher, sequence_length)
    optimizer_of = optimizer_builder(arguments, settings.mixed_precision)
    tokens_per_step = settings.micro_batch * settings.accumulation * settings.num_processes * sequence_length
    tokens = arguments.max_steps * tokens_per_step
    seconds = tokens / arguments.tokens_per_second if arguments.tokens_per_second else None
    attention = arguments.attn_implementation
    return Plan(
        arguments=arguments,
        rules=rules,
        config=config,
        settings=settings,
        parameters=count_parameters(config),
        flops_per_token=training_flops_per_token(config, sequence_length),
        memory=memory_of_a_step(config, settings, optimizer_of, attention),
        tokens_per_step=tokens_per_step,
        tokens=tokens,
        largest_micro_batch=largest_micro_batch(
            config, settings, optimizer_of, USABLE_SHARE * memory, attention
        )
        if memory
        else None,
        seconds=seconds,
        cost=seconds / 3600 * arguments.cost_per_hour if seconds and arguments.cost_per_hour else None,
    )


def print_plan(plan: Plan) -> None:
    """The plan as tables for a terminal."""
    arguments, settings = plan.arguments, plan.settings
    tables = [
        _table("parameters", {name: f"{count:,}" for name, count in plan.parameters.items() if count}),
        _table(
            "training FLOPs a token", {name: f"{flops:,}" for name, flops in plan.flops_per_token.items()}
        ),
        _table(
            "GiB of one process at the peak",
            {name: f"{size / GIB:.3f}" for name, size in plan.memory.items()},
        ),
    ]
    for table, total in zip(
        tables,
        (
            f"{plan.num_parameters:,}",
            f"{sum(plan.flops_per_token.values()):,}",
            f"{sum(plan.memory.values()) / GIB:.3f}",
        ),
    ):
        table.add_section()
        table.add_row("together", total)
        console.print(table)
    how = [f"{settings.mixed_precision} precision", f"{settings.num_processes} process(es)"]
    how += ["sharded"] * settings.sharded + ["checkpointed activations"] * settings.gradient_checkpointing
    facts = {
        "micro-batch": f"{settings.micro_batch} x {settings.sequence_length} tokens",
        "how": ", ".join(how),
        "tokens a step": f"{plan.tokens_per_step:,}, in {settings.accumulation} micro-batch(es)",
        "steps": f"{arguments.max_steps:,}, {arguments.warmup_steps:,} of them warm-up",
        "learning rate": f"{arguments.learning_rate:g}",
    }
    if plan.largest_micro_batch is not None:
        facts[f"largest micro-batch in {USABLE_SHARE:.0%} of {arguments.device_memory:g} GiB"] = (
            f"{plan.largest_micro_batch} blocks"
            if plan.largest_micro_batch
            else "none: one block is too much"
        )
    facts["Chinchilla's budget"] = (
        f"{plan.chinchilla_tokens:,} tokens, {CHINCHILLA_TOKENS_PER_PARAMETER} a parameter"
    )
    flops = plan.tokens * sum(plan.flops_per_token.values())
    share = plan.tokens / plan.chinchilla_tokens
    facts["token budget"] = f"{plan.tokens:,}, {plan.tokens / plan.num_parameters:.1f} a parameter"
    facts["budget against Chinchilla's"] = f"{share:.2f} times"
    facts["training FLOPs"] = f"{flops:.3g}"
    if plan.seconds:
        facts["time"] = f"{plan.seconds / 3600:,.2f} hours"
        facts["FLOP/s needed for that"] = f"{flops / plan.seconds:.3g}"
    if plan.cost:
        facts["cost"] = f"{plan.cost:,.2f}"
    console.print(_table("the run", facts))
    for line in plan.rules:
        console.print(f"by rule: {line}", markup=False, highlight=False)


def _table(title: str, rows: dict[str, str]) -> Table:
    table = Table("what", title=title, title_justify="left")
    table.add_column("how much", justify="right")
    for name, value in rows.items():
        table.add_row(name, value)
    return table
