# SPDX-License-Identifier: Apache-2.0
"""What fits into this machine's memory: which models, and how many blocks go through one of them together."""

from functools import cache

import psutil

from scratch_gpt.new.shapes import Shape, attention
from scratch_gpt.settings.hardware import best_precision, device_type, gpu_memory
from scratch_gpt.training.planning.memory import StepSettings, memory_of_a_step
from scratch_gpt.training.planning.scaling import CPU_MICRO_BATCH_TOKENS, divide_step, step_law_batch
from scratch_gpt.training.pretrain.optimization import build_optimizer


# Of memory, what a step may take: less than the run allows (USABLE_SHARE), which then changes nothing of the plan.
MEMORY_SHARE = 0.8
# Tokens of a micro-batch, at most: more are no faster.
GPU_MICRO_BATCH_TOKENS = 16 * CPU_MICRO_BATCH_TOKENS


def usable_memory() -> float:
    """Bytes that a step may take here."""
    return MEMORY_SHARE * (gpu_memory() or psutil.virtual_memory().total)


@cache
def step_bytes(shape: Shape, micro_batch: int) -> int:
    """Bytes that a step takes, with this many blocks in each of several micro-batches."""
    precision = best_precision()
    settings = StepSettings(micro_batch, shape.context, accumulation=2, mixed_precision=precision)
    needed = memory_of_a_step(
        shape.config,
        settings,
        # the memory does not depend on the rates
        lambda model: build_optimizer(model, "muon", 1e-3, 0.1, (0.9, 0.95), precision),
        attention(),
    )
    return sum(needed.values())


def divide_blocks(shape: Shape, blocks: int) -> tuple[int, int]:
    """Blocks in a micro-batch that fits, and micro-batches, which make about `blocks`."""
    most = CPU_MICRO_BATCH_TOKENS if device_type() == "cpu" else GPU_MICRO_BATCH_TOKENS
    return divide_step(
        blocks, lambda size: size * shape.context <= most and step_bytes(shape, size) <= usable_memory()
    )


def choose_batch(shape: Shape, tokens: float) -> tuple[int, int]:
    """Blocks in a micro-batch, and micro-batches in a step, of a run over this many tokens (Step Law)."""
    return divide_blocks(shape, max(1, round(step_law_batch(tokens) / shape.context)))
