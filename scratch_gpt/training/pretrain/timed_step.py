# SPDX-License-Identifier: Apache-2.0
"""One optimizer step of pretraining on random tokens, to be timed: a run's speed before there is a run."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedConfig

from scratch_gpt.configuration_scratch_gpt import ScratchGPTConfig
from scratch_gpt.data.collators.packed import IGNORED, PackedCollator, to_device
from scratch_gpt.errors import UserError
from scratch_gpt.modeling_scratch_gpt import ScratchGPTForCausalLM
from scratch_gpt.training.pretrain.loss import chunk_tokens_for, compile_layers, use_chunked_loss
from scratch_gpt.training.pretrain.optimization import build_optimizer


# What autocast computes in, by the name of the precision.
HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished its queued work."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def random_batch(
    config: PreTrainedConfig,
    micro_batch: int,
    sequence_length: int,
    device: torch.device,
    seed: int,
    lengths: bool = False,
) -> dict[str, Any]:
    """Packed blocks of random tokens, four documents in each, as the collator makes them (with `lengths` where asked)."""
    eos, pad = 0, 1
    tokens = np.random.default_rng(seed).integers(2, config.vocab_size, (micro_batch, sequence_length))
    tokens[:, sequence_length // 4 :: max(sequence_length // 4, 1)] = eos
    return to_device(PackedCollator(eos, pad, lengths)(list(tokens)), device)


def our_step(
    config: ScratchGPTConfig,
    batch: dict[str, torch.Tensor],
    mixed_precision: str,
    attn_implementation: str,
    compiled: bool,
    micro_batches: int = 1,
) -> Callable[[], torch.Tensor]:
    """One optimizer step as `train/pretrain.py` takes it, over `micro_batches` times the batch; returns its loss.

    Packed documents, autocast (in float16 with scaled gradients), the loss in chunks where the vocabulary is large,
    clipping, our optimizer.

    Raises:
        UserError: `compiled`, and nothing can be compiled here.
    """
    device = batch["input_ids"].device
    model = ScratchGPTForCausalLM(config).to(device).train()
    model.set_attn_implementation(attn_implementation)
    optimizer = build_optimizer(model, "muon", 1e-3, 0.1, (0.9, 0.95), mixed_precision)
    chunk_tokens = chunk_tokens_for(batch["input_ids"].numel(), config.vocab_size, device.type == "cpu")
    if chunk_tokens is not None:
        use_chunked_loss(model, chunk_tokens)
    if compiled and (reason := compile_layers(model)):
        message = (
            f"nothing can be compiled here ({reason}): install a C++ compiler, or give --torch_compile false"
        )
        raise UserError("compiler_missing", message)
    num_tokens = micro_batches * (batch["labels"][:, 1:] != IGNORED).sum()
    dtype = HALF.get(mixed_precision)
    scaler = torch.amp.GradScaler(device.type, enabled=mixed_precision == "fp16")

    def step() -> torch.Tensor:
        for _ in range(micro_batches):
            with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
                loss = model(**batch, use_cache=False, num_items_in_batch=num_tokens).loss
            scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        return micro_batches * loss.detach()

    return step
