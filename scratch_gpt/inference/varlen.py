# SPDX-License-Identifier: Apache-2.0
"""Attention over packed documents by their lengths: torch's flash kernel for sequences of variable length.

No mask is built, no other document's scores are computed, and nothing is asked of the device: transformers' own flash
and sdpa paths wait for it once in each forward pass, to see whether documents are packed.
"""

from typing import Any

import torch
from torch.nn.attention import varlen
from transformers import AttentionInterface, PreTrainedConfig


VARLEN = "varlen"
# What torch's flash kernel can be given (torch 2.13).
LARGEST_HEAD = 256
HEAD_MULTIPLE = 8
AMPERE = (8, 0)


def varlen_attention_forward(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    is_causal: bool | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    cu_seq_lens_k: torch.Tensor | None = None,
    max_length_q: int | None = None,
    max_length_k: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """An attention function of transformers for the batches of `PackedCollator` with lengths.

    Args:
        query: (B, H, T, E); `key` and `value` may have fewer heads.
        cu_seq_lens_q: where the documents of the flattened batch begin, and its length (documents + 1,), int32.

    Returns:
        (B, T, H, E), and no weights.

    Raises:
        ValueError: no lengths: documents would see each other; or what the kernel has not: a mask, dropout, softcap,
            attention sinks.
    """
    if cu_seq_lens_q is None or attention_mask is not None:
        raise ValueError("attention varlen takes packed batches with cu_seq_lens and no mask: set sdpa")
    if dropout or kwargs.get("softcap") or kwargs.get("s_aux") is not None:
        raise ValueError("attention varlen has no dropout, no softcap and no attention sinks: set sdpa")
    kind = query.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else query.dtype
    causal = module.is_causal if is_causal is None else is_causal
    output = varlen.varlen_attn(
        *(tensor.transpose(1, 2).flatten(0, 1).to(dtype) for tensor in (query, key, value)),  # (B * T, H, E)
        cu_seq_lens_q,
        cu_seq_lens_k,
        max_length_q,
        max_length_k,
        scale=scaling,
        window_size=(sliding_window - 1 if sliding_window else -1, 0 if causal else -1),
        enable_gqa=True,
    )
    return output.unflatten(0, (query.shape[0], query.shape[2])), None


# No mask function is registered for it, so transformers makes no mask.
AttentionInterface.register(VARLEN, varlen_attention_forward)


def lacks_varlen(config: PreTrainedConfig, mixed_precision: str) -> str | None:
    """What keeps a model on this machine from using this attention, None if nothing does."""
    nvidia = torch.cuda.is_available() and torch.version.hip is None
    if not nvidia or torch.cuda.get_device_capability() < AMPERE:
        return "it needs an NVIDIA GPU from Ampere on"
    if mixed_precision == "no":
        return "it needs mixed_precision bf16 or fp16"
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if head_dim > LARGEST_HEAD or head_dim % HEAD_MULTIPLE:
        return f"it needs a head_dim of at most {LARGEST_HEAD}, a multiple of {HEAD_MULTIPLE}, got {head_dim}"
    if getattr(config, "attention_dropout", 0) or getattr(config, "attn_pdrop", 0):
        return "it has no attention dropout"
    return None
