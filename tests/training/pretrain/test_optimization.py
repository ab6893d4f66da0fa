# SPDX-License-Identifier: Apache-2.0
"""The schedule at hand-computed points, which optimizer moves which weights, and a step of Muon by hand."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

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


MIXTURES = ("qwen3_moe", "mixtral", "olmoe")


def mixture(model_type: str):
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
    experts = {"intermediate_size": 12, "moe_intermediate_size": 12, "num_experts": 4, "num_local_experts": 4}
    special = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), 0)
    config = AutoConfig.for_model(
        model_type, vocab_size=64, num_experts_per_tok=2, head_dim=8, **shape, **experts, **special
    )
    return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("model_type", MIXTURES)
@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_experts_are_matrices_and_routers_are_not(model_type, name) -> None:
    """Mixtures of experts of transformers: the groups that decay, under Muon those that are orthogonalized."""
    model = mixture(model_type)
    optimizer = build_optimizer(model, name, 1e-2, 0.1, betas=(0.9, 0.95))
    group = optimizer.param_groups[0]
    assert group["weight_decay"] == 0.1
    assert group.get("use_muon", False) == (name == "muon")
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    mlp = "model.layers.0.mlp"
    assert {names[id(parameter)] for parameter in group["params"]} == {
        *(f"model.layers.0.self_attn.{each}_proj.weight" for each in "qkvo"),
        *(f"{mlp}.experts.gate_up_proj", f"{mlp}.experts.down_proj"),
    }
    assert optimizer.param_groups[1]["weight_decay"] == 0.0
    assert f"{mlp}.gate.weight" in {names[id(parameter)] for parameter in optimizer.param_groups[1]["params"]}


def test_a_step_of_muon_on_experts_is_that_on_each_alone() -> None:
    """A stack of four experts against four weights: the same update, and of about AdamW's size."""
    model = mixture("qwen3_moe")
    stack = model.model.layers[0].mlp.experts.gate_up_proj
    model(input_ids=torch.arange(32)[None], labels=torch.arange(32)[None]).loss.backward()
    alone = [torch.nn.Parameter(expert.detach().clone()) for expert in stack]
    for weight, gradient in zip(alone, stack.grad, strict=True):
        weight.grad = gradient.clone()
    before = stack.detach().clone()
    build_optimizer(model, "muon", 1e-2, 0.1, betas=(0.9, 0.95)).step()
    Muon(alone, [], 1e-2, 0.1).step()
    torch.testing.assert_close(stack.detach(), torch.stack([weight.detach() for weight in alone]))
    steps = (stack.detach() - before).square().mean((1, 2)).sqrt()
    assert ((steps > 0.001) & (steps < 0.004)).all()
