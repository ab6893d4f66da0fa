# SPDX-License-Identifier: Apache-2.0
"""Our training step, plain and compiled, beside the plain loop on stock Llama: on an idle machine and beside a busy process.

    accelerate launch eval/engineering/step_speed.py --config eval/engineering/configs/step_speed.yaml
    ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 accelerate launch eval/engineering/step_speed.py --config ...   (as on a laptop)

All contenders take turns, so the ratios hold on a busy machine too. The compiled step's gain, the seconds of compiling and
the operations a second are what the rule for `torch_compile` on a CPU is made of.
"""

import scratch_gpt.native_libraries  # noqa: F401  # before torch

import dataclasses
import time
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from accelerate import PartialState
from accelerate.utils import set_seed
from busy import busy_process
from speed import (
    interleaved_seconds,
    median_of,
    our_step,
    plain_step,
    random_batch,
    ratios_of,
    stock_twin,
)

from scratch_gpt.configuration_scratch_gpt import ScratchGPTConfig
from scratch_gpt.evaluation.metrics.intervals import print_table
from scratch_gpt.runs.cost import training_flops_per_token
from scratch_gpt.runs.results import Metric, write_result
from scratch_gpt.settings.checking import Count, check_values
from scratch_gpt.settings.hardware import best_precision, choose_threads, gpu_name
from scratch_gpt.settings.parsing import run_stage


@dataclass(frozen=True)
class Shape:
    """A model and its step."""

    model_config: dict[str, Any]
    sequence_length: int
    batch_size: int
    gradient_accumulation_steps: int


def compare_steps(
    shape: Shape,
    *,
    mixed_precision: Literal["auto", "no", "bf16", "fp16"],
    attn_implementation: str,
    compiled: bool,
    repeats: int,
    seed: int,
) -> dict[str, Metric]:
    """Tokens a second of each contender, their ratios, and what is left of each speed beside a busy process.

    The interval of a figure is the smallest and largest of its repeats.

    Raises:
        UserError: `compiled`, and nothing can be compiled here.
    """
    device = PartialState().device
    config = ScratchGPTConfig(max_position_embeddings=shape.sequence_length, **shape.model_config)
    batch = random_batch(config, shape.batch_size, shape.sequence_length, device, seed)
    micro_batches = shape.gradient_accumulation_steps
    settings = (config, batch, mixed_precision, attn_implementation)
    steps = {
        "ours": our_step(*settings, False, micro_batches),
        "llama": plain_step(stock_twin(config, "llama"), batch, micro_batches),
    }
    first = 0.0
    if compiled:
        steps["compiled"] = our_step(*settings, True, micro_batches)
        started = time.perf_counter()
        steps["compiled"]()
        first = time.perf_counter() - started
    idle = interleaved_seconds(steps, repeats, device)
    with busy_process():
        busy = interleaved_seconds(steps, repeats, device, warm_up=1)

    tokens = micro_batches * shape.batch_size * shape.sequence_length
    flops = tokens * sum(training_flops_per_token(config, shape.sequence_length).values())
    metrics = {"ours/gflops": median_of([1e-9 * flops / seconds for seconds in idle["ours"]])}
    for name in steps:
        metrics[f"{name}/tokens_per_second"] = median_of([tokens / seconds for seconds in idle[name]])
        metrics[f"{name}/busy_over_idle"] = median_of(ratios_of(idle[name], busy[name]))
        if name != "llama":
            metrics[f"{name}_over_llama"] = median_of(ratios_of(idle["llama"], idle[name]))
    if compiled:
        metrics["compiled_over_ours"] = median_of(ratios_of(idle["ours"], idle["compiled"]))
        metrics["seconds_of_compiling"] = median_of([first - seconds for seconds in idle["compiled"]])
    return metrics


@dataclass
class StepSpeedArguments:
    """Settings of `eval/engineering/step_speed.py`."""

    shapes: dict[str, dict[str, Any]] = field(
        metadata={
            "help": "By name: model_config, sequence_length, batch_size, gradient_accumulation_steps; YAML or JSON."
        }
    )
    output: str = field(default="results/step_speed.json", metadata={"help": "Result file."})
    repeats: Count = field(default=5, metadata={"help": "Steps of each contender; the figures are medians."})
    attn_implementation: str = field(default="eager", metadata={"help": "Attention of our model."})
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = field(
        default="auto", metadata={"help": "no, bf16, fp16, or auto: what this machine is made for."}
    )
    torch_compile: bool = field(
        default=True, metadata={"help": "Measure the compiled step too (needs a C++ compiler)."}
    )
    seed: int = field(default=0, metadata={"help": "Seed of weights and tokens."})

    def __post_init__(self) -> None:
        check_values(self)


def main(arguments: StepSpeedArguments) -> None:
    """Choose threads and precision, then compare the steps of each shape."""
    set_seed(arguments.seed)
    torch.set_num_threads(choose_threads(None))
    precision = best_precision() if arguments.mixed_precision == "auto" else arguments.mixed_precision
    metrics: dict[str, Metric] = {}
    for name, values in arguments.shapes.items():
        figures = compare_steps(
            Shape(**values),
            mixed_precision=precision,
            attn_implementation=arguments.attn_implementation,
            compiled=arguments.torch_compile,
            repeats=arguments.repeats,
            seed=arguments.seed,
        )
        metrics |= {f"{name}/{figure}": metric for figure, metric in figures.items()}
    settings = dataclasses.asdict(arguments) | {
        "device": gpu_name() or "cpu",
        "num_threads": torch.get_num_threads(),
        "precision": precision,
    }
    write_result(
        arguments.output, "step_speed", "ScratchGPT", arguments.repeats, metrics, settings, arguments.seed
    )
    print_table("step_speed", {"ScratchGPT": metrics})
    print(f"wrote {arguments.output}")


if __name__ == "__main__":
    run_stage(main, StepSpeedArguments)
