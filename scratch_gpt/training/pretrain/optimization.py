# SPDX-License-Identifier: Apache-2.0
"""Optimizers and the learning-rate schedule."""

import math
from typing import Any

import torch
from torch import nn


def split_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The weight matrices of the decoder layers, and everything else: embeddings, output head, norms, biases."""
    outside = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if head is not None:
        outside.add(id(head.weight))
    matrices = [p for p in model.parameters() if p.ndim == 2 and id(p) not in outside]
    others = [p for p in model.parameters() if p.ndim != 2 or id(p) in outside]
    return matrices, others


class MuonAndAdamW(torch.optim.Optimizer):
    """Two optimizers with the face of one, so that the loop, the gradient scaler and the checkpoint see one."""

    def __init__(self, muon: torch.optim.Muon, adamw: torch.optim.AdamW) -> None:
        # The base class's constructor would make groups of its own; those of the parts are the only ones.
        self.parts = {"muon": muon, "adamw": adamw}
        self.defaults: dict[str, Any] = {}

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Those of both."""
        return [group for part in self.parts.values() for group in part.param_groups]

    @property
    def state(self) -> dict[torch.Tensor, Any]:
        """What both remember of each weight."""
        return {weight: state for part in self.parts.values() for weight, state in part.state.items()}

    def step(self, closure: None = None) -> None:
        """Move all weights."""
        for part in self.parts.values():
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients."""
        for part in self.parts.values():
            part.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Both states, by name."""
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Give both what `state_dict` returned."""
        for name, part in self.parts.items():
            part.load_state_dict(state_dict[name])


def build_optimizer(
    model: nn.Module, name: str, learning_rate: float, weight_decay: float, betas: tuple[float, float]
) -> torch.optim.Optimizer:
    """What trains `model`: AdamW alone ("adamw"), or Muon for the matrices and AdamW for the rest ("muon").

    AdamW: Loshchilov and Hutter 2019, hf.co/papers/1711.05101. Muon orthogonalises the momentum of a matrix, so that
    every direction moves alike (Jordan et al. 2024, kellerjordan.github.io/posts/muon); its steps are scaled to
    AdamW's size (Liu et al. 2025, hf.co/papers/2502.16982, equation 4), so that one learning rate and one weight
    decay serve both. Only the matrices decay: shrinking an embedding makes the first layers' gradients grow (OLMo 2,
    hf.co/papers/2501.00656, section 3.3), and a norm's scale has nothing to regularise. The decay is multiplied by
    the learning rate of the moment, so it follows the same schedule.
    """
    matrices, others = split_parameters(model)
    if name == "adamw":
        groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=learning_rate, betas=betas, fused=True)
    return MuonAndAdamW(
        torch.optim.Muon(
            matrices, lr=learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(others, lr=learning_rate, betas=betas, weight_decay=0.0, fused=True),
    )


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
