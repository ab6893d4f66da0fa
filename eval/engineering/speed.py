# SPDX-License-Identifier: Apache-2.0
"""Speed and memory of our training step and of decoding, beside transformers' own classes in the same shape.

    accelerate launch eval/engineering/speed.py --config eval/engineering/configs/speed.yaml
    accelerate launch eval/engineering/speed.py --config eval/engineering/configs/speed.yaml --sequence_lengths 128 256 512 --batch_sizes 4 16

All contenders take turns in one run: the ratios hold on a busy machine too, the tokens a second do not. On a GPU the
same command runs there, and decodes in the precision of the training.
"""

import scratch_gpt.native_libraries  # noqa: F401  # before torch

import dataclasses
import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

import torch
from accelerate import PartialState
from accelerate.utils import set_seed
from torch.profiler import ProfilerActivity, profile
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from scratch_gpt.configuration_scratch_gpt import ScratchGPTConfig
from scratch_gpt.data.collators.packed import needs_lengths
from scratch_gpt.evaluation.metrics.intervals import print_table
from scratch_gpt.modeling_scratch_gpt import ScratchGPTForCausalLM
from scratch_gpt.runs.cost import training_flops_per_token
from scratch_gpt.runs.results import Metric, write_result
from scratch_gpt.settings.checking import Count, check_values
from scratch_gpt.settings.hardware import best_precision, choose_threads, gpu_name
from scratch_gpt.settings.parsing import run_stage
from scratch_gpt.training.pretrain.timed_step import HALF, our_step, random_batch, synchronize


Step = Callable[[], object]

STOCK_CLASSES = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen3": (Qwen3Config, Qwen3ForCausalLM)}
# What makes two models the same shape.
SHAPE = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_parameters",
    "tie_word_embeddings",
)


def interleaved_seconds(
    contenders: dict[str, Step], repeats: int, device: torch.device, warm_up: int = 2
) -> dict[str, list[float]]:
    """Seconds of each contender's step, `repeats` times in turn, after `warm_up` steps that do not count."""
    for step in contenders.values():
        for _ in range(warm_up):
            step()
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, step in contenders.items():
            synchronize(device)
            start = time.perf_counter()
            step()
            synchronize(device)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def matmul_step(dtype: torch.dtype, device: torch.device, size: int) -> Step:
    """The product of two square matrices: 2 size^3 operations at about the best rate that the device reaches."""
    left = torch.randn(size, size, device=device).to(dtype)
    right = torch.randn(size, size, device=device).to(dtype)
    return lambda: left @ right


def peak_memory(step: Step, device: torch.device) -> int:
    """Bytes of tensors that `step` holds at its peak, those not counted that were there before.

    From the allocator's own record on a GPU; on the CPU the profiler's, which sees each allocation inside kernels too.
    """
    gc.collect()  # an earlier model in a reference cycle, freed during the step, would count as negative
    if device.type != "cpu":
        torch.accelerator.reset_peak_memory_stats(device)
        before = torch.accelerator.memory_allocated(device)
        step()
        return int(torch.accelerator.max_memory_allocated(device) - before)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        step()
    events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


def stock_twin(config: ScratchGPTConfig, name: str) -> PreTrainedModel:
    """A fresh model of transformers' own class in the shape of `config`: "llama", or "qwen3" (with QK-norm)."""
    config_class, model_class = STOCK_CLASSES[name]
    shape = {key: getattr(config, key) for key in SHAPE}
    return model_class(config_class(**shape))


def plain_step(model: PreTrainedModel, batch: dict[str, torch.Tensor], micro_batches: int = 1) -> Step:
    """One step of the loop that a tutorial would write: float32, one causal document a row, torch's AdamW."""
    model = model.to(batch["input_ids"].device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    input_ids = batch["input_ids"]

    def step() -> None:
        for _ in range(micro_batches):
            (model(input_ids=input_ids, labels=input_ids, use_cache=False).loss / micro_batches).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def decode_step(model: PreTrainedModel, prompt: torch.Tensor, new_tokens: int) -> Step:
    """Greedy generation of exactly `new_tokens` after each row of `prompt` (B, T), with a key/value cache."""
    model = model.to(prompt.device).eval()
    config = GenerationConfig(max_new_tokens=new_tokens, min_new_tokens=new_tokens, do_sample=False)

    def step() -> None:
        with torch.inference_mode():
            model.generate(prompt, attention_mask=torch.ones_like(prompt), generation_config=config)

    return step


def compare_training(
    config: ScratchGPTConfig,
    batch: dict[str, torch.Tensor],
    *,
    stock: Sequence[str],
    mixed_precision: Literal["auto", "no", "bf16", "fp16"],
    attn_implementation: str,
    compiled: bool,
    repeats: Count,
    matmul_size: int,
    micro_batches: int = 1,
) -> dict[str, Metric]:
    """Tokens a second, peak memory in MiB and share of the matmul peak of our step, beside the stock classes'.

    Every figure carries the smallest and largest of its repeats as its interval: of five, they hold the median with
    94% confidence. Ratios are taken within each turn, that to the faster of a matmul in float32 and one in half of it
    (float16 for fp16, else bfloat16) too.
    Every contender's step is over `micro_batches` times the batch.
    """
    device = batch["input_ids"].device
    tokens = micro_batches * batch["input_ids"].numel()
    builders: dict[str, Callable[[], Step]] = {
        "ours": lambda: our_step(config, batch, mixed_precision, attn_implementation, compiled, micro_batches)
    }
    for name in stock:
        builders[name] = lambda name=name: plain_step(stock_twin(config, name), batch, micro_batches)  # type: ignore[misc]
    steps = {name: build() for name, build in builders.items()}
    matmuls = {
        f"matmul_{str(dtype).removeprefix('torch.')}": matmul_step(dtype, device, matmul_size)
        for dtype in (torch.float32, HALF.get(mixed_precision, torch.bfloat16))
    }
    seconds = interleaved_seconds(steps | matmuls, repeats, device)
    del steps

    metrics = {}
    for name, build in builders.items():
        metrics[f"{name}/tokens_per_second"] = median_of([tokens / value for value in seconds[name]])
        metrics[f"{name}/peak_memory_mib"] = median_of([peak_memory(_two_steps(build), device) / 2**20])
        if name != "ours":
            metrics[f"ours_over_{name}"] = median_of(ratios_of(seconds[name], seconds["ours"]))
    for name in matmuls:
        metrics[f"{name}_gflops"] = median_of([2e-9 * matmul_size**3 / value for value in seconds[name]])
    flops = tokens * sum(training_flops_per_token(config, batch["input_ids"].shape[1]).values())
    fastest = map(min, *(seconds[name] for name in matmuls))
    peaks = [2 * matmul_size**3 / value for value in fastest]
    shares = [flops / value / peak for value, peak in zip(seconds["ours"], peaks, strict=True)]
    return metrics | {"ours/share_of_matmul_peak": median_of(shares)}


def compare_decoding(
    config: ScratchGPTConfig,
    *,
    stock: Sequence[str],
    dtype: torch.dtype,
    device: torch.device,
    batch_size: int,
    new_tokens: int,
    repeats: Count,
) -> dict[str, Metric]:
    """Generated tokens a second, greedy and cached, of our class and of the stock classes in the same dtype."""
    prompt = torch.full((batch_size, 8), 2, device=device)
    models = {"ours": ScratchGPTForCausalLM(config)} | {name: stock_twin(config, name) for name in stock}
    steps = {name: decode_step(model.to(dtype), prompt, new_tokens) for name, model in models.items()}
    seconds = interleaved_seconds(steps, repeats, device, warm_up=1)
    metrics = {
        f"{name}/decoded_tokens_per_second": median_of([batch_size * new_tokens / value for value in values])
        for name, values in seconds.items()
    }
    for name in stock:
        metrics[f"decoding_ours_over_{name}"] = median_of(ratios_of(seconds[name], seconds["ours"]))
    return metrics


def _two_steps(build: Callable[[], Step]) -> Step:
    """Model, optimizer and two steps: the second one has the optimizer's state beside everything else."""

    def run() -> None:
        step = build()
        step()
        step()

    return run


def ratios_of(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """The ratio of each turn."""
    return [a / b for a, b in zip(above, below, strict=True)]


def median_of(values: Sequence[float]) -> Metric:
    """The median, with the smallest and largest value as its interval."""
    return Metric(median(values), (min(values), max(values)))


@dataclass
class SpeedArguments:
    """Settings of `eval/engineering/speed.py`."""

    model_config: dict[str, Any] = field(
        default_factory=dict,
        metadata={"help": "Passed unchanged to ScratchGPTConfig: {hidden_size: 320, ...} or JSON."},
    )
    output: str = field(default="results/speed.json", metadata={"help": "Result file."})
    stock: list[Literal["llama", "qwen3"]] = field(
        default_factory=lambda: ["llama"], metadata={"help": "Classes to compare with: llama, qwen3."}
    )
    sequence_lengths: list[Count] = field(
        default_factory=lambda: [256], metadata={"help": "Tokens in a block."}
    )
    batch_sizes: list[Count] = field(
        default_factory=lambda: [16], metadata={"help": "Blocks in a micro-batch."}
    )
    gradient_accumulation_steps: Count = field(
        default=1, metadata={"help": "Micro-batches in one optimizer step, of all contenders."}
    )
    new_tokens: int = field(
        default=64, metadata={"help": "Tokens decoded after a prompt of 8; 0: no decoding."}
    )
    repeats: Count = field(default=5, metadata={"help": "Steps of each contender; the figures are medians."})
    attn_implementation: str = field(default="sdpa", metadata={"help": "Attention of our model."})
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = field(
        default="auto", metadata={"help": "no, bf16, fp16, or auto: what this machine is made for."}
    )
    torch_compile: bool = field(default=False, metadata={"help": "Compile our model (needs a C++ compiler)."})
    seed: int = field(default=0, metadata={"help": "Seed of weights and tokens."})

    def __post_init__(self) -> None:
        check_values(self)


def main(arguments: SpeedArguments) -> None:
    """Choose the precision, then measure training at each shape, and decoding."""
    device = PartialState().device
    longest = max(arguments.sequence_lengths)
    config = ScratchGPTConfig(**{"max_position_embeddings": longest, **arguments.model_config})
    set_seed(arguments.seed)
    lengths = needs_lengths(arguments.attn_implementation)
    torch.set_num_threads(choose_threads(None))
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
                matmul_size=2048 if device.type == "cpu" else 8192,
                micro_batches=arguments.gradient_accumulation_steps,
            )
            metrics |= {f"{batch_size}x{length}/{name}": metric for name, metric in figures.items()}
    if arguments.new_tokens:
        metrics |= compare_decoding(
            config,
            stock=arguments.stock,
            dtype=torch.float32 if device.type == "cpu" else HALF.get(precision, torch.float32),
            device=device,
            batch_size=arguments.batch_sizes[0],
            new_tokens=arguments.new_tokens,
            repeats=arguments.repeats,
        )
    settings = dataclasses.asdict(arguments) | {
        "device": gpu_name() or "cpu",
        "num_threads": torch.get_num_threads(),
        "precision": precision,
    }
    name = f"ScratchGPT {config.dialect}"
    write_result(arguments.output, "speed", name, arguments.repeats, metrics, settings, arguments.seed)
    print_table("speed", {name: metrics})
    print(f"wrote {arguments.output}")


if __name__ == "__main__":
    run_stage(main, SpeedArguments)
