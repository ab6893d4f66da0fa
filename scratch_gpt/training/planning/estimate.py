# SPDX-License-Identifier: Apache-2.0
"""What a pretraining run will need, before anything is trained: parameters, compute, memory, time, cost.

Nothing here allocates a weight: parameters are counted on the meta device, memory on fake tensors (memory.py).
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from rich.table import Table
from transformers import PreTrainedConfig

from scratch_gpt.configuration_scratch_gpt import ScratchGPTConfig
from scratch_gpt.data.shards.document_tokenizer import load_document_tokenizer
from scratch_gpt.data.shards.mixed_blocks import MixedBlocks, parse_shards
from scratch_gpt.errors import UserError
from scratch_gpt.runs.cost import count_parameters, training_flops_per_token
from scratch_gpt.runs.log import console
from scratch_gpt.settings.checking import Count, Positive
from scratch_gpt.training.planning.launcher import read_launcher
from scratch_gpt.training.planning.memory import StepSettings, largest_micro_batch, memory_of_a_step
from scratch_gpt.training.planning.plan import USABLE_SHARE, optimizer_builder, resolve_scale, step_settings
from scratch_gpt.training.planning.scaling import CHINCHILLA_TOKENS_PER_PARAMETER, Scale
from scratch_gpt.training.pretrain.arguments import PretrainArguments
from scratch_gpt.training.pretrain.continued import base_config, load_run_tokenizer
from scratch_gpt.training.pretrain.objectives import check_model_config


GIB = 2**30
NO_LENGTH = "sequence_length is not known: there are no shards yet, so give --sequence_length"


@dataclass(frozen=True)
class PlanArguments(PretrainArguments):
    """Settings of `scratch-gpt plan`: those of pretraining, and what the run will meet."""

    accelerate_config: str | None = field(
        default=None,
        metadata={
            "help": "Launcher settings, a YAML file: processes, sharding, checkpointing. Default: one process."
        },
    )
    sequence_length: Count | None = field(
        default=None,
        metadata={"help": "Tokens in a block. Default: as in the shards if they exist, else all positions."},
    )
    device_memory: Positive | None = field(
        default=None,
        metadata={
            "help": "GiB of one GPU: the plan says which micro-batch fits. Default: planned for a CPU."
        },
    )
    tokens_per_second: Positive | None = field(
        default=None,
        metadata={"help": "Throughput of all processes together, as eval/engineering/speed.py measures it."},
    )
    cost_per_hour: Positive | None = field(
        default=None, metadata={"help": "Price of all devices together for one hour, in your currency."}
    )


@dataclass(frozen=True)
class Estimate:
    """The figures of a run; memory in bytes, time in seconds, unknown ones None.

    Attributes:
        arguments: as given.
        scale: what they leave open is filled.
        rules: a line for each value that was found by a rule.
    """

    arguments: PlanArguments
    scale: Scale
    rules: list[str]
    config: PreTrainedConfig
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


def estimate_run(arguments: PlanArguments) -> Estimate:
    """Estimate the run that `train/pretrain.py` would start with these arguments and launcher settings.

    Raises:
        UserError: the vocabulary is not known yet, a file is missing, or the model cannot be.
    """
    if arguments.objective != "causal":
        message = f"plan knows objective causal alone, got {arguments.objective}"
        raise UserError("wrong_value", message, setting="objective", value=arguments.objective)
    launcher = read_launcher(arguments.accelerate_config)
    entries = parse_shards(arguments.shards)
    written = all((Path(entry.path) / "train" / "manifest.json").is_file() for entry in entries)
    manifest = MixedBlocks(entries, "train").manifest if written else None
    config, sequence_length = _model(arguments, manifest)
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
    seconds = tokens / arguments.tokens_per_second if arguments.tokens_per_second else None
    attention = arguments.attn_implementation
    return Estimate(
        arguments=arguments,
        scale=scale,
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


def _model(arguments: PlanArguments, manifest: dict[str, Any] | None) -> tuple[PreTrainedConfig, int]:
    """The model's configuration and the tokens of a block."""
    sequence_length = arguments.sequence_length or (manifest["sequence_length"] if manifest else None)
    if arguments.model_name_or_path:
        tokenizer = load_run_tokenizer(arguments.tokenizer, arguments.model_name_or_path)
        base = (arguments.model_name_or_path, arguments.objective, arguments.model_config, tokenizer)
        if sequence_length is None:
            raise UserError("setting_missing", NO_LENGTH, setting="sequence_length")
        return base_config(*base, sequence_length), sequence_length
    model_config = dict(arguments.model_config)
    if "vocab_size" not in model_config:
        if not Path(arguments.tokenizer).is_dir():
            message = (
                f"the vocabulary is not known: there is no tokenizer in {arguments.tokenizer} yet; run its stage, or "
                "give vocab_size in model_config"
            )
            raise UserError("no_tokenizer", message, folder=arguments.tokenizer)
        model_config["vocab_size"] = len(load_document_tokenizer(arguments.tokenizer))
    sequence_length = sequence_length or model_config.get("max_position_embeddings")
    if sequence_length is None:
        raise UserError("setting_missing", NO_LENGTH, setting="sequence_length")
    model_config.setdefault("max_position_embeddings", sequence_length)
    check_model_config(model_config, ScratchGPTConfig.model_type)
    try:
        return ScratchGPTConfig(**model_config), sequence_length
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
    how = [f"{settings.mixed_precision} precision", f"{settings.num_processes} process(es)"]
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
    if estimate.seconds:
        facts["time"] = f"{estimate.seconds / 3600:,.2f} hours"
        facts["FLOP/s needed for that"] = f"{flops / estimate.seconds:.3g}"
    if estimate.cost:
        facts["cost"] = f"{estimate.cost:,.2f}"
    console.print(_table("the run", facts))
    for line in estimate.rules:
        console.print(f"by rule: {line}", markup=False, highlight=False)


def _table(title: str, rows: dict[str, str]) -> Table:
    table = Table("what", title=title, title_justify="left")
    table.add_column("how much", justify="right")
    for name, value in rows.items():
        table.add_row(name, value)
    return table
