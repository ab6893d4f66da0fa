# SPDX-License-Identifier: Apache-2.0
"""Speed and memory of our training step and of decoding, beside transformers' own classes in the same shape.

    accelerate launch eval/engineering/speed.py --config eval/engineering/configs/speed.yaml
    accelerate launch eval/engineering/speed.py --config eval/engineering/configs/speed.yaml --sequence_lengths 128 256 512 --batch_sizes 4 16

All contenders take turns in one run: the ratios hold on a busy machine too, the tokens a second do not. On a GPU the
same command runs there, and decodes in the precision of the training.
"""

import scratch_gpt.openmp  # noqa: F401  # before torch

import dataclasses
from dataclasses import dataclass, field

import torch
from accelerate import PartialState
from accelerate.utils import set_seed

from scratch_gpt.configuration_scratch_gpt import ScratchGPTConfig
from scratch_gpt.data.collators.packed import needs_lengths
from scratch_gpt.errors import UserError
from scratch_gpt.evaluation.speed import (
    HALF,
    STOCK_CLASSES,
    compare_decoding,
    compare_training,
    random_batch,
)
from scratch_gpt.inference.generation import Metric, print_table, write_result
from scratch_gpt.settings.arguments import decode_yaml, run_stage
from scratch_gpt.settings.hardware import best_precision, choose_threads


@dataclass
class SpeedArguments:
    """Settings of `eval/engineering/speed.py`."""

    model_config: dict | str | None = field(
        default=None,
        metadata={"help": "Passed unchanged to ScratchGPTConfig: {hidden_size: 320, ...} or JSON."},
    )
    output: str = field(default="results/speed.json", metadata={"help": "Result file."})
    stock: list[str] = field(
        default_factory=lambda: ["llama"], metadata={"help": "Classes to compare with: llama, qwen3."}
    )
    sequence_lengths: list[int] = field(
        default_factory=lambda: [256], metadata={"help": "Tokens in a block."}
    )
    batch_sizes: list[int] = field(
        default_factory=lambda: [16], metadata={"help": "Blocks in a micro-batch."}
    )
    gradient_accumulation_steps: int = field(
        default=1, metadata={"help": "Micro-batches in one optimizer step, of all contenders."}
    )
    new_tokens: int = field(
        default=64, metadata={"help": "Tokens decoded after a prompt of 8; 0: no decoding."}
    )
    repeats: int = field(default=5, metadata={"help": "Steps of each contender; the figures are medians."})
    attn_implementation: str = field(default="sdpa", metadata={"help": "Attention of our model."})
    mixed_precision: str = field(
        default="auto", metadata={"help": "no, bf16, fp16, or auto: what this machine is made for."}
    )
    torch_compile: bool = field(default=False, metadata={"help": "Compile our model (needs a C++ compiler)."})
    seed: int = field(default=0, metadata={"help": "Seed of weights and tokens."})

    def __post_init__(self) -> None:
        self.model_config = decode_yaml(self.model_config, "model_config") or {}
        unknown = [name for name in self.stock if name not in STOCK_CLASSES]
        if unknown:
            raise UserError(f"stock must be of {', '.join(STOCK_CLASSES)}, got {unknown[0]!r}")
        if self.mixed_precision not in ("auto", "no", *HALF):
            raise UserError(f"mixed_precision must be auto, no, bf16 or fp16, got {self.mixed_precision!r}")
        for name in ("sequence_lengths", "batch_sizes", "gradient_accumulation_steps", "repeats"):
            values = getattr(self, name)
            if min(values if isinstance(values, list) else [values], default=0) < 1:
                raise UserError(f"{name} must be at least 1, got {values}")


def main(arguments: SpeedArguments) -> None:
    """Choose the precision, then measure training at each shape, and decoding."""
    device = PartialState().device
    longest = max(arguments.sequence_lengths)
    config = ScratchGPTConfig(**{"max_position_embeddings": longest, **arguments.model_config})
    set_seed(arguments.seed)
    lengths = needs_lengths(arguments.attn_implementation)
    num_threads = choose_threads(None)
    torch.set_num_threads(num_threads)
    precision = best_precision() if arguments.mixed_precision == "auto" else arguments.mixed_precision
    metrics: dict[str, Metric] = {}
    for length in arguments.sequence_lengths:
        for batch_size in arguments.batch_sizes:
            figures = compare_training(
                config,
                random_batch(config, batch_size, length, device, arguments.seed, lengths),
                stock=arguments.stock,
                mixed_precision=precision,
                attn_implementation=arguments.attn_implementation,
                compiled=arguments.torch_compile,
                repeats=arguments.repeats,
                matmul_size=8192 if device.type == "cuda" else 2048,
                micro_batches=arguments.gradient_accumulation_steps,
            )
            metrics |= {f"{batch_size}x{length}/{name}": metric for name, metric in figures.items()}
    if arguments.new_tokens:
        metrics |= compare_decoding(
            config,
            stock=arguments.stock,
            dtype=HALF.get(precision, torch.float32) if device.type == "cuda" else torch.float32,
            device=device,
            batch_size=arguments.batch_sizes[0],
            new_tokens=arguments.new_tokens,
            repeats=arguments.repeats,
        )
    settings = dataclasses.asdict(arguments) | {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "num_threads": num_threads,
        "precision": precision,
    }
    name = f"ScratchGPT {config.dialect}"
    write_result(arguments.output, "speed", name, arguments.repeats, metrics, settings, arguments.seed)
    print_table("speed", {name: metrics})
    print(f"wrote {arguments.output}")


if __name__ == "__main__":
    run_stage(main, SpeedArguments)
