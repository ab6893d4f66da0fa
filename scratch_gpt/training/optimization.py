# SPDX-License-Identifier: Apache-2.0
"""Optimizer and learning-rate schedule."""

import torch
from torch import nn


def build_adamw(
    model: nn.Module, learning_rate: float, weight_decay: float, betas: tuple[float, float]
) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019, hf.co/papers/1711.05101) with decay on the projection matrices only.

    Embeddings, norms and biases are left out of the decay: shrinking an embedding makes the first layers' gradients
    grow (OLMo 2, hf.co/papers/2501.00656, section 3.3), and a norm's scale has nothing to regularise.
    """
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    decayed = [p for p in model.parameters() if p.ndim >= 2 and id(p) not in embeddings]
    kept = [p for p in model.parameters() if p.ndim < 2 or id(p) in embeddings]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=betas, fused=True)


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
