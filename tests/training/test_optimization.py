# SPDX-License-Identifier: Apache-2.0
"""The schedule at hand-computed points, and which weights decay."""

import pytest

from scratch_gpt.training.optimization import build_adamw, warmup_stable_decay


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


def test_only_projection_matrices_decay(tiny_model) -> None:
    """Embeddings (here tied to the head), norms: no decay; every parameter is in exactly one group."""
    optimizer = build_adamw(tiny_model, learning_rate=1e-3, weight_decay=0.1, betas=(0.9, 0.95))
    names = {id(parameter): name for name, parameter in tiny_model.named_parameters()}
    decayed, kept = ({names[id(p)] for p in group["params"]} for group in optimizer.param_groups)
    assert decayed | kept == set(names.values())
    assert all("_proj" in name for name in decayed)
    assert "model.embed_tokens.weight" in kept
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
