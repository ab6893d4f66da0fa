# SPDX-License-Identifier: Apache-2.0
"""Continued pretraining: begin with the weights of a model folder, of this project or of transformers' own classes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS, RopeParameters

from scratch_gpt.data.shards.document_tokenizer import load_document_tokenizer
from scratch_gpt.errors import UserError, did_you_mean
from scratch_gpt.inference.documents import documents_stay_apart
from scratch_gpt.inference.loading import check_embeddings, check_folder, load_config, load_weights
from scratch_gpt.inference.masked import keep_documents_apart
from scratch_gpt.runs.checkpoints import PROGRESS_FILE, read_progress
from scratch_gpt.runs.log import console
from scratch_gpt.tokenization import tokenizer_hash
from scratch_gpt.training.pretrain.objectives import (
    OBJECTIVES,
    CausalObjective,
    check_attention,
    check_model_config,
    is_stock_encoder,
)
from scratch_gpt.training.pretrain.optimization import make_schedule


# What may change of a trained model: how far it sees, not which weights it has.
CONTEXT = ("max_position_embeddings", "rope_parameters")
# Endings of the classes that a model of each objective may have.
HEADS = {
    "causal": ("ForCausalLM", "LMHeadModel"),
    "masked": ("ForMaskedLM",),
    "span": ("ForConditionalGeneration",),
}


@dataclass(frozen=True)
class BaseRun:
    """The pretraining run that a base model is from.

    Attributes:
        learning_rate: its peak.
        step: of the checkpoint.
        is_stable: the checkpoint is from the constant part of warmup_stable_decay.
    """

    learning_rate: float
    step: int
    is_stable: bool


def load_run_tokenizer(tokenizer: str, model_name_or_path: str | None) -> PreTrainedTokenizerFast:
    """The tokenizer of a run: the one named, which must be that of the base model, if there is one.

    Raises:
        UserError: there is none, or another than the base model's.
    """
    if model_name_or_path is None:
        return load_document_tokenizer(tokenizer)
    check_folder(model_name_or_path)
    if not (Path(model_name_or_path) / "tokenizer.json").is_file():
        message = f"no tokenizer in {model_name_or_path} (tokenizer.json is missing): copy the model's tokenizer into it"
        raise UserError("no_tokenizer", message, folder=model_name_or_path)
    own = load_document_tokenizer(model_name_or_path)
    if tokenizer and tokenizer_hash(load_document_tokenizer(tokenizer)) != tokenizer_hash(own):
        message = (
            f"tokenizer {tokenizer} is not that of {model_name_or_path}: leave it out, and write the shards with the "
            f"model's own (scratch-gpt shards --tokenizer {model_name_or_path})"
        )
        raise UserError("another_tokenizer", message, folder=tokenizer)
    return own


def base_config(
    folder: str | Path,
    objective: str,
    model_config: dict[str, Any],
    tokenizer: PreTrainedTokenizerFast,
    sequence_length: int,
) -> PreTrainedConfig:
    """The configuration of the model in `folder`, with the context that `model_config` asks for.

    Scaled rotary positions (`rope_type`) are relative to the context that the model was trained on, unless
    `original_max_position_embeddings` says otherwise.

    Raises:
        UserError: no model there, one that the objective cannot train, a key that is not of the context, a context
            that the model cannot have or that is shorter than a block, fewer embeddings than tokens.
    """
    config = load_config(folder)
    heads = config.architectures or []
    if not any(head.endswith(HEADS[objective]) for head in heads):
        message = (
            f"objective {objective} cannot train {folder}, which is {', '.join(heads) or 'of unknown kind'}"
        )
        raise UserError("wrong_model", message, found=heads)
    if getattr(config, "quantization_config", None) is not None:
        message = f"{folder} is quantized, and quantized weights cannot be trained: give the model that it was made from"
        raise UserError("quantized_model", message, folder=folder)
    check_model_config(model_config, config.model_type)
    if fixed := sorted(model_config.keys() - set(CONTEXT)):
        message = (
            f"model_config: {', '.join(fixed)} cannot change in a trained model ({folder}), only "
            f"{' and '.join(CONTEXT)}: leave it out"
        )
        raise UserError("settings_conflict", message, setting=fixed[0], other="model_name_or_path")
    config.eos_token_id = tokenizer.eos_token_id
    if model_config:
        config = _with_context(config, model_config)
    check_embeddings(folder, tokenizer, config.vocab_size)
    if getattr(config, "max_position_embeddings", None) is None:
        config.max_position_embeddings = sequence_length  # a class without a limit
    if config.max_position_embeddings < sequence_length:
        message = (
            f"{folder} has max_position_embeddings {config.max_position_embeddings}, shorter than the shards' "
            f"sequence_length {sequence_length}: write shorter blocks, or extend rotary positions by "
            f'--model_config "{{max_position_embeddings: {sequence_length}}}" and perhaps rope_parameters'
        )
        raise UserError("context_too_short", message, max_position_embeddings=config.max_position_embeddings)
    return config


def _with_context(config: PreTrainedConfig, changes: dict[str, Any]) -> PreTrainedConfig:
    before = config.to_dict()
    rotary = before.get("rope_parameters")
    if not rotary:
        key = next(iter(changes))
        message = f"model_config: {key} cannot change in a model with a table of learned positions ({config.model_type})"
        raise UserError("settings_conflict", message, setting=key, other="model_name_or_path")
    asked = dict(changes.get("rope_parameters") or {})
    if asked.get("rope_type", "default") not in (
        kinds := ("default", *ROPE_INIT_FUNCTIONS)
    ):  # only warned of
        message = f"model_config: rope_type must be one of {', '.join(kinds)}, got {asked['rope_type']!r}"
        message += did_you_mean(asked["rope_type"], kinds)
        raise UserError("invalid_model_config", message)
    if "rope_theta" in rotary:  # elsewhere each kind of layer has its own
        if unknown := sorted(asked.keys() - RopeParameters.__annotations__.keys()):  # only warned of
            suggestion = did_you_mean(unknown[0], RopeParameters.__annotations__)
            message = f"model_config: rope_parameters has no {unknown[0]}{suggestion}"
            raise UserError("unknown_key", message, key=unknown[0])
        if asked.get("rope_type", "default") != "default" and rotary.get("rope_type") == "default":
            asked.setdefault("original_max_position_embeddings", config.max_position_embeddings)
        asked = {**rotary, **asked}
    try:
        changed = type(config).from_dict({**before, **changes, "rope_parameters": asked or rotary})
        changed.validate_rope()
    except (ValueError, KeyError, TypeError, StrictDataclassError) as error:
        raise UserError("invalid_model_config", f"model_config: {error}") from None
    return changed


def load_base(
    folder: str | Path, config: PreTrainedConfig, objective: str, attn_implementation: str
) -> PreTrainedModel:
    """The model in `folder`, of the class that it was saved as, in float32.

    Raises:
        UserError: damaged weights, an attention implementation that the class does not have, a class whose packed
            documents see each other.
    """
    check_attention(config, objective, attn_implementation)
    model = load_weights(
        OBJECTIVES[objective].auto_class,
        folder,
        config=config,
        dtype=torch.float32,
        attn_implementation=attn_implementation,
    )
    if is_stock_encoder(config, objective):
        keep_documents_apart(model)
    stops = model.generation_config.eos_token_id if model.can_generate() else None
    stops = [] if stops is None else [stops] if isinstance(stops, int) else list(stops)
    if turns := [stop for stop in stops if stop != config.eos_token_id]:
        console.print(
            f"warning: {folder} is a chat model (it stops at token {', '.join(map(str, turns))}): documents train no turns, "
            "so it may lose them; tune the result again (scratch-gpt sft)",
            soft_wrap=True,
        )
    if stops and config.eos_token_id not in stops:
        model.generation_config.eos_token_id = [*stops, config.eos_token_id]
    is_ours = config.model_type == CausalObjective.model_type
    if objective == "causal" and not is_ours and not documents_stay_apart(model):
        message = (
            f"{folder}: in a packed block the documents of {type(model).__name__} would see each other: it cannot be "
            "trained on shards"
        )
        raise UserError("documents_mix", message, folder=folder)
    return model


def read_base_run(folder: str | Path) -> BaseRun | None:
    """The run that wrote a base model or checkpoint of this project; None where nothing is known of it."""
    if not (Path(folder) / PROGRESS_FILE).is_file():
        return None
    progress = read_progress(Path(folder))
    settings, step = progress["settings"], progress["step"]
    name, planned = settings["lr_scheduler_type"], settings["max_steps"]
    length = progress.get("replanned") or planned  # see `TimeBudget`: the decay keeps its steps
    decay_ratio = round(settings["decay_ratio"] * planned) / length
    factor_of = make_schedule(name, length, settings["warmup_steps"], decay_ratio)
    is_stable = name == "warmup_stable_decay" and step < length and factor_of(step) == 1.0
    return BaseRun(settings["learning_rate"], step, is_stable)
