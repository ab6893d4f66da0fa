# SPDX-License-Identifier: Apache-2.0
"""Measuring speed: turns, peaks of memory counted by hand, twins of the same shape."""

import math

import pytest
import torch
from speed import (
    compare_decoding,
    compare_training,
    interleaved_seconds,
    matmul_step,
    our_step,
    peak_memory,
    random_batch,
    stock_twin,
)
from torch.utils.flop_counter import FlopCounterMode

from scratch_gpt import ScratchGPTConfig, ScratchGPTForCausalLM
from scratch_gpt.data.collators.packed import IGNORED


CPU = torch.device("cpu")
TINY = {
    "vocab_size": 128,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def test_contenders_take_turns() -> None:
    """After the warm-up each round times each contender once, in order."""
    calls: list[str] = []
    contenders = {name: (lambda name=name: calls.append(name)) for name in ("a", "b")}
    seconds = interleaved_seconds(contenders, repeats=3, device=CPU, warm_up=2)
    assert calls == ["a", "a", "b", "b", *["a", "b"] * 3]
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3}
    assert min(map(min, seconds.values())) >= 0


def test_peak_memory_is_what_lives_at_once() -> None:
    """4 MB, freed, then 8 MB and 2 MB together: 10 MB; what was there before does not count."""
    before = torch.ones(1_000_000)

    def step() -> None:
        torch.empty(1_000_000)
        kept = torch.empty(2_000_000)
        kept[:500_000].clone()
        before.add_(1)

    assert peak_memory(step, CPU) == pytest.approx(10e6, rel=0.001)


@pytest.mark.parametrize(("dialect", "name"), [("llama", "llama"), ("qwen3", "qwen3")])
def test_the_stock_twin_has_the_same_shape(dialect, name) -> None:
    """Our weights fit into the twin and give the same logits."""
    config = ScratchGPTConfig(**TINY, dialect=dialect)
    ours = ScratchGPTForCausalLM(config).eval()
    twin = stock_twin(config, name).eval()
    twin.load_state_dict(ours.state_dict())
    tokens = torch.arange(20)[None]
    with torch.no_grad():
        torch.testing.assert_close(twin(tokens).logits, ours(tokens).logits)


def test_batches_are_packed_documents() -> None:
    """Four documents a row, whose joints are not labelled; the same for the same seed."""
    batch = random_batch(ScratchGPTConfig(**TINY), 2, 32, CPU, seed=0)
    assert (batch["position_ids"] == 0).sum(dim=1).tolist() == [4, 4]
    assert (batch["labels"][batch["position_ids"] == 0] == IGNORED).all()
    again = random_batch(ScratchGPTConfig(**TINY), 2, 32, CPU, seed=0)
    assert all(torch.equal(batch[name], again[name]) for name in batch)


@pytest.mark.parametrize(
    ("mixed_precision", "dtype"), [("no", None), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_our_step_learns_in_the_precision_that_it_is_told(mixed_precision, dtype, monkeypatch) -> None:
    """Autocast is to that type, or off; float16 needs its gradients scaled, and the scale is not in the loss."""
    seen = set()
    forward = ScratchGPTForCausalLM.forward

    def watched(self, *args, **kwargs):
        seen.add(torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None)
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(ScratchGPTForCausalLM, "forward", watched)
    torch.manual_seed(0)
    batch = random_batch(ScratchGPTConfig(**TINY), 2, 32, CPU, seed=0)
    step = our_step(ScratchGPTConfig(**TINY), batch, mixed_precision, "eager", compiled=False)
    losses = [step().item() for _ in range(20)]
    assert losses[0] == pytest.approx(math.log(128), abs=0.3)
    assert losses[-1] < 0.9 * losses[0]
    assert seen == {dtype}


def test_figures_are_consistent() -> None:
    """Each metric lies in its interval; a ratio is that of the times; the share of the peak is below 1."""
    config = ScratchGPTConfig(**TINY)
    metrics = compare_training(
        config,
        random_batch(config, 2, 16, CPU, seed=0),
        stock=["llama"],
        mixed_precision="no",
        attn_implementation="sdpa",
        compiled=False,
        repeats=3,
        matmul_size=256,
    ) | compare_decoding(
        config, stock=["llama"], dtype=torch.float32, device=CPU, batch_size=1, new_tokens=4, repeats=2
    )
    assert all(metric.ci95[0] <= metric.value <= metric.ci95[1] for metric in metrics.values())
    assert 0 < metrics["ours/share_of_matmul_peak"].value < 1
    assert metrics["ours/peak_memory_mib"].value > 0
    assert {"ours_over_llama", "decoding_ours_over_llama", "matmul_bfloat16_gflops"} <= set(metrics)


def test_a_matmul_has_the_operations_that_it_claims() -> None:
    """A square product in the asked type: 2 n^3 operations by torch's counter."""
    step = matmul_step(torch.bfloat16, CPU, 64)
    with FlopCounterMode(display=False) as counter:
        assert step().dtype == torch.bfloat16
    assert counter.get_total_flops() == 2 * 64**3
