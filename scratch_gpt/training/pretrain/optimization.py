# SPDX-License-Identifier: Apache-2.0
"""Optimizers and the learning-rate schedule."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from scratch_gpt.training.pretrain.muon import Muon


# Modules of mixtures of experts in transformers: those that choose experts, and those that stack their matrices.
ROUTERS = {"gate", "router", "shared_expert_gate"}
EXPERTS = "experts"


def split_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The weight matrices of the layers, and everything else: embeddings, output head, norms, biases, routers.

    The experts of a mixture are stacks (experts, rows, columns) and count as matrices. A router does not: its rows are
    scores of experts, and making them orthogonal would set how sharply it chooses.
    """
    outside = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if head is not None:
        outside.add(id(head.weight))
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        *modules, kind = name.split(".")
        stacked = parameter.ndim == 3 and EXPERTS in modules
        is_matrix = (
            (parameter.ndim == 2 or stacked)
            and "bias" not in kind  # of experts it has a row each
            and not ROUTERS.intersection(modules)
            and id(parameter) not in outside
        )
        (matrices if is_matrix else others).append(parameter)
    return matrices, others


def build_optimizer(
    model: nn.Module,
    name: str,
    learning_rate: float,
    weight_decay: float,
    betas: tuple[float, float],
    mixed_precision: str = "no",
) -> torch.optim.Optimizer:
    """What trains `model`: AdamW alone ("adamw"), or Muon for the matrices and AdamW for the rest ("muon").

    AdamW: Loshchilov and Hutter 2019, hf.co/papers/1711.05101; Muon: see `Muon`. One learning rate serves both. Only
    the matrices decay: shrinking an embedding makes the first layers' gradients grow (OLMo 2, hf.co/papers/2501.00656,
    section 3.3), and a norm's scale has nothing to regularize. The decay is multiplied by the current learning rate,
    so it follows the same schedule.

    Args:
        mixed_precision: of the run. Muon multiplies in bfloat16 for "bf16" and in float32 otherwise.
    """
    matrices, others = split_parameters(model)
    if name == "adamw":
        groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=learning_rate, betas=betas, fused=True)
    dtype = torch.bfloat16 if mixed_precision == "bf16" else torch.float32
    return Muon(matrices, others, learning_rate, weight_decay, betas, dtype=dtype)


def warmup_stable_decay(step: int, max_steps: int, warmup_steps: int, decay_steps: int) -> float:
    """Factor on the learning rate of `step` (0-based): linear up, constant, linear down to a hundredth.

    Warmup-stable-decay (MiniCPM, hf.co/papers/2404.06395): the constant part can be prolonged without deciding the
    length of the run beforehand. A function of the step alone, so a resumed run needs no scheduler state.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    steps_left = max_steps - step
    if steps_left <= decay_steps:
        return 0.01 + 0.99 * (steps_left - 1) / max(decay_steps, 1)
    return 1.0


def cosine_decay(step: int, max_steps: int, warmup_steps: int) -> float:
    """Factor on the learning rate of `step` (0-based): linear up, then half a cosine down to a hundredth.

    Loshchilov and Hutter 2017, hf.co/papers/1608.03983, without restarts.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step + 1 - warmup_steps) / (max_steps - warmup_steps)
    return 0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2


def make_schedule(name: str, max_steps: int, warmup_steps: int, decay_ratio: float) -> Callable[[int], float]:
    """The factor on the learning rate of each step: `warmup_stable_decay` or `cosine_decay` ("cosine").

    Args:
        decay_ratio: share of the steps in the decay of `warmup_stable_decay`.
    """
    if name == "cosine":
        return partial(cosine_decay, max_steps=max_steps, warmup_steps=warmup_steps)
    decay_steps = round(decay_ratio * max_steps)
    return partial(
        warmup_stable_decay, max_steps=max_steps, warmup_steps=warmup_steps, decay_steps=decay_steps
    )
