# SPDX-License-Identifier: Apache-2.0
"""Attention, compilation and checkpointed activations by rule, on machines that are only pretended."""

import pytest
from transformers import LlamaConfig

from scratch_gpt import ScratchGPTConfig
from scratch_gpt.inference import varlen
from scratch_gpt.training.planning import execution
from scratch_gpt.training.planning.execution import (
    choose_attention,
    choose_checkpointing,
    choose_compilation,
)
from scratch_gpt.training.pretrain.arguments import PretrainArguments
from wording import shows, user_error


OURS = {"vocab_size": 512, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def arguments(**changes) -> PretrainArguments:
    return PretrainArguments(shards="s", tokenizer="t", output_dir="o", **changes)


@pytest.fixture
def machine(monkeypatch):
    """`machine(kind, capability)`."""

    def pretend(kind: str, capability: tuple[int, int] = (0, 0)) -> None:
        monkeypatch.setattr(execution, "device_type", lambda: kind)
        monkeypatch.setattr("torch.cuda.is_available", lambda: kind == "cuda")
        monkeypatch.setattr("torch.cuda.get_device_capability", lambda: capability)

    return pretend


@pytest.mark.parametrize(
    ("kind", "capability", "precision", "changes", "chosen"),
    [
        ("cuda", (9, 0), "bf16", {}, "varlen"),
        ("cuda", (8, 0), "fp16", {}, "varlen"),
        ("cuda", (7, 5), "fp16", {}, "sdpa"),
        ("cuda", (9, 0), "no", {}, "sdpa"),
        ("cuda", (9, 0), "bf16", {"head_dim": 20}, "sdpa"),
        ("cuda", (9, 0), "bf16", {"head_dim": 264}, "sdpa"),
        ("cuda", (9, 0), "bf16", {"attention_dropout": 0.1}, "sdpa"),
        ("mps", (0, 0), "bf16", {}, "sdpa"),
        ("cpu", (0, 0), "bf16", {}, "sdpa"),
    ],
)
def test_varlen_is_the_default_where_the_kernel_runs(
    machine, kind, capability, precision, changes, chosen
) -> None:
    """Asked for elsewhere it is refused; another one asked for stays."""
    machine(kind, capability)
    config = ScratchGPTConfig(**OURS, **changes)
    assert choose_attention("auto", config, precision) == chosen
    assert choose_attention("eager", config, precision) == "eager"
    if chosen == "varlen":
        assert choose_attention("varlen", config, precision) == "varlen"
    else:
        with user_error("varlen_missing", setting="attn_implementation"):
            choose_attention("varlen", config, precision)


def test_transformers_knows_varlen() -> None:
    """The name is known to transformers, without a mask function: no mask is made."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    assert ALL_ATTENTION_FUNCTIONS["varlen"] is varlen.varlen_attention_forward
    assert "varlen" not in ALL_MASK_ATTENTION_FUNCTIONS


def test_layers_are_compiled_on_cuda_and_in_long_runs_on_a_cpu(machine) -> None:
    """As asked for; another model's and another accelerator's are not by rule."""
    config, llama = ScratchGPTConfig(**OURS), LlamaConfig(**OURS)
    machine("cuda")
    assert choose_compilation(None, config, 1000, 64) == (True, None)
    assert choose_compilation(False, config, 1000, 64) == (False, None)
    assert choose_compilation(None, llama, 1000, 64) == (False, None)
    machine("mps")
    assert choose_compilation(None, config, 10**12, 64) == (False, None)
    assert choose_compilation(True, config, 1000, 64) == (True, None)
    machine("cpu")
    for tokens, expected in ((10_000, False), (100_000_000, True)):
        chosen, line = choose_compilation(None, config, tokens, 64)
        assert chosen is expected
        assert line.startswith(f"torch_compile {str(expected).lower()}")


def test_the_rule_on_a_cpu_asks_for_twice_the_time_of_compiling(machine) -> None:
    """At 14 s and a gain of 1.24 that is a run of 145 s: 1.01e13 operations."""
    machine("cpu")
    config = ScratchGPTConfig(**OURS)
    per_token = sum(execution.training_flops_per_token(config, 64).values())
    enough = 28 / (1 - 1 / 1.24) * 7e10 / per_token
    assert choose_compilation(None, config, int(enough * 1.01), 64)[0]
    assert not choose_compilation(None, config, int(enough * 0.99), 64)[0]


@pytest.mark.parametrize(
    ("asked", "micro_batch", "largest", "chosen"),
    [
        (None, None, 64, False),  # 64 blocks of 64 tokens are 4,096
        (None, None, 63, True),
        (None, 2, 2, False),
        (None, 3, 2, True),
        (False, 3, 2, False),
        (True, None, 64, True),
    ],
)
def test_activations_are_computed_again_where_they_do_not_fit(asked, micro_batch, largest, chosen) -> None:
    """Where a device takes so many blocks; a CPU's memory is not asked."""
    given = arguments(activation_checkpointing=asked, per_device_train_batch_size=micro_batch)
    assert choose_checkpointing(given, 64, lambda blocks: blocks <= largest) is chosen
    assert choose_checkpointing(given, 64, None) is bool(asked)


def test_the_peak_speed_is_known_for_our_models_on_known_gpus(monkeypatch, capsys) -> None:
    """All GPUs together; what is unknown is printed; nothing on a CPU."""
    config = ScratchGPTConfig(**OURS)
    per_token = sum(execution.training_flops_per_token(config, 64).values())
    assert execution.peak_speed(config, 64, 2) is None
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(execution, "gpu_name", lambda: "NVIDIA A100-SXM4-80GB")
    assert execution.peak_speed(config, 64, 2) == pytest.approx(2 * 312e12 / per_token)
    assert execution.peak_speed(LlamaConfig(**OURS), 64, 2) is None
    assert shows(capsys.readouterr().out, "mfu is not logged", "llama")
    monkeypatch.setattr(execution, "gpu_name", lambda: "NVIDIA L40")
    assert execution.peak_speed(config, 64, 2) is None
    assert shows(capsys.readouterr().out, "mfu is not logged", "NVIDIA L40")
