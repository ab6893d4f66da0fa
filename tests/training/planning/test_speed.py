# SPDX-License-Identifier: Apache-2.0
"""The speed of this machine: what is timed, and how a large shape follows from a small one."""

import pytest
import torch

from scratch_gpt import ScratchGPTConfig
from scratch_gpt.runs.cost import training_flops_per_token
from scratch_gpt.training.planning import speed
from scratch_gpt.training.planning.memory import StepSettings


CONFIG = ScratchGPTConfig(
    vocab_size=256,
    hidden_size=64,
    num_hidden_layers=3,
    num_attention_heads=4,
    max_position_embeddings=512,
    dialect="llama",
)
SETTINGS = StepSettings(micro_batch=2, sequence_length=512, accumulation=3)


def measure(**memory: int) -> speed.Speed:
    return speed.measure_speed(
        CONFIG,
        SETTINGS,
        lambda model: torch.optim.SGD(model.parameters(), 0.1),
        attn_implementation="sdpa",
        num_threads=1,
        memory=memory,
    )


def test_a_small_shape_is_measured_whole(monkeypatch) -> None:
    """The tokens of a step over its passes and its update; the weights of the trial change."""
    monkeypatch.setattr(speed, "SECONDS", 0.05)
    monkeypatch.setattr(speed, "PATIENCE", float("inf"))
    seen = []
    timed = speed._TimedStep.seconds_of

    def record(step, work, limit) -> float:
        before = [weight.detach().clone() for weight in step.model.parameters()]
        seconds = timed(step, work, limit)
        changed = any(not torch.equal(a, b) for a, b in zip(before, step.model.parameters(), strict=True))
        seen.append((work.__name__, step.model.config.num_hidden_layers, seconds, changed))
        return seconds

    monkeypatch.setattr(speed._TimedStep, "seconds_of", record)
    found = measure()
    assert [entry[:2] for entry in seen] == [
        ("forward_and_backward", 1),
        ("forward_and_backward", 3),
        ("update", 3),
    ]
    assert [entry[3] for entry in seen] == [False, False, True]
    assert found.how.startswith("measured")
    assert found.tokens_per_second == pytest.approx(3 * 2 * 512 / (3 * seen[1][2] + seen[2][2]))


@pytest.mark.parametrize("large", ["time", "memory"])
def test_a_large_shape_is_scaled_from_one_layer(large: str, monkeypatch) -> None:
    """By floating-point operations; its own weights are never made."""
    monkeypatch.setattr(speed._TimedStep, "seconds_of", lambda *_: 10.0)
    if large == "memory":
        monkeypatch.setattr(speed, "PATIENCE", float("inf"))
    found = measure(**({"weights": 1 << 60} if large == "memory" else {}))
    one_layer = ScratchGPTConfig(**{**CONFIG.to_dict(), "num_hidden_layers": 1})
    probed = 256 * sum(training_flops_per_token(one_layer, 256).values())
    whole = 2 * 512 * sum(training_flops_per_token(CONFIG, 512).values())
    assert found.how.startswith("scaled")
    assert found.tokens_per_second == pytest.approx(2 * 512 / (10.0 * whole / probed))
