# SPDX-License-Identifier: Apache-2.0
"""What a pretraining run begins with: shards that fit the tokenizer, a model that fits both, a fast setting."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from scratch_gpt.data.shards.blocks import Blocks, PackedBlocks
from scratch_gpt.data.shards.mixed_blocks import MixedBlocks, parse_shards
from scratch_gpt.errors import UserError
from scratch_gpt.runs.log import console
from scratch_gpt.settings.hardware import ComputeSettings, best_precision, choose_threads
from scratch_gpt.training.pretrain.continued import load_base
from scratch_gpt.training.pretrain.loss import PLAIN_HEADS, chunk_tokens_for, compile_layers, use_chunked_loss
from scratch_gpt.training.pretrain.objectives import config_for, model_of


def open_shards(
    shards: str | list[dict[str, Any]], tokenizer: PreTrainedTokenizerFast
) -> tuple[MixedBlocks, MixedBlocks]:
    """The training and validation blocks of one or several folders; no validation blocks where nothing was held out.

    Raises:
        UserError: they are not complete, of another tokenizer, or of two lengths.
    """
    entries = parse_shards(shards)
    train = MixedBlocks(entries, "train", tokenizer)
    validation = MixedBlocks(entries, "validation", tokenizer, may_be_empty=True)
    lengths = [blocks.manifest["sequence_length"] for blocks in (train, validation)]
    if lengths[0] != lengths[1]:
        message = (
            f"the shards in {entries[0].path} have blocks of {lengths[0]} tokens to train on and of {lengths[1]} held out: "
            "run the shards stage again"
        )
        raise UserError("block_lengths_differ", message, lengths=lengths)
    return train, validation


def open_validation(
    folders: Mapping[str, str], tokenizer: PreTrainedTokenizerFast, own: Blocks, max_positions: int
) -> dict[str, PackedBlocks]:
    """The held-out blocks of other shards, by name.

    Args:
        own: held-out blocks of the run's shards, whose sources must have other names.

    Raises:
        UserError: they are not complete, of another tokenizer, empty, or longer than the model sees; a name that a
            source has.
    """
    found = {}
    for name, folder in folders.items():
        if any(source["name"] == name for source in own.manifest["sources"]):
            message = (
                f"validation_shards: {name} is a source of the run's own shards: give {folder} another name"
            )
            raise UserError("settings_conflict", message, setting="validation_shards", other="shards")
        found[name] = PackedBlocks(Path(folder) / "validation", tokenizer)
        length = found[name].manifest["sequence_length"]
        if length > max_positions:
            message = f"validation_shards: blocks of {length} tokens in {folder}, the model has {max_positions} positions"
            raise UserError("context_too_short", message, max_position_embeddings=max_positions)
    return found


def build_config(
    objective: str, model_config: dict[str, Any], tokenizer: PreTrainedTokenizerFast, sequence_length: int
) -> PreTrainedConfig:
    """The shape of a model of the objective that fits the tokenizer and the shards.

    Raises:
        UserError: `model_config` has fewer ids than the tokenizer, fewer positions than a block, or is not the
            objective's.
    """
    config = config_for(objective, model_config, tokenizer, sequence_length)
    if config.vocab_size < len(tokenizer):
        message = f"model_config: vocab_size {config.vocab_size} is smaller than the tokenizer's {len(tokenizer)} tokens"
        raise UserError("vocab_size_too_small", message, vocab_size=config.vocab_size, needed=len(tokenizer))
    if config.max_position_embeddings < sequence_length:
        message = (
            f"model_config: max_position_embeddings {config.max_position_embeddings} is shorter than the shards' "
            f"sequence_length {sequence_length}"
        )
        raise UserError("context_too_short", message, max_position_embeddings=config.max_position_embeddings)
    return config


def build_model(
    config: PreTrainedConfig,
    objective: str,
    *,
    attn_implementation: str,
    batch_tokens: int,
    model_name_or_path: str | None = None,
    activation_checkpointing: bool = False,
    torch_compile: bool = False,
) -> PreTrainedModel:
    """A model, ready to be trained on the objective.

    Args:
        batch_tokens: of one micro-batch; of many, the loss is computed in chunks.
        model_name_or_path: folder of the weights; None: fresh ones.

    Raises:
        UserError: the model type has no class for the objective; weights that cannot be loaded.
    """
    if model_name_or_path:
        model = load_base(model_name_or_path, config, objective, attn_implementation)
    else:
        model = model_of(config, objective, attn_implementation)
    chunk_tokens = chunk_tokens_for(
        batch_tokens, config.vocab_size, on_cpu=not torch.accelerator.is_available()
    )
    # The targets of span corruption are short.
    if chunk_tokens is not None and config.model_type in PLAIN_HEADS:
        use_chunked_loss(model, chunk_tokens)
    if activation_checkpointing:
        model.activation_checkpointing_enable()
    if torch_compile and (reason := compile_layers(model)):
        console.print(f"torch_compile: continuing without it, nothing can be compiled here: {reason}")
    return model


def select_precision_and_threads(mixed_precision: str, num_threads: int | None) -> ComputeSettings:
    """Precision and threads as asked for, or as this machine has them; all processes of a run get the main one's choice.

    Raises:
        UserError: fp16 is asked for on a CPU.
    """
    if mixed_precision == "fp16" and not torch.accelerator.is_available():
        raise UserError("gpu_missing", "mixed_precision fp16 needs a GPU: use bf16, no or auto")
    if mixed_precision == "auto":
        mixed_precision = best_precision()
    (chosen,) = broadcast_object_list([ComputeSettings(choose_threads(num_threads), mixed_precision)])
    return chosen
