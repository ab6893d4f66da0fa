# SPDX-License-Identifier: Apache-2.0
"""What `train/pretrain.py` can train a model to do: continue a text, find hidden tokens, or fill in taken-out spans.

An objective says which model, which batches, what a held-out block costs, and how a sample is drawn; all else of a run
is the same. Shapes: B blocks, T tokens of a block.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from scratch_gpt.data.collators.masking import MaskingCollator
from scratch_gpt.data.collators.packed import IGNORED, PackedCollator, needs_lengths, to_device
from scratch_gpt.data.collators.span_corruption import SpanCorruptionCollator
from scratch_gpt.errors import UserError, did_you_mean
from scratch_gpt.inference.likelihood import packed_nll, row_sums
from scratch_gpt.inference.masked import keep_documents_apart, masked_nll, sampled_pseudo_nll
from scratch_gpt.inference.varlen import VARLEN
from scratch_gpt.tokenization import encode_plain, token_byte_lengths


# Blocks and their positions in the run's order -> a batch.
Collator = Callable[[list[np.ndarray], Sequence[int]], dict[str, Any]]

# Held-out blocks are corrupted in the same way in every run, so that runs compare.
HELD_OUT_SEED = 0
SAMPLE_TOKENS = 48
# No fields of a configuration, and yet heeded: the last two become part of `rope_parameters`.
FOLDED_KEYS = {"model_type", "rope_theta", "rope_scaling"}


class Objective(ABC):
    """What all objectives say of themselves.

    Args:
        tokenizer: of the shards.
        sequence_length: tokens of a block.
        seed: of the random choices on the blocks of the run.
        attn_implementation: of the model; some need the documents' lengths.
        whole_words: for hidden tokens, all of a word or none.

    Raises:
        UserError: the tokenizer lacks the tokens that the objective needs.
    """

    auto_class: ClassVar[Any]
    model_type = "scratch_gpt"
    is_causal = True
    # The figure that says most, and its unit.
    primary_metric: str
    metric_unit: str
    # Columns of `nll`.
    num_sums: int
    # Of the run, and of held-out blocks.
    collator: Collator
    held_out: Any

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        sequence_length: int,
        *,
        seed: int,
        attn_implementation: str,
        whole_words: bool = False,
    ) -> None:
        self.tokenizer = tokenizer
        self.sequence_length, self.whole_words = sequence_length, whole_words
        self.lengths = needs_lengths(attn_implementation)
        self.collator, self.held_out = (self.make_collator(each) for each in (seed, HELD_OUT_SEED))

    @abstractmethod
    def make_collator(self, seed: int) -> Collator:
        """Blocks and their positions to batches, with random choices of this seed."""

    @abstractmethod
    def nll(
        self, model: torch.nn.Module, blocks: list[np.ndarray], numbers: list[int], device: torch.device
    ) -> torch.Tensor:
        """What each held-out block costs, float64 (B, num_sums) on the CPU; sums of such rows are what `metrics` takes."""

    @abstractmethod
    def metrics(self, nll: torch.Tensor) -> dict[str, float]:
        """The figures of an evaluation row; `eval_loss` in nats a predicted token."""

    @abstractmethod
    def sample(self, model: PreTrainedModel, prompt: str) -> str:
        """What the model makes of a prompt, greedily."""

    def _prompt_ids(self, model: PreTrainedModel, prompt: str) -> list[int]:
        """Tokens of the prompt that leave room: a model with a table of positions can go no further than it."""
        return encode_plain(self.tokenizer, [prompt])[0][: model.config.max_position_embeddings // 2]

    def _generated(self, model: PreTrainedModel, ids: list[int]) -> str:
        input_ids = torch.tensor([ids], device=model.device)
        output = model.generate(
            input_ids,
            attention_mask=torch.ones_like(input_ids),
            max_new_tokens=min(SAMPLE_TOKENS, model.config.max_position_embeddings - len(ids)),
            do_sample=False,
        )
        return str(self.tokenizer.decode(output[0], skip_special_tokens=True))


class CausalObjective(Objective):
    """Predict each token from those before it."""

    auto_class = AutoModelForCausalLM
    primary_metric, metric_unit = "eval_bits_per_byte", "bits per byte"
    num_sums = 3

    @cached_property
    def byte_lengths(self) -> torch.Tensor:
        """Bytes of text of each token, shape (V,)."""
        return torch.tensor(token_byte_lengths(self.tokenizer))

    def make_collator(self, seed: int) -> Collator:
        """Nothing is random here."""
        return PackedCollator(self.tokenizer.eos_token_id, self.tokenizer.pad_token_id, self.lengths)

    def nll(
        self, model: torch.nn.Module, blocks: list[np.ndarray], numbers: list[int], device: torch.device
    ) -> torch.Tensor:
        """`packed_nll`: nats, predicted tokens, their bytes."""
        batch = to_device(self.held_out(blocks, numbers), device)
        return packed_nll(model, batch, self.byte_lengths.to(device))

    def metrics(self, nll: torch.Tensor) -> dict[str, float]:
        """Bits per byte beside the loss."""
        nats, tokens, num_bytes = nll.tolist()
        return {"eval_loss": nats / tokens, "eval_bits_per_byte": nats / math.log(2) / num_bytes}

    def sample(self, model: PreTrainedModel, prompt: str) -> str:
        """The prompt and how the model continues it."""
        return self._generated(model, self._prompt_ids(model, prompt))


class MaskedObjective(Objective):
    """Find hidden tokens from those on both sides (BERT)."""

    auto_class = AutoModelForMaskedLM
    is_causal = False
    primary_metric, metric_unit = "eval_masked_accuracy", "masked accuracy"
    num_sums = 5

    def make_collator(self, seed: int) -> Collator:
        """Of single tokens or whole words."""
        return MaskingCollator(self.tokenizer, seed, self.whole_words, self.lengths)

    def nll(
        self, model: torch.nn.Module, blocks: list[np.ndarray], numbers: list[int], device: torch.device
    ) -> torch.Tensor:
        """`masked_nll` and `sampled_pseudo_nll`."""
        hidden = masked_nll(model, to_device(self.held_out(blocks, numbers), device))
        alone = sampled_pseudo_nll(model, blocks, numbers, self.held_out, device)
        return torch.cat([hidden, alone], dim=1)

    def metrics(self, nll: torch.Tensor) -> dict[str, float]:
        """`eval_loss` in nats a hidden token; the pseudo-perplexity is an estimate from one token of each document."""
        nats, tokens, right, pseudo_nats, pseudo_tokens = nll.tolist()
        return {
            "eval_loss": nats / tokens,
            "eval_masked_accuracy": right / tokens,
            "eval_pseudo_perplexity": math.exp(pseudo_nats / pseudo_tokens),
        }

    def sample(self, model: PreTrainedModel, prompt: str) -> str:
        """The prompt and the token that the model finds likeliest after it."""
        ids = [*self._prompt_ids(model, prompt), self.held_out.mask]
        input_ids = torch.tensor([ids], device=model.device)
        logits = model(
            input_ids=input_ids, position_ids=torch.arange(len(ids), device=model.device)[None]
        ).logits
        return str(self.tokenizer.decode([*ids[:-1], int(logits[0, -1].argmax())]))


class SpanObjective(Objective):
    """Write the spans that were taken out of a text (T5)."""

    auto_class = AutoModelForSeq2SeqLM
    model_type = "scratch_gpt_encoder_decoder"
    primary_metric, metric_unit = "eval_loss", "nats a target token"
    num_sums = 2

    def make_collator(self, seed: int) -> Collator:
        """Of documents as rows."""
        return SpanCorruptionCollator(self.tokenizer, seed, self.sequence_length)

    def nll(
        self, model: torch.nn.Module, blocks: list[np.ndarray], numbers: list[int], device: torch.device
    ) -> torch.Tensor:
        """Nats and target tokens."""
        batch = to_device(self.held_out(blocks, numbers), device)
        with torch.no_grad():
            logits = model(**batch, use_cache=False).logits
        nats = torch.nn.functional.cross_entropy(
            logits.float().transpose(1, 2), batch["labels"], ignore_index=IGNORED, reduction="none"
        )
        rows = row_sums(nats, batch["labels"] != IGNORED)
        documents = [len(self.held_out.documents(block)) for block in blocks]
        return torch.stack([part.sum(0) for part in rows.split(documents)])

    def metrics(self, nll: torch.Tensor) -> dict[str, float]:
        """`eval_loss` in nats a target token."""
        nats, tokens = nll.tolist()
        return {"eval_loss": nats / tokens}

    def sample(self, model: PreTrainedModel, prompt: str) -> str:
        """The prompt and what the model writes for a sentinel after it."""
        ids = [*self._prompt_ids(model, prompt), int(self.held_out.sentinels[0])]
        return prompt + self._generated(model, ids)


OBJECTIVES: dict[str, type[Objective]] = {
    "causal": CausalObjective,
    "masked": MaskedObjective,
    "span": SpanObjective,
}


def config_for(
    objective: str, model_config: dict[str, Any], tokenizer: PreTrainedTokenizerFast, sequence_length: int
) -> PreTrainedConfig:
    """The configuration of the objective's model, or of a class of transformers that `model_config` names.

    Raises:
        UserError: `model_config` contradicts the objective or itself, names an unknown `model_type`, or a key that its
            configuration does not have.
    """
    kind = OBJECTIVES[objective]
    values: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": sequence_length,
        **model_config,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    model_type = values.pop("model_type", kind.model_type)
    if model_type not in CONFIG_MAPPING:
        message = f"model_config: model_type {model_type!r} is not known to transformers"
        raise UserError("wrong_value", message, setting="model_type", value=model_type)
    check_model_config(model_config, model_type)
    if values.get("is_causal", kind.is_causal) != kind.is_causal:
        message = f"model_config: is_causal {values['is_causal']} is not what objective {objective} needs"
        raise UserError("settings_conflict", message, setting="is_causal", other="objective")
    if kind.auto_class is AutoModelForMaskedLM:
        values["is_causal"] = False
    if kind.auto_class is AutoModelForSeq2SeqLM:
        values["decoder_start_token_id"] = tokenizer.pad_token_id  # as in T5
    try:
        return AutoConfig.for_model(model_type, **values)
    except (ValueError, StrictDataclassError) as error:
        raise UserError("invalid_model_config", f"model_config: {error}") from None


def check_model_config(model_config: dict[str, Any], model_type: str) -> None:
    """Refuse a misspelled key: configurations keep what they do not know, and the default would be trained.

    Raises:
        UserError: the key is not the configuration's.
    """
    config_class = CONFIG_MAPPING[model_type]
    known = {entry.name for entry in fields(config_class)} | config_class.attribute_map.keys()
    if unknown := sorted(map(str, model_config.keys() - known - FOLDED_KEYS)):
        message = (
            f"model_config: {config_class.__name__} has no {unknown[0]}{did_you_mean(unknown[0], known)}"
        )
        raise UserError("unknown_key", message, key=unknown[0])


def is_stock_encoder(config: PreTrainedConfig, objective: str) -> bool:
    """Whether the model is an encoder of transformers, which has to be taught to keep documents apart."""
    return objective == "masked" and config.model_type != MaskedObjective.model_type


def check_attention(config: PreTrainedConfig, objective: str, attn_implementation: str) -> None:
    """Raise UserError if the attention of the model would mix documents, or takes none but packed blocks."""
    if attn_implementation == VARLEN and objective == "span":
        message = f"attn_implementation {VARLEN} takes packed blocks, which objective span has not: set sdpa"
        raise UserError("settings_conflict", message, setting="attn_implementation", other="objective")
    if is_stock_encoder(config, objective) and needs_lengths(attn_implementation):
        message = (
            f"attn_implementation {attn_implementation} cannot keep the documents of a packed block apart in a "
            f"{config.model_type} model with objective masked: set sdpa"
        )
        raise UserError("settings_conflict", message, setting="attn_implementation", other="objective")


def model_of(config: PreTrainedConfig, objective: str, attn_implementation: str) -> PreTrainedModel:
    """A fresh model.

    Raises:
        UserError: the model type has no class for this objective, or its attention would mix documents.
    """
    auto_class = OBJECTIVES[objective].auto_class
    check_attention(config, objective, attn_implementation)
    try:
        model = auto_class.from_config(config, attn_implementation=attn_implementation)
    except ValueError as error:
        message = f"model_config with objective {objective}: {str(error).splitlines()[0]}"
        raise UserError("invalid_model_config", message) from None
    if is_stock_encoder(config, objective):
        keep_documents_apart(model)
    return model
