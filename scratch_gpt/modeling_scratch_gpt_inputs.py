# SPDX-License-Identifier: Apache-2.0
"""What a forward pass is given: names and keywords that are read or refused, shapes, ids, masks.

One of the files that travel with every checkpoint as remote code: it imports nothing but torch, transformers and
the configuration beside it.
"""

import warnings
from typing import Any

import torch
from torch import nn
from transformers.cache_utils import Cache
from transformers.masking_utils import (
    create_bidirectional_mask,
    create_causal_mask,
    find_packed_sequence_indices,
    packed_sequence_mask_function,
)
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, PreTrainedModel
from transformers.utils import TransformersKwargs

from .configuration_scratch_gpt import ScratchGPTConfig


# transformers 5.24 renamed the cache, in calls and in outputs.
CACHE_NAME = "cache" if "cache" in BaseModelOutputWithPast.__dataclass_fields__ else "past_key_values"

# What a forward pass may be given beyond its named arguments: by Trainer, flash attention and who asks for more outputs;
# for the loss ("margin" is what TRL's RewardTrainer leaves in the batch and reads itself); by continuous batching; for
# transformers' debugger of activations.
KNOWN_KEYWORDS = frozenset(TransformersKwargs.__annotations__) | {
    *("output_cross_attentions", "ignore_index", "shift_labels", "margin"),
    *("read_index", "write_index", "block_table", "logits_indices", "logits_processor_args"),
    *("debug_io", "debug_io_dir", "prune_layers"),
}


def only_one(input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None) -> torch.Tensor:
    """The one of the two that is given.

    Raises:
        ValueError: both or none are given.
    """
    given = [each for each in (input_ids, inputs_embeds) if each is not None]
    if len(given) != 1:
        raise ValueError("You must specify exactly one of input_ids or inputs_embeds")
    return given[0]


def merge_caches(past_key_values: Cache | None, cache: Any, kwargs: dict[str, Any]) -> Cache | None:
    """The cache, by whichever of its names it was given.

    Raises:
        ValueError: two different caches are given.
    """
    if cache is None or cache is past_key_values:
        is_old_name = cache is None and past_key_values is not None and CACHE_NAME == "cache"
        if is_old_name and not torch.compiler.is_compiling():  # as transformers' own models do
            warnings.warn("`past_key_values` is deprecated: use `cache`", FutureWarning, stacklevel=3)
        return past_key_values
    if past_key_values is not None:
        raise ValueError("cache and past_key_values are two names of one argument: pass one of them")
    if CACHE_NAME == "past_key_values" and not isinstance(cache, Cache):
        kwargs["cache"] = cache  # before 5.24 the attention function updates the paged cache itself
        return None
    return cache


def refuse_unknown_keywords(model: PreTrainedModel, kwargs: dict[str, Any], more: frozenset[str]) -> None:
    """Refuse what nothing here reads: swallowed, a renamed or misspelled argument would change the answer in silence.

    An attention function that a serving engine registered has keywords of its own (vLLM: `attention_instances`).
    """
    unknown = [name for name in kwargs if name not in KNOWN_KEYWORDS and name not in more]
    if unknown:
        attention = ALL_ATTENTION_FUNCTIONS.get(model.config._attn_implementation)  # None: our own, "eager"
        attention = getattr(attention, "func", attention)  # a kernel of the Hub is a partial function
        if attention is None or attention.__module__.startswith("transformers."):
            raise TypeError(
                f"{type(model).__name__}.forward() got an unexpected keyword argument {unknown[0]!r}"
            )


def check_shapes(
    config: ScratchGPTConfig,
    inputs_embeds: torch.Tensor,
    attention_mask: torch.Tensor | None,
    position_ids: torch.Tensor,
) -> None:
    """Refuse shapes that would be broadcast into a wrong answer. Looks at no value, so no device is waited for."""
    if inputs_embeds.ndim != 3 or inputs_embeds.shape[-1] != config.hidden_size:
        raise ValueError(
            f"input_ids must have the shape (batch, tokens), inputs_embeds (batch, tokens, {config.hidden_size}); "
            f"the embedded input has {tuple(inputs_embeds.shape)}"
        )
    batch, tokens = inputs_embeds.shape[:2]
    if position_ids.ndim != 2 or position_ids.shape[0] not in (1, batch) or position_ids.shape[1] != tokens:
        raise ValueError(
            f"position_ids must have the shape (1 or {batch}, {tokens}), got {tuple(position_ids.shape)}"
        )
    if isinstance(attention_mask, torch.Tensor) and attention_mask.ndim < 4:
        shape = tuple(attention_mask.shape)
        if len(shape) != 2 or shape[0] != batch or shape[1] < tokens:
            raise ValueError(
                f"attention_mask must have the shape ({batch}, cached tokens + {tokens}), got {shape}"
            )


def check_source(
    inputs_embeds: torch.Tensor,
    encoder_hidden_states: torch.Tensor,
    encoder_attention_mask: torch.Tensor | None,
) -> None:
    """Refuse a source whose shape would be broadcast into a wrong answer."""
    rows, batch = encoder_hidden_states.shape[0], inputs_embeds.shape[0]
    if rows != batch:
        raise ValueError(f"the source has {rows} rows, the target {batch}")
    if encoder_attention_mask is not None and encoder_attention_mask.ndim < 4:
        expected, shape = tuple(encoder_hidden_states.shape[:2]), tuple(encoder_attention_mask.shape)
        if shape != expected:
            raise ValueError(f"attention_mask must have the source's shape {expected}, got {shape}")


def create_mask(
    config: ScratchGPTConfig,
    inputs_embeds: torch.Tensor,
    attention_mask: torch.Tensor | None,
    past_key_values: Cache | None,
    position_ids: torch.Tensor,
) -> Any:
    """What a token may look at: in its document what is before it, and in an encoder what is after it too.

    Raises:
        ValueError: a shape is wrong.
    """
    check_shapes(config, inputs_embeds, attention_mask, position_ids)
    if config.is_causal:
        return create_causal_mask(config, inputs_embeds, attention_mask, past_key_values, position_ids)
    same_document = None
    if attention_mask is None:
        documents = find_packed_sequence_indices(position_ids.expand(inputs_embeds.shape[0], -1))
        same_document = None if documents is None else packed_sequence_mask_function(documents)
    return create_bidirectional_mask(config, inputs_embeds, attention_mask, and_mask_function=same_document)


def checked_embedding(table: nn.Embedding, ids: torch.Tensor, name: str) -> torch.Tensor:
    """Rows of a table (B, T, D). A CPU notices an id that is not there, and then the error names it; to ask an
    accelerator would mean to wait for it at every step, so there it is the device's own assertion."""
    try:
        return table(ids)
    except IndexError as error:
        raise IndexError(
            f"{name} must be from 0 to {table.num_embeddings - 1}, got {int(ids.min())} to {int(ids.max())}"
        ) from error
