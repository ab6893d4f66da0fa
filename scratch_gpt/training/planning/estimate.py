# SPDX-License-Identifier: Apache-2.0
"""What a pretraining run will need, before anything is trained: parameters, compute, memory, time, cost.

Parameters are counted on the meta device, memory on fake tensors (memory.py); the speed of this machine is measured
(speed.py).
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from huggingface_hub.errors import StrictDataclassError
from rich.table import Table
from transformers import PreTrainedConfig

from scratch_gpt.configuration_scratch_gpt import ScratchGPTConfig
from scratch_gpt.data.shards.arguments import ShardsArguments, TokenizerArguments
from scratch_gpt.data.shards.document_tokenizer import load_document_tokenizer
from scratch_gpt.data.shards.mixed_blocks import MixedBlocks, parse_shards
from scratch_gpt.errors import UserError
from scratch_gpt.publishing.facts import duration
from scratch_gpt.runs.cost import count_parameters, training_flops_per_token
from scratch_gpt.runs.log import console
from scratch_gpt.settings.checking import Count, Positive
from scratch_gpt.settings.hardware import best_precision, choose_threads, describe_compute, gpu_memory
from scratch_gpt.training.planning.execution import choose_attention, choose_compilation
from scratch_gpt.training.planning.launcher import read_launcher
from scratch_gpt.training.planning.memory import StepSettings, largest_micro_batch, memory_of_a_step
from scratch_gpt.training.planning.plan import USABLE_SHARE, optimizer_builder, resolve_scale, step_settings
from scratch_gpt.training.planning.scaling import CHINCHILLA_TOKENS_PER_PARAMETER, Scale
from scratch_gpt.training.planning.speed import measure_speed
from scratch_gpt.training.pretrain.arguments import PretrainArguments
from scratch_gpt.training.pretrain.continued import base_config, load_run_tokenizer
from scratch_gpt.training.pretrain.objectives import check_model_config


GIB = 2**30


@dataclass(frozen=True)
class PlanArguments(PretrainArguments):
    """Settings of `scratch-gpt plan`: those of pretraining, none of them required, and what the run will meet."""

    required: ClassVar[tuple[str, ...]] = ()

    accelerate_config: str | None = field(
        default=None,
        metadata={
            "help": "Launcher settings, a YAML file: processes, sharding, checkpointing. Default: one process."
        },
    )
    sequence_length: Count | None = field(
        default=None,
        metadata={
            "help": "Tokens in a block. Default: as in the shards if they exist, else all positions of model_config."
        },
    )
    device_memory: Positive | None = field(
        default=None,
        metadata={
            "help": "GiB of one GPU: the plan says which micro-batch fits. Default: this machine's GPU, or its CPU."
        },
    )
    tokens_per_second: Positive | None = field(
        default=None,
        metadata={
            "help": "Throughput of all processes together. Default: measured here for some seconds, with one process."
        },
    )
    cost_per_hour: Positive | None = field(
        default=None, metadata={"help": "Price of all devices together for one hour, in your currency."}
    )


@dataclass(frozen=True)
class Estimate:
    """The figures of a run; memory in bytes, unknown ones None.

    Attributes:
        arguments: as given.
        scale: what they leave open is filled.
        rules: a line for each value that was found by a rule.
        assumptions: a line for each value of stages that have not run yet.
        passes: over the shards; None where there are none yet.
        how: where `tokens_per_second` is from, or why there is none.
    """

    arguments: PlanArguments
    scale: Scale
    rules: list[str]
    assumptions: list[str]
    config: PreTrainedConfig
    settings: StepSettings
    parameters: dict[str, int]
    flops_per_token: dict[str, int]
    memory: dict[str, int]
    tokens_per_step: int
    tokens: int
    passes: float | None
    largest_micro_batch: int | None
    tokens_per_second: float | None
    how: str

    @property
    def seconds(self) -> float | None:
        """Of the whole run."""
        return self.tokens / self.tokens_per_second if self.tokens_per_second else None

    @property
    def cost(self) -> float | None:
        """Of the whole run, in the currency of `cost_per_hour`."""
        price = self.arguments.cost_per_hour
        return self.seconds / 3600 * price if self.seconds and price else None

    @property
    def num_parameters(self) -> int:
        """All parameters."""
        return sum(self.parameters.values())

    @property
    def chinchilla_tokens(self) -> int:
        """The token budget that makes the best of the compute at this size."""
        return CHINCHILLA_TOKENS_PER_PARAMETER * self.num_parameters


def estimate_run(arguments: PlanArguments) -> Estimate:
    """Estimate the run that `train/pretrain.py` would start with these arguments and launcher settings.

    Raises:
        UserError: a file is missing, or the model cannot be.
    """
    if arguments.objective != "causal":
        message = f"plan knows objective causal alone, got {arguments.objective}"
        raise UserError("wrong_value", message, setting="objective", value=arguments.objective)
    launcher = read_launcher(arguments.accelerate_config)
    entries = parse_shards(arguments.shards)
    written = all((Path(entry.path) / "train" / "manifest.json").is_file() for entry in entries)
    manifest = MixedBlocks(entries, "train").manifest if written else None
    config, sequence_length, assumptions = _model(arguments, manifest)
    if arguments.max_minutes:
        line = f"as many steps as planned; max_minutes {arguments.max_minutes:g} changes that only in the run, by its speed"
        assumptions.append(line)
    memory = arguments.device_memory * GIB if arguments.device_memory else None
    scale, checkpointing, rules = resolve_scale(
        arguments, config, launcher, sequence_length, manifest, memory
    )
    settings = dataclasses.replace(
        step_settings(arguments, launcher, sequence_length),
        micro_batch=scale.per_device_train_batch_size,
        accumulation=scale.gradient_accumulation_steps,
        activation_checkpointing=checkpointing or launcher.activation_checkpointing,
    )
    optimizer_of = optimizer_builder(arguments, settings.mixed_precision)
    tokens_per_step = settings.micro_batch * settings.accumulation * settings.num_processes * sequence_length
    tokens = scale.max_steps * tokens_per_step
    attention = arguments.attn_implementation
    return Estimate(
        arguments=arguments,
        scale=scale,
        rules=rules,
        assumptions=assumptions,
        config=config,
        settings=settings,
        parameters=count_parameters(config),
        flops_per_token=training_flops_per_token(config, sequence_length),
        memory=memory_of_a_step(config, settings, optimizer_of, attention),
        tokens_per_step=tokens_per_step,
        tokens=tokens,
        passes=tokens / (manifest["blocks"] * sequence_length) if manifest else None,
        largest_micro_batch=largest_micro_batch(
            config, settings, optimizer_of, USABLE_SHARE * memory, attention
        )
        if memory
        else None,
        tokens_per_second=arguments.tokens_per_second,
        how="as given" if arguments.tokens_per_second else "not measured",
    )


def plan_run(arguments: PlanArguments) -> Estimate:
    """`estimate_run` for this machine where the arguments name no other, with the speed that is measured on it."""
    memory = gpu_memory()
    if arguments.device_memory is None:
        here: dict[str, Any] = {"device_memory": memory and memory / GIB}
        if arguments.mixed_precision == "auto":
            here["mixed_precision"] = best_precision()
        arguments = dataclasses.replace(arguments, **here)
    estimate = estimate_run(arguments)
    if estimate.tokens_per_second:
        return estimate
    if estimate.settings.num_processes > 1:
        how = f"not measured: {estimate.settings.num_processes} processes; give tokens_per_second"
        return dataclasses.replace(estimate, how=how)
    if arguments.device_memory and not memory:
        how = "not measured: there is no GPU here; give tokens_per_second"
        return dataclasses.replace(estimate, how=how)
    config, settings = estimate.config, estimate.settings
    speed = measure_speed(
        config,
        settings,
        optimizer_builder(arguments, settings.mixed_precision),
        attn_implementation=choose_attention(arguments.attn_implementation, config, settings.mixed_precision),
        num_threads=arguments.num_threads,
        memory=estimate.memory,
    )
    how = speed.how
    if choose_compilation(arguments.torch_compile, config, estimate.tokens, settings.sequence_length)[0]:
        how += "; without torch_compile, which the run uses and which is faster"
    return dataclasses.replace(estimate, tokens_per_second=speed.tokens_per_second, how=how)


def _model(
    arguments: PlanArguments, manifest: dict[str, Any] | None
) -> tuple[PreTrainedConfig, int, list[str]]:
    """The model's configuration, the tokens of a block, and a line for each value that another stage would decide."""
    assumptions = []
    model_config = dict(arguments.model_config)
    sequence_length = (
        arguments.sequence_length
        or (manifest["sequence_length"] if manifest else None)
        or model_config.get("max_position_embeddings")
    )
    if sequence_length is None:
        sequence_length = ShardsArguments.sequence_length
        assumptions.append(f"sequence_length {sequence_length:,}: the default of the shards stage")
    if arguments.model_name_or_path:
        tokenizer = load_run_tokenizer(arguments.tokenizer, arguments.model_name_or_path)
        base = (arguments.model_name_or_path, arguments.objective, model_config, tokenizer)
        return base_config(*base, sequence_length), sequence_length, assumptions
    if "vocab_size" not in model_config and arguments.tokenizer and Path(arguments.tokenizer).is_dir():
        model_config["vocab_size"] = len(load_document_tokenizer(arguments.tokenizer))
    elif "vocab_size" not in model_config:
        model_config["vocab_size"] = TokenizerArguments.vocab_size
        line = f"vocab_size {TokenizerArguments.vocab_size:,}: the default of the tokenizer stage"
        assumptions.append(line)
    model_config.setdefault("max_position_embeddings", sequence_length)
    check_model_config(model_config, ScratchGPTConfig.model_type)
    try:
        return ScratchGPTConfig(**model_config), sequence_length, assumptions
    except (ValueError, StrictDataclassError) as error:
        raise UserError("invalid_model_config", f"model_config: {error}") from None


def print_estimate(estimate: Estimate) -> None:
    """The estimate as tables for a terminal."""
    scale, settings = estimate.scale, estimate.settings
    tables = [
        _table("parameters", {name: f"{count:,}" for name, count in estimate.parameters.items() if count}),
        _table(
            "training FLOPs a token", {name: f"{flops:,}" for name, flops in estimate.flops_per_token.items()}
        ),
        _table(
            "GiB of one process at the peak",
            {name: f"{size / GIB:.3f}" for name, size in estimate.memory.items()},
        ),
    ]
    for table, total in zip(
        tables,
        (
            f"{estimate.num_parameters:,}",
            f"{sum(estimate.flops_per_token.values()):,}",
            f"{sum(estimate.memory.values()) / GIB:.3f}",
        ),
    ):
        table.add_section()
        table.add_row("together", total)
        console.print(table)
    num_threads = choose_threads(estimate.arguments.num_threads)
    how = [describe_compute(settings.mixed_precision, num_threads, settings.num_processes)]
    how += ["sharded"] * settings.sharded + ["checkpointed activations"] * settings.activation_checkpointing
    facts = {
        "micro-batch": f"{settings.micro_batch} x {settings.sequence_length} tokens",
        "how": ", ".join(how),
        "tokens a step": f"{estimate.tokens_per_step:,}, in {settings.accumulation} micro-batch(es)",
        "steps": f"{scale.max_steps:,}, {scale.warmup_steps:,} of them warm-up",
        "learning rate": f"{scale.learning_rate:g}",
    }
    if estimate.largest_micro_batch is not None:
        facts[f"largest micro-batch in {USABLE_SHARE:.0%} of {estimate.arguments.device_memory:g} GiB"] = (
            f"{estimate.largest_micro_batch} blocks"
            if estimate.largest_micro_batch
            else "none: one block is too much"
        )
    facts["Chinchilla's budget"] = (
        f"{estimate.chinchilla_tokens:,} tokens, {CHINCHILLA_TOKENS_PER_PARAMETER} a parameter"
    )
    flops = estimate.tokens * sum(estimate.flops_per_token.values())
    share = estimate.tokens / estimate.chinchilla_tokens
    facts["token budget"] = (
        f"{estimate.tokens:,}, {estimate.tokens / estimate.num_parameters:.1f} a parameter"
    )
    facts["budget against Chinchilla's"] = f"{share:.2f} times"
    facts["training FLOPs"] = f"{flops:.3g}"
    if estimate.passes:
        facts["passes over the shards"] = f"{estimate.passes:.2g}"
    if estimate.tokens_per_second:
        speed = estimate.tokens_per_second
        facts["tokens a second"] = f"{speed:,.0f}" if speed >= 100 else f"{speed:.2g}"
        facts["FLOP/s needed for that"] = f"{flops / estimate.tokens * estimate.tokens_per_second:.3g}"
        facts["time"] = duration(estimate.seconds)
    if estimate.cost:
        facts["cost"] = f"{estimate.cost:,.2f}"
    console.print(_table("the run", facts))
    for line in estimate.assumptions:
        console.print(f"assumed: {line}", markup=False, highlight=False)
    for line in estimate.rules:
        console.print(f"by rule: {line}", markup=False, highlight=False)
    console.print(f"tokens a second: {estimate.how}", markup=False, highlight=False)


def _table(title: str, rows: dict[str, str]) -> Table:
    table = Table("what", title=title, title_justify="left")
    table.add_column("how much", justify="right")
    for name, value in rows.items():
        table.add_row(name, value)
    return table
