# SPDX-License-Identifier: Apache-2.0
"""How to run on this machine: measured, not guessed."""

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Hardware:
    """The fastest way to take a step here: threads of one process, and "no" (float32), "bf16" or "fp16" autocast."""

    num_threads: int
    mixed_precision: str

    def autocast(self) -> AbstractContextManager[None]:
        """The context in which a forward pass runs on the CPU."""
        return (
            torch.autocast("cpu", dtype=torch.bfloat16) if self.mixed_precision == "bf16" else nullcontext()
        )


def available_cpus() -> int:
    """Processors that this process may use: fewer than the machine has inside a container."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpu_precision() -> str:
    """What the GPU's matrix units are made for: bfloat16 from Ampere on, float16 on Volta and Turing.

    Older ones only emulate both. Only float16 needs its gradients scaled, which Accelerate does.
    """
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return "bf16"
    return "fp16" if torch.cuda.get_device_capability() >= (7, 0) else "no"


def choose_hardware(step: Callable[[], None], repeats: int = 2) -> Hardware:
    """Time `step` (a forward and backward pass that changes no weights) and keep the fastest setting.

    On a GPU nothing needs timing, see `gpu_precision`. On a CPU the float32 and bfloat16 passes are timed with
    all processors, then the faster one with a single thread: while anything else runs on the machine, two threads
    can be ten times slower than one.
    """
    if torch.cuda.is_available():
        return Hardware(torch.get_num_threads(), gpu_precision())

    def seconds(hardware: Hardware) -> float:
        torch.set_num_threads(hardware.num_threads)
        times = []
        for _ in range(repeats + 1):  # the first one warms up
            start = time.perf_counter()
            with hardware.autocast():
                step()
            times.append(time.perf_counter() - start)
        return min(times[1:])

    cpus = available_cpus()
    candidates = [Hardware(cpus, "no"), Hardware(cpus, "bf16")]
    timed = {hardware: seconds(hardware) for hardware in candidates}
    fastest = min(timed, key=lambda hardware: timed[hardware])
    if cpus > 1:
        alone = Hardware(1, fastest.mixed_precision)
        timed[alone] = seconds(alone)
        fastest = min(timed, key=lambda hardware: timed[hardware])
    torch.set_num_threads(fastest.num_threads)
    return fastest
