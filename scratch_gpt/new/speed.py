# SPDX-License-Identifier: Apache-2.0
"""How fast this machine trains: real optimizer steps of a few seconds, and what they say of models in between.

A measured speed decides how long a run is, never how its steps are computed: it is measured once, and the plan keeps it.
"""

import gc
import math
import time
from collections.abc import Sequence
from statistics import median

import numpy as np
import torch

from scratch_gpt.data.collators.packed import needs_lengths
from scratch_gpt.errors import UserError
from scratch_gpt.new.memory import divide_blocks, step_bytes, usable_memory
from scratch_gpt.new.shapes import Shape, attention
from scratch_gpt.settings.hardware import best_precision, choose_threads, device_type
from scratch_gpt.training.planning.execution import choose_attention
from scratch_gpt.training.pretrain.timed_step import our_step, random_batch, synchronize


WARM_UP_STEPS = 2
# Tokens of a step where the batch is not decided yet.
TRIAL_TOKENS = 2048


def seconds_per_step(
    shape: Shape, micro_batch: int, micro_batches: int, compiled: bool, seconds: float
) -> float:
    """The median time of an optimizer step, measured for about this many seconds.

    Args:
        compiled: compile the layers, where there is a compiler.
    """
    torch.set_num_threads(choose_threads(None))
    device = torch.device(device_type())
    precision = best_precision()
    implementation = choose_attention(attention(), shape.config, precision)
    lengths = needs_lengths(implementation)
    batch = random_batch(shape.config, micro_batch, shape.context, device, seed=0, lengths=lengths)
    settings = (shape.config, batch, precision, implementation)
    try:
        step = our_step(*settings, compiled, micro_batches)
    except UserError:  # no compiler: the run goes without one too
        step = our_step(*settings, False, micro_batches)
    for _ in range(WARM_UP_STEPS):
        step()
    synchronize(device)
    times: list[float] = []
    while sum(times) < seconds or len(times) < 3:
        started = time.perf_counter()
        step()
        synchronize(device)
        times.append(time.perf_counter() - started)
    del step, batch, settings  # what the next measurement and the run need
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return median(times)


class Speed:
    """Seconds for one token, as a straight line of a model's operations for one token.

    Args:
        measured: (operations, seconds) for one token of some models.
    """

    def __init__(self, measured: Sequence[tuple[float, float]]) -> None:
        flops, seconds = np.array(measured).T
        # by relative error, since the models are of very different sizes
        terms = np.stack([np.ones_like(flops), flops], axis=1) / seconds[:, None]
        constant, slope = np.linalg.lstsq(terms, np.ones_like(flops), rcond=None)[0]
        if constant < 0 or slope <= 0:
            constant, slope = 0.0, float((seconds / flops).mean())
        self.constant, self.slope, self.factor = float(constant), float(slope), 1.0

    def correct(self, shape: Shape, tokens_per_second: float) -> None:
        """Scale the speed of all models so that this one has the speed that was measured as it will run."""
        self.factor *= tokens_per_second / self.tokens_per_second(shape)

    def tokens_per_second(self, shape: Shape) -> float:
        """Tokens that a model of this shape is trained on in a second."""
        return self.factor / (self.constant + self.slope * shape.flops_per_token)


def measure_speed(trials: Sequence[Shape], seconds: float) -> Speed:
    """The speed of this machine, from steps of some models of different sizes; those that do not fit are left out.

    Args:
        trials: the smallest first.
        seconds: for all of them together.
    """
    measured: list[tuple[float, float]] = []
    for shape in trials:
        if measured and step_bytes(shape, 1) > usable_memory():
            break
        batch = divide_blocks(shape, TRIAL_TOKENS // shape.context)
        step = seconds_per_step(shape, *batch, compiled=False, seconds=seconds / len(trials))
        measured.append((float(shape.flops_per_token), step / (math.prod(batch) * shape.context)))
    return Speed(measured)
