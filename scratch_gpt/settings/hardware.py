# SPDX-License-Identifier: Apache-2.0
"""How to run on this machine."""

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch


# So many times slower than one thread are all of them only where something else takes their processors.
CROWDED = 1.5


@dataclass(frozen=True)
class Hardware:
    """The fastest way to take a step here: threads of one process, and "no" (float32), "bf16" or "fp16" autocast.

    What the launcher says of precision is not asked: it says "no" where its user said nothing.
    """

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


def cpu_precision() -> str:
    """bfloat16 where the processor multiplies it (AVX512-BF16, which those with AMX have too), else float32.

    Known and not timed: the bits of a run depend on it, and a timing can come out otherwise the next time. Versions of
    torch that cannot tell count as float32.
    """
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return "bf16" if capabilities.get("avx512_bf16") else "no"


def choose_hardware(step: Callable[[], None], repeats: int = 3) -> Hardware:
    """The precision that this machine is made for, and its share of the processors for each process.

    Args:
        step: a forward and backward pass that changes no weights. On a CPU it is timed with all threads and with one:
            while anything else runs on the machine, two threads can be ten times slower than one, and one is taken
            then. The bar is high, so that a run started again on an idle machine gets the same setting and so the
            same bits.
        repeats: passes, of which the fastest counts.
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

    # of one launch on this machine, as torchrun tells
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    chosen = Hardware(max(1, available_cpus() // processes), cpu_precision())
    alone = Hardware(1, chosen.mixed_precision)
    if chosen != alone and seconds(chosen) > CROWDED * seconds(alone):
        chosen = alone
    torch.set_num_threads(chosen.num_threads)
    return chosen
