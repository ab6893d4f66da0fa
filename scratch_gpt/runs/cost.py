# SPDX-License-Identifier: Apache-2.0
"""What a model and a run cost: parameters, floating-point operations, energy."""

from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM, PreTrainedConfig


def auto_class_of(config: PreTrainedConfig) -> Any:
    """The Auto class whose model a configuration of `config_for` describes."""
    if config.is_encoder_decoder:
        return AutoModelForSeq2SeqLM
    return AutoModelForCausalLM if getattr(config, "is_causal", True) else AutoModelForMaskedLM


def count_parameters(config: PreTrainedConfig) -> dict[str, int]:
    """Parameters by part; a tied output head counts as embeddings only."""
    with torch.device("meta"):
        model = auto_class_of(config).from_config(config)
    counts = dict.fromkeys(("embeddings", "attention", "mlp", "norms", "output head"), 0)
    for name, parameter in model.named_parameters():  # a shared matrix is named once
        if "embed_" in name or ".wte." in name or ".wpe." in name:  # the latter two in GPT-2
            part = "embeddings"
        elif "norm" in name or ".ln_" in name:
            part = "norms"
        elif "attn." in name:
            part = "attention"
        elif ".mlp." in name:
            part = "mlp"
        else:
            part = "output head"
        counts[part] += parameter.numel()
    return counts


def training_flops_per_token(config: PreTrainedConfig, sequence_length: int) -> dict[str, int]:
    """Floating-point operations of a forward and backward pass for one token, recomputation not counted.

    matmuls: 6 for each weight that a token is multiplied with, which leaves the looked-up input embedding out and
    the output head in, tied or not (Kaplan et al. 2020, hf.co/papers/2001.08361, section 2.1).
    attention: 12 L H E T for scores and weighted values over the whole T x T square, the convention of published
    utilisations (PaLM, hf.co/papers/2204.02311, appendix B); a causal kernel may do half of it.
    """
    counts = count_parameters(config)
    weights = counts["attention"] + counts["mlp"] + config.vocab_size * config.hidden_size
    heads = config.num_attention_heads
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
    return {"matmuls": 6 * weights, "attention": 12 * config.num_hidden_layers * width * sequence_length}


# Board power of common accelerators in watts, from their makers' data sheets: the upper end, so the estimate errs high.
GPU_WATTS = {
    "B200": 1000,
    "H200": 700,
    "H100": 700,
    "A100": 400,
    "L40S": 350,
    "L4": 72,
    "A10": 150,
    "V100": 300,
    "T4": 70,
    "RTX 5090": 575,
    "RTX 4090": 450,
    "RTX 3090": 350,
}


# A server processor of 64 cores takes 280 to 400 W, memory and fans come on top.
CPU_CORE_WATTS = 8
GPU_DEFAULT_WATTS = 400


def energy(record: dict[str, Any]) -> tuple[float | None, str]:
    """Estimated kWh of a stage, None if its time is not known, and the assumption it rests on."""
    hardware, seconds = record["hardware"], record["seconds"]
    if hardware["gpu"]:
        watts = next((w for name, w in GPU_WATTS.items() if name in hardware["device"]), GPU_DEFAULT_WATTS)
        count, what = hardware["processes"], f"{watts} W a GPU"
    else:
        watts, count = CPU_CORE_WATTS, hardware["processes"] * hardware["threads"]
        what = f"{watts} W a busy core"
    return (None if seconds is None else watts * count * seconds / 3.6e6), what
