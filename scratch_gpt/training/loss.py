# SPDX-License-Identifier: Apache-2.0
"""The training loss over a large vocabulary, without all logits in memory at once."""

import functools
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import CausalLMOutputWithPast

from scratch_gpt.data.collator import IGNORED


# Float32 logits of one micro-batch up to this size are made at once: that is faster, and small enough.
PLAIN_LOGITS_BYTES = 256 << 20
# What the logits of one chunk take above it.
CHUNK_LOGITS_BYTES = 64 << 20


def chunked_cross_entropy(
    hidden_states: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, chunk_tokens: int
) -> torch.Tensor:
    """Sum of the cross-entropies of `softmax(hidden_states @ weight.T)` at `labels`, in nats (float32).

    The logits of `chunk_tokens` tokens exist at a time, in the backward pass too: they are computed again there (Chen
    et al. 2016, hf.co/papers/1604.06174). torch's own `linear_cross_entropy` reports a wrong loss for bfloat16 inputs
    when it works in chunks (torch 2.13), so it is not used.

    Args:
        hidden_states: (N, D).
        weight: of the head, (V, D).
        labels: (N,), IGNORED where nothing is predicted.
    """

    def cost(hidden_chunk: torch.Tensor, label_chunk: torch.Tensor) -> torch.Tensor:
        logits = functional.linear(hidden_chunk, weight).float()
        return functional.cross_entropy(logits, label_chunk, ignore_index=IGNORED, reduction="sum")

    # Nothing random happens inside: saving the random state would only cost time.
    return sum(
        checkpoint(cost, *chunk, use_reentrant=False, preserve_rng_state=False)
        for chunk in zip(hidden_states.split(chunk_tokens), labels.split(chunk_tokens), strict=True)
    )


def chunk_tokens_for(num_tokens: int, vocab_size: int) -> int | None:
    """Tokens in one chunk, or None where `num_tokens` x `vocab_size` float32 logits may stand in memory at once."""
    if num_tokens * vocab_size * 4 <= PLAIN_LOGITS_BYTES:
        return None
    return max(1, CHUNK_LOGITS_BYTES // (vocab_size * 4))


def use_chunked_loss(model: PreTrainedModel, chunk_tokens: int) -> None:
    """Let this model, while training, compute its loss in chunks; outputs then hold no logits.

    Labels of a causal model are predicted one place earlier, those of an encoder at their own places.

    Both `forward`s are replaced on the instance, so the class and what is saved stay as they are. The loss is computed
    within the head's forward pass, because sharded weights (FSDP) are whole only there.
    """
    plain_forward, head = model.forward, model.get_output_embeddings()
    plain_head = head.forward

    def head_forward(hidden_states: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        if labels is None:
            return plain_head(hidden_states)
        return chunked_cross_entropy(hidden_states, head.weight, labels, chunk_tokens)

    @functools.wraps(plain_forward)
    def forward(*args: Any, labels: torch.Tensor | None = None, **kwargs: Any) -> CausalLMOutputWithPast:
        if labels is None or not model.training:
            return plain_forward(*args, labels=labels, **kwargs)
        num_items = kwargs.pop("num_items_in_batch")
        hidden_states = model.base_model(*args, **kwargs).last_hidden_state
        if model.config.is_causal:
            hidden_states, labels = hidden_states[:, :-1], labels[:, 1:]
        else:  # most tokens of an encoder have no label
            hidden_states, labels = (rows[labels != IGNORED][None] for rows in (hidden_states, labels))
        loss = head(hidden_states.flatten(0, 1), labels=labels.flatten())
        return CausalLMOutputWithPast(loss=loss / num_items)

    head.forward = head_forward
    model.forward = forward


def compile_layers(model: nn.Module) -> str | None:
    """Let `torch.compile` compile the layers in place: all of one shape, so one compilation serves all.

    Returns:
        None, or why nothing is compiled: there is no working compiler here.
    """
    try:
        torch.compile(lambda x: torch.sin(x) + 1)(torch.zeros(8, device=next(model.parameters()).device))
    except Exception as error:  # what a missing compiler raises differs by platform and version
        return next(iter(str(error).strip().splitlines()), type(error).__name__)
    for layer in model.modules():
        if isinstance(layer, GradientCheckpointingLayer):
            layer.compile()
    return None
