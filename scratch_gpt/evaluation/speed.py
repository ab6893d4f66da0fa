# SPDX-License-Identifier: Apache-2.0
"""How fast and how large a training step is: alternating timings, peak memory, the machine's matmul rate.

Ratios are what counts: contenders take turns in one run, so that whatever else the machine does hits all of them.
"""

import time
from collections.abc import Callable, Sequence
from statistics import median

import torch
from torch.profiler import ProfilerActivity, profile


Step = Callable[[], object]


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


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


def median_and_spread(values: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """The median, and the smallest and largest value."""
    return median(values), (min(values), max(values))


def matmul_peak(
    dtype: torch.dtype, device: torch.device, sizes: Sequence[int] = (1024, 2048, 4096), repeats: int = 5
) -> float:
    """The best FLOP/s over square matrix products of these sizes (2 n^3 operations each)."""
    best = 0.0
    for size in sizes:
        left = torch.randn(size, size, device=device).to(dtype)
        right = torch.randn(size, size, device=device).to(dtype)
        seconds = interleaved_seconds({"matmul": lambda a=left, b=right: a @ b}, repeats, device)["matmul"]
        best = max(best, 2 * size**3 / min(seconds))
    return best


def peak_memory(step: Step, device: torch.device) -> int:
    """Bytes of tensors that `step` holds at its peak, those not counted that were there before.

    From the allocator's own record: torch.cuda's on a GPU; on the CPU the profiler's, which sees each allocation
    inside kernels too.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return int(torch.cuda.max_memory_allocated(device) - before)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        step()
    events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak
