# SPDX-License-Identifier: Apache-2.0
"""The training loss over a large vocabulary, without all logits in memory at once."""

import functools
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import CausalLMOutputWithPast

from scratch_gpt.data.collators.packed import IGNORED
from scratch_gpt.settings.hardware import device_type


# Float32 logits of one micro-batch up to this size are made at once: chunks would be no faster.
PLAIN_LOGITS_BYTES = 32 << 20
# What the logits of one chunk take above it, and its tokens: at least this many on a GPU, which wants large matrices; at
# most this many on a CPU, whose caches should hold them (1.08 times the speed of a 10-million-parameter step with all
# logits at once).
CHUNK_LOGITS_BYTES = 64 << 20
GPU_CHUNK_TOKENS = 2048
CPU_CHUNK_TOKENS = 512
# Model types whose head is a matrix and nothing else: no scale, no soft cap, no bias.
PLAIN_HEADS = frozenset({"scratch_gpt", "gpt2", "llama", "mistral", "qwen2", "qwen3"})


class _CrossEntropyInChunks(torch.autograd.Function):
    """The sum of cross-entropies; the gradients are made beside it, while a chunk's logits are there."""

    @staticmethod
    def forward(
        ctx: Any, hidden_states: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, chunk_tokens: int
    ) -> torch.Tensor:
        kind = hidden_states.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden_states.dtype
        matrix = weight.to(dtype)
        total = torch.zeros((), device=hidden_states.device)
        hidden_gradient = torch.empty_like(hidden_states)
        # float32 also where the weight is not, as under FSDP2: a hundred chunks' rounding errors would add up
        weight_gradient = torch.zeros_like(weight, dtype=torch.float32)
        parts = (tensor.split(chunk_tokens) for tensor in (hidden_states, labels, hidden_gradient))
        for hidden_chunk, label_chunk, gradient_chunk in zip(*parts, strict=True):
            hidden_chunk = hidden_chunk.to(dtype)
            predicted = (label_chunk != IGNORED)[:, None]
            places = label_chunk[:, None].clamp(min=0)
            log_probabilities = (hidden_chunk @ matrix.T).float().log_softmax(dim=-1)
            total -= (log_probabilities.gather(1, places) * predicted).sum()
            # d cost / d logits = probabilities - (1 at the label)
            gradient = log_probabilities.exp_()
            gradient.scatter_add_(1, places, torch.full_like(places, -1, dtype=gradient.dtype))
            gradient = gradient.mul_(predicted).to(dtype)
            gradient_chunk.copy_(gradient @ matrix)
            weight_gradient += gradient.T @ hidden_chunk
        ctx.gradients = hidden_gradient, weight_gradient.to(weight.dtype)
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        # in place: a step has one backward pass
        return *(gradient.mul_(grad_outputs[0]) for gradient in ctx.gradients), None, None


def chunked_cross_entropy(
    hidden_states: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, chunk_tokens: int
) -> torch.Tensor:
    """Sum of the cross-entropies of `softmax(hidden_states @ weight.T)` at `labels`, in nats (float32).

    The logits of `chunk_tokens` tokens exist at a time. Their gradient is known as soon as they are, so it is
    multiplied on at once (Hsu et al. 2024, Liger Kernel, hf.co/papers/2410.10989): nothing is computed twice. The
    backward pass can be taken once. torch's own `linear_cross_entropy` reports a wrong loss for bfloat16 inputs when
    it works in chunks (torch 2.13), so it is not used.

    Args:
        hidden_states: (N, D).
        weight: of the head, (V, D).
        labels: (N,), IGNORED where nothing is predicted.
    """
    cost: torch.Tensor = _CrossEntropyInChunks.apply(hidden_states, weight, labels, chunk_tokens)
    return cost


def chunk_tokens_for(num_tokens: int, vocab_size: int, on_cpu: bool) -> int | None:
    """Tokens in one chunk, or None where `num_tokens` x `vocab_size` float32 logits may be in memory at once."""
    if num_tokens * vocab_size * 4 <= PLAIN_LOGITS_BYTES:
        return None
    chunk_tokens = max(1, CHUNK_LOGITS_BYTES // (vocab_size * 4))
    return min(chunk_tokens, CPU_CHUNK_TOKENS) if on_cpu else max(chunk_tokens, GPU_CHUNK_TOKENS)


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
        if getattr(model.config, "is_causal", True):
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
        torch.compile(lambda x: torch.sin(x) + 1)(torch.zeros(8, device=device_type()))
    except Exception as error:  # what a missing compiler raises differs by platform and version
        return next(iter(str(error).strip().splitlines()), type(error).__name__)
    for layer in model.modules():
        if isinstance(layer, GradientCheckpointingLayer):
            layer.compile()
    return None
