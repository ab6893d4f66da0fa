# SPDX-License-Identifier: Apache-2.0
"""The schedule at hand-computed points, which optimizer moves which weights, and a step of Muon by hand."""

import pytest
import torch

from scratch_gpt import ScratchGPTConfig, ScratchGPTForCausalLM
from scratch_gpt.training.pretrain.muon import Muon
from scratch_gpt.training.pretrain.optimization import (
    build_optimizer,
    cosine_decay,
    warmup_stable_decay,
)


@pytest.mark.parametrize(
    ("step", "factor"),
    [
        (0, 0.1),
        (9, 1.0),
        (10, 1.0),
        (59, 1.0),
        (60, 0.01 + 0.99 * 39 / 40),
        (79, 0.01 + 0.99 * 20 / 40),
        (99, 0.01),
    ],
)
def test_warmup_stable_decay_at_known_steps(step, factor) -> None:
    """100 steps: up over 10, constant to 60, linearly down to a hundredth at the last."""
    assert warmup_stable_decay(step, max_steps=100, warmup_steps=10, decay_steps=40) == pytest.approx(factor)


@pytest.mark.parametrize(
    ("step", "factor"), [(0, 0.1), (9, 1.0), (39, 0.01 + 0.99 * 0.75), (54, 0.505), (69, 0.2575), (99, 0.01)]
)
def test_cosine_decay_at_known_steps(step, factor) -> None:
    """100 steps: up over 10, then a cosine: a third of the way is three quarters, half of it half, the last a hundredth."""
    assert cosine_decay(step, max_steps=100, warmup_steps=10) == pytest.approx(factor)


def parameter_names(model, group) -> set[str]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(parameter)] for parameter in group["params"]}


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_only_projection_matrices_decay(tiny_model, name) -> None:
    """Embeddings (here tied to the head), norms: no decay; every parameter is in exactly one group."""
    optimizer = build_optimizer(tiny_model, name, learning_rate=1e-3, weight_decay=0.1, betas=(0.9, 0.95))
    matrices, others = optimizer.param_groups
    decayed, kept = parameter_names(tiny_model, matrices), parameter_names(tiny_model, others)
    assert decayed | kept == {name for name, _ in tiny_model.named_parameters()}
    assert not decayed & kept
    assert all("_proj" in name for name in decayed)
    assert "model.embed_tokens.weight" in kept
    assert [matrices["weight_decay"], others["weight_decay"]] == [0.1, 0.0]
    assert isinstance(optimizer, Muon) == (name == "muon")


def test_an_untied_head_is_no_matrix_of_a_layer() -> None:
    """Muon is for what maps hidden states to hidden states."""
    config = ScratchGPTConfig(
        vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, tie_word_embeddings=False
    )
    model = ScratchGPTForCausalLM(config)
    optimizer = build_optimizer(model, "muon", learning_rate=1e-3, weight_decay=0.0, betas=(0.9, 0.95))
    assert "lm_head.weight" in parameter_names(model, optimizer.param_groups[1])
    assert len(optimizer.param_groups[0]["params"]) == 7


def test_a_step_of_muon_turns_every_direction_alike() -> None:
    """Against the exact orthogonal factor by SVD: singular values of the step are near 0.2 sqrt(max(A, B)) lr."""
    torch.manual_seed(0)
    model = torch.nn.Linear(8, 24, bias=False)
    before = model.weight.detach().clone()
    optimizer = build_optimizer(
        torch.nn.Sequential(model, torch.nn.LayerNorm(24)),
        "muon",
        learning_rate=0.1,
        weight_decay=0.0,
        betas=(0.9, 0.95),
    )
    # a gradient whose directions differ in strength by a factor of twenty
    u, _, v = torch.linalg.svd(torch.randn(24, 8), full_matrices=False)
    model.weight.grad = u @ torch.diag(torch.linspace(0.2, 4.0, 8)) @ v
    optimizer.step()
    step = before - model.weight.detach()
    size = 0.2 * 24**0.5 * 0.1
    assert torch.linalg.svdvals(step).div(size).sub(1).abs().max() < 0.4
    assert (step * (u @ v)).sum() / (step.norm() * (u @ v).norm()) > 0.97
