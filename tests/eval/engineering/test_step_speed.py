# SPDX-License-Identifier: Apache-2.0
"""The comparison of training steps: its ratios, and the busy process."""

import psutil
import pytest
import step_speed
import torch
from busy import busy_process
from step_speed import Shape, compare_steps

from wording import user_error


TINY = Shape(
    model_config={"vocab_size": 128, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
    sequence_length=16,
    batch_size=2,
    gradient_accumulation_steps=1,
)


def test_ratios_are_those_of_the_times(monkeypatch) -> None:
    """Our step of 2 s, Llama's of 6 s, of 8 s and 12 s beside a busy process; compiled 1 s after a first of any time."""
    turns = iter(
        [
            {"ours": [2.0] * 3, "llama": [6.0] * 3, "compiled": [1.0] * 3},
            {"ours": [8.0] * 3, "llama": [12.0] * 3, "compiled": [4.0] * 3},
        ]
    )
    monkeypatch.setattr(step_speed, "interleaved_seconds", lambda *_, **__: next(turns))
    monkeypatch.setattr(step_speed, "our_step", lambda *_: lambda: None)
    metrics = compare_steps(
        TINY, mixed_precision="no", attn_implementation="eager", compiled=True, repeats=3, seed=0
    )
    expected = {
        "ours/tokens_per_second": 16,
        "ours_over_llama": 3,
        "compiled_over_llama": 6,
        "compiled_over_ours": 2,
        "ours/busy_over_idle": 0.25,
        "llama/busy_over_idle": 0.5,
    }
    assert {name: metrics[name].value for name in expected} == pytest.approx(expected)


def test_a_compiled_step_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line says what torch misses, and the setting that does without."""

    def fail(*args, **kwargs):
        raise RuntimeError("No working C++ compiler found")

    monkeypatch.setattr(torch, "compile", fail)
    with user_error("compiler_missing", "No working C++ compiler found", "--torch_compile false"):
        compare_steps(
            TINY, mixed_precision="no", attn_implementation="eager", compiled=True, repeats=1, seed=0
        )


def test_the_busy_process_ends() -> None:
    """It runs meanwhile, and also an error ends it."""
    children = psutil.Process().children
    before = len(children())
    with pytest.raises(ZeroDivisionError), busy_process():
        assert len(children()) == before + 1
        raise ZeroDivisionError
    assert len(children()) == before
