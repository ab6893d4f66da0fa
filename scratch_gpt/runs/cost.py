# SPDX-License-Identifier: Apache-2.0
"""What a model and a run cost: parameters, floating-point operations, energy."""

import re
from dataclasses import dataclass
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


@dataclass(frozen=True)
class GPU:
    """Board power in watts, and the peak of dense 16-bit products with float32 sums in FLOP/s."""

    watts: int
    flops: float


# From the makers' data sheets. Board power is the upper end, so that energy errs high. Peaks are those without sparsity
# (NVIDIA's H100, H200, A100, L40S, L4, A10, V100 and T4 data sheets, Blackwell and Ada architecture white papers; AMD's
# MI300X data sheet): bfloat16, on V100 and T4 float16. More special names come first.
GPUS = {
    "B200": GPU(1000, 2250e12),
    "H200": GPU(700, 989e12),
    "H100 PCIe": GPU(350, 756e12),
    "H100 NVL": GPU(400, 835e12),
    "H100": GPU(700, 989e12),
    "A100": GPU(400, 312e12),
    "L40S": GPU(350, 362e12),
    "L4": GPU(72, 121e12),
    "A10": GPU(150, 125e12),
    "V100": GPU(300, 125e12),
    "T4": GPU(70, 65e12),
    "RTX 5090": GPU(575, 209e12),
    "RTX 4090": GPU(450, 165e12),
    "RTX 3090": GPU(350, 71e12),
    "MI300X": GPU(750, 1307e12),
}


def known_gpu(device: str) -> GPU | None:
    """The GPU with this name, as torch reports it ("NVIDIA H100 80GB HBM3"); None of one not in the table.

    Names are whole words: an L40 is no L4. Laptop versions share the names of faster cards.
    """
    if "Laptop" in device:
        return None
    return next((gpu for name, gpu in GPUS.items() if re.search(rf"\b{name}\b", device)), None)


# A server processor of 64 cores takes 280 to 400 W, memory and fans come on top.
CPU_CORE_WATTS = 8
GPU_DEFAULT_WATTS = 400


def energy(record: dict[str, Any]) -> tuple[float | None, str]:
    """Estimated kWh of a stage, None if its time is not known, and the assumption it rests on."""
    hardware, seconds = record["hardware"], record["seconds"]
    if hardware["gpu"]:
        gpu = known_gpu(hardware["device"])
        watts = gpu.watts if gpu else GPU_DEFAULT_WATTS
        count, what = hardware["processes"], f"{watts} W a GPU"
    else:
        watts, count = CPU_CORE_WATTS, hardware["processes"] * hardware["threads"]
        what = f"{watts} W a busy core"
    return (None if seconds is None else watts * count * seconds / 3.6e6), what
