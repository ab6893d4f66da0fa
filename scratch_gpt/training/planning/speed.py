# SPDX-License-Identifier: Apache-2.0
"""How fast this machine trains a model: a few seconds of real forward and backward passes and optimizer steps.

The figure is for the reader of a plan alone. No setting of a run is chosen by it, since a timing comes out otherwise
the next time.
"""

import copy
import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import psutil
import torch
from transformers import PreTrainedConfig

from scratch_gpt.data.collators.packed import needs_lengths
from scratch_gpt.runs.cost import training_flops_per_token
from scratch_gpt.settings.hardware import (
    choose_threads,
    describe_compute,
    device_type,
    gpu_memory,
    gpu_name,
)
from scratch_gpt.training.planning.memory import OptimizerBuilder, StepSettings
from scratch_gpt.training.pretrain.setup import build_model
from scratch_gpt.training.pretrain.timed_step import HALF, random_batch, synchronize


# Of timed passes; a warm-up and the optimizer's steps come on top.
SECONDS = 5.0
# One pass of the whole shape may take this many times SECONDS, else one layer is timed.
PATIENCE = 2
# Tokens of the first, short pass: enough for large matrices, few enough for a CPU.
CPU_PROBE_TOKENS, GPU_PROBE_TOKENS = 256, 4096


@dataclass(frozen=True)
class Speed:
    """Tokens a second of one process, and a sentence on how they were found."""

    tokens_per_second: float
    how: str


class _TimedStep:
    """A model with random weights on random tokens, whose passes and optimizer steps are timed."""

    def __init__(
        self,
        config: PreTrainedConfig,
        settings: StepSettings,
        build_optimizer: OptimizerBuilder,
        attn_implementation: str,
    ) -> None:
        self.kind, self.precision = device_type(), settings.mixed_precision
        self.tokens = settings.micro_batch * settings.sequence_length
        self.model = build_model(
            config,
            "causal",
            attn_implementation=attn_implementation,
            batch_tokens=self.tokens,
            activation_checkpointing=settings.activation_checkpointing,
        ).to(self.kind)
        self.model.train()
        self.optimizer = build_optimizer(self.model)
        shape, lengths = (settings.micro_batch, settings.sequence_length), needs_lengths(attn_implementation)
        self.batch = random_batch(config, *shape, torch.device(self.kind), seed=0, lengths=lengths)

    def forward_and_backward(self) -> None:
        dtype = HALF.get(self.precision)
        num_tokens = torch.tensor(self.tokens, device=self.kind)
        with torch.autocast(self.kind, dtype, enabled=dtype is not None):
            loss = self.model(**self.batch, use_cache=False, num_items_in_batch=num_tokens).loss
        loss.backward()

    def update(self) -> None:
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()

    def seconds_of(self, work: Callable[[], None], limit: float) -> float:
        """Median seconds of `work`, repeated until `limit` is over; the first time counts only where it takes that long."""

        def once() -> float:
            started = time.perf_counter()
            work()
            synchronize(torch.device(self.kind))
            return time.perf_counter() - started

        first = once()
        if first >= limit:
            return first
        times: list[float] = []
        while sum(times) < limit:
            times.append(once())
        return sorted(times)[len(times) // 2]


def measure_speed(
    config: PreTrainedConfig,
    settings: StepSettings,
    build_optimizer: OptimizerBuilder,
    *,
    attn_implementation: str,
    num_threads: int | None,
    memory: Mapping[str, int],
) -> Speed:
    """Train random weights of this shape on random tokens for some seconds, without compiled layers.

    A shape that this machine cannot hold, or on which one pass would take too long, is not built: one layer of it is
    timed on a short block, and scaled by floating-point operations, the optimizer left out.

    Args:
        settings: of the step, of one process.
        memory: bytes of the step by component (`memory_of_a_step`).
    """
    torch.set_num_threads(choose_threads(num_threads))
    where = gpu_name() or "this CPU"
    where += f" ({describe_compute(settings.mixed_precision, torch.get_num_threads(), 1)})"
    shallow = _with_one_layer(config)
    few = GPU_PROBE_TOKENS if gpu_name() else CPU_PROBE_TOKENS
    short = dataclasses.replace(
        settings, micro_batch=1, sequence_length=min(few, settings.sequence_length)
    )  # precision and checkpointing are those of the run
    tokens = settings.micro_batch * settings.sequence_length

    probe = _TimedStep(shallow, short, build_optimizer, attn_implementation)
    probed = probe.seconds_of(probe.forward_and_backward, SECONDS / 5)
    expected = probed * _flops(config, settings) / _flops(shallow, short)
    free = gpu_memory() or psutil.virtual_memory().available
    if expected <= PATIENCE * SECONDS and sum(memory.values()) <= 0.8 * free:
        del probe
        step = _TimedStep(config, settings, build_optimizer, attn_implementation)
        passed = step.seconds_of(step.forward_and_backward, SECONDS)
        updated = step.seconds_of(step.update, SECONDS / 5)
        how = f"measured: steps of this shape on {where}"
    else:
        # by rule, so large a shape has enough tokens in a step that the optimizer's share is small
        passed, updated = expected, 0.0
        how = (
            f"scaled by FLOPs from 1 of its {config.num_hidden_layers} layers on {short.sequence_length} tokens, measured "
            f"on {where}: the whole shape takes too much time or memory to try here"
        )
    return Speed(settings.accumulation * tokens / (settings.accumulation * passed + updated), how)


def _with_one_layer(config: PreTrainedConfig) -> PreTrainedConfig:
    shallow = copy.deepcopy(config)
    shallow.num_hidden_layers = 1
    if getattr(shallow, "layer_types", None):
        shallow.layer_types = shallow.layer_types[:1]
    return shallow


def _flops(config: PreTrainedConfig, settings: StepSettings) -> int:
    per_token = sum(training_flops_per_token(config, settings.sequence_length).values())
    return per_token * settings.micro_batch * settings.sequence_length
