# SPDX-License-Identifier: Apache-2.0
"""Muon against torch's, against the written-out formula in float64, and its state on the way through a file."""

import copy

import pytest
import torch
from torch import nn

from scratch_gpt.training.pretrain import muon
from scratch_gpt.training.pretrain.muon import Muon, orthogonalize
from wording import user_error


SHAPES = [(8, 8), (8, 24), (24, 8), (8, 24), (16, 24), (8, 8)]
LEARNING_RATE, DECAY = 0.02, 0.1


def weights_and_gradients(steps: int) -> tuple[list[torch.Tensor], list[list[torch.Tensor]]]:
    random = torch.Generator().manual_seed(0)
    draw = [[torch.randn(shape, generator=random) for shape in SHAPES] for _ in range(steps + 1)]
    return draw[0], draw[1:]


def train(optimizer: torch.optim.Optimizer, weights: list[nn.Parameter], gradients) -> list[torch.Tensor]:
    for step in gradients:
        for weight, gradient in zip(weights, step):
            weight.grad = gradient.clone()
        optimizer.step()
    return [weight.detach().clone() for weight in weights]


def by_hand(weights: list[torch.Tensor], gradients) -> list[torch.Tensor]:
    """Jordan's and Moonshot's equations in float64, one matrix after the other."""
    a, b, c = 3.4445, -4.7750, 2.0315
    weights = [weight.double() for weight in weights]
    means = [torch.zeros_like(weight) for weight in weights]
    for step in gradients:
        for index, gradient in enumerate(step):
            means[index] = 0.95 * means[index] + 0.05 * gradient.double()
            x = 0.95 * means[index] + 0.05 * gradient.double()
            x = x / x.square().sum().sqrt()
            for _ in range(5):
                gram = x @ x.T
                x = a * x + (b * gram + c * gram @ gram) @ x
            size = 0.2 * max(x.shape) ** 0.5 * LEARNING_RATE
            weights[index] = weights[index] * (1 - LEARNING_RATE * DECAY) - size * x
    return weights


def largest_difference(moved, expected, start) -> float:
    """Relative to the way that the weights went."""
    return max(
        float((one - other).norm() / (other - first).norm())
        for one, other, first in zip(moved, expected, start, strict=True)
    )


@pytest.mark.parametrize("elements", [1, 400, 1 << 20], ids=["alone", "some", "all"])
def test_float32_steps_equal_the_formula(monkeypatch, elements) -> None:
    """Wide and tall matrices, one at a time, two, or all of a shape together: float32 rounding, times the 3.4^5 of small singular values."""
    monkeypatch.setattr(muon, "CPU_STACK_ELEMENTS", elements)
    start, gradients = weights_and_gradients(5)
    weights = [nn.Parameter(weight.clone()) for weight in start]
    moved = train(Muon(weights, [], LEARNING_RATE, DECAY), weights, gradients)
    assert largest_difference(moved, by_hand(start, gradients), start) < 1e-4


def test_bfloat16_steps_equal_those_of_torch_to_its_precision() -> None:
    """torch always multiplies in bfloat16: its 2^-8, a few times over; bfloat16 is really used."""
    start, gradients = weights_and_gradients(5)
    ours, theirs = ([nn.Parameter(weight.clone()) for weight in start] for _ in range(2))
    moved = train(Muon(ours, [], LEARNING_RATE, DECAY, dtype=torch.bfloat16), ours, gradients)
    torchs = torch.optim.Muon(theirs, lr=LEARNING_RATE, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw")
    assert largest_difference(moved, train(torchs, theirs, gradients), start) < 0.03
    assert largest_difference(moved, by_hand(start, gradients), start) > 1e-4


def test_float32_equals_torch_where_torch_has_its_coefficients_and_float32(monkeypatch) -> None:
    """torch's own step with its cast to bfloat16 taken out."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    start, gradients = weights_and_gradients(5)
    ours, theirs = ([nn.Parameter(weight.clone()) for weight in start] for _ in range(2))
    moved = train(Muon(ours, [], LEARNING_RATE, DECAY), ours, gradients)
    torchs = torch.optim.Muon(theirs, lr=LEARNING_RATE, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw")
    assert largest_difference(moved, train(torchs, theirs, gradients), start) < 1e-4


def test_the_other_weights_get_the_bits_of_adamw() -> None:
    """Those of torch's fused AdamW without decay."""
    start, gradients = weights_and_gradients(5)
    ours, theirs = ([nn.Parameter(weight.clone()) for weight in start] for _ in range(2))
    moved = train(Muon([], ours, LEARNING_RATE, DECAY, betas=(0.9, 0.99)), ours, gradients)
    adamw = torch.optim.AdamW(theirs, LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
    for one, other in zip(moved, train(adamw, theirs, gradients), strict=True):
        assert torch.equal(one, other)


def test_a_saved_state_continues_with_the_same_bits(tmp_path) -> None:
    """Through a file, into a new optimizer; a weight without a gradient stays and has no state."""
    start, gradients = weights_and_gradients(6)
    idle = nn.Parameter(torch.ones(3))

    def build(values) -> tuple[list[nn.Parameter], Muon]:
        weights = [nn.Parameter(value.clone()) for value in values]
        return weights, Muon(weights[:4], [*weights[4:], idle], LEARNING_RATE, DECAY)

    weights, optimizer = build(start)
    expected = train(optimizer, weights, gradients)
    weights, optimizer = build(start)
    halfway = train(optimizer, weights, gradients[:3])
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.bin")
    weights, optimizer = build(halfway)
    optimizer.load_state_dict(torch.load(tmp_path / "optimizer.bin", weights_only=True))
    for one, other in zip(train(optimizer, weights, gradients[3:]), expected, strict=True):
        assert torch.equal(one, other)
    assert torch.equal(idle, torch.ones(3))
    assert idle not in optimizer.state


def test_the_state_of_two_optimizers_is_refused() -> None:
    """As versions before this class saved it: torch's Muon and AdamW side by side."""
    start, _ = weights_and_gradients(1)
    parts = {
        "muon": torch.optim.Muon([nn.Parameter(start[0].clone())]),
        "adamw": torch.optim.AdamW([nn.Parameter(torch.ones(3))]),
    }
    optimizer = Muon([nn.Parameter(start[0].clone())], [nn.Parameter(torch.ones(3))], LEARNING_RATE)
    with user_error("cannot_resume", settings=["optim"]):
        optimizer.load_state_dict({name: part.state_dict() for name, part in parts.items()})


def test_a_gradient_of_zeros_moves_nothing() -> None:
    """Nothing is divided by its norm; what torch's distributed checkpoints rely on to make an empty state."""
    weights = [nn.Parameter(torch.ones(2, 3)), nn.Parameter(torch.ones(3))]
    optimizer = Muon(weights[:1], weights[1:], lr=0.1)
    before = copy.deepcopy(weights)
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    for weight, other in zip(weights, before, strict=True):
        assert torch.equal(weight, other)


def test_orthogonalize_brings_singular_values_near_one() -> None:
    """By the singular value decomposition: values from 0.05 to 1 come out within 0.6 to 1.3, the vectors stay."""
    u, _, vh = torch.linalg.svd(
        torch.randn(3, 8, 24, generator=torch.Generator().manual_seed(0)), full_matrices=False
    )
    moved = orthogonalize(u @ torch.diag(torch.linspace(0.05, 1.0, 8)) @ vh, torch.float32)
    values = torch.linalg.diagonal(u.mT @ moved @ vh.mT)
    assert 0.6 < values.min() < values.max() < 1.3
    torch.testing.assert_close(u.mT @ moved @ vh.mT, torch.diag_embed(values), rtol=0, atol=1e-5)
