# SPDX-License-Identifier: Apache-2.0
"""How to run on this machine."""

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from scratch_gpt.settings.processes import launcher_environment


# What a value of `mixed_precision` computes in.
PRECISIONS = {"no": "float32", "bf16": "bfloat16", "fp16": "float16"}


@dataclass(frozen=True)
class ComputeSettings:
    """How a step is computed here: threads of one process, and "no" (float32), "bf16" or "fp16" autocast.

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


def device_type() -> str:
    """torch's name for this machine's accelerator ("cuda" for NVIDIA and AMD, "mps", "xpu"), "cpu" without one."""
    device = torch.accelerator.current_accelerator(check_available=True)
    return device.type if device else "cpu"


def gpu_name() -> str | None:
    """The accelerator's name, None without one."""
    kind = device_type()
    if kind == "cpu":
        return None
    module = torch.get_device_module(kind)
    return str(module.get_device_name()) if hasattr(module, "get_device_name") else f"{kind} GPU"


def gpu_memory() -> int | None:
    """Bytes of the first accelerator, None without one; on an Apple GPU what Metal recommends to take at most."""
    kind = device_type()
    if kind == "cpu":
        return None
    if kind == "mps":
        return int(torch.mps.recommended_max_memory())
    return int(torch.get_device_module(kind).get_device_properties(0).total_memory)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it says that there is no memory for a tensor; for Apple GPUs and the CPU torch has no class of errors."""
    texts = ("MPS backend out of memory", "DefaultCPUAllocator")
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in texts)
    )


def gpu_precision() -> str:
    """What the accelerator's matrix units are made for.

    NVIDIA: bfloat16 from Ampere on, float16 on Volta and Turing; older ones only emulate both. Intel: bfloat16 where it
    is supported. Others float32: on an Apple GPU, bfloat16 autocast depends on the chip and on macOS. Only float16 needs
    its gradients scaled, which Accelerate does.
    """
    kind = device_type()
    if kind == "xpu":
        return "bf16" if torch.xpu.is_bf16_supported(including_emulation=False) else "no"
    if kind != "cuda":
        return "no"
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return "bf16"
    return "fp16" if torch.cuda.get_device_capability() >= (7, 0) else "no"


def cpu_precision() -> str:
    """bfloat16 where the processor multiplies it (AVX512-BF16, which those with AMX have too), else float32.

    Known and not timed: the bits of a run depend on it, and a timing can come out otherwise the next time. Versions of
    torch that does not know count as float32.
    """
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return "bf16" if capabilities.get("avx512_bf16") else "no"


def best_precision() -> str:
    """The precision that this machine's GPU, or else its CPU, is made for."""
    return cpu_precision() if device_type() == "cpu" else gpu_precision()


def describe_compute(mixed_precision: str, num_threads: int, num_processes: int) -> str:
    """For people: "float32, 2 threads, 1 process"."""
    threads = f"{num_threads} thread{'s' * (num_threads != 1)}"
    return f"{PRECISIONS[mixed_precision]}, {threads}, {num_processes} process{'es' * (num_processes != 1)}"


def choose_threads(num_threads: int | None) -> int:
    """Threads of this process: as asked for here or by OMP_NUM_THREADS, else its share of the allowed processors.

    Never a timing: results depend on the number of threads, so the same command must choose the same one however busy
    the machine is. On a GPU, threads matter little: torch's own number.
    """
    if asked := num_threads or _environment_threads():
        return asked
    if device_type() != "cpu":
        return int(torch.get_num_threads())
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # of one launch on this machine, set by torchrun
    return max(1, available_cpus() // processes)


def _environment_threads() -> int | None:
    """What the user says by OMP_NUM_THREADS, None for nothing.

    `accelerate launch` and torchrun set it to 1 where the user did not: then the launcher itself was started without it.
    """
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]  # a list is for nested parallelism
    if not first.isdecimal() or int(first) < 1:
        return None
    launched = {"ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID"} & os.environ.keys()
    if first == "1" and launched and "OMP_NUM_THREADS" not in launcher_environment():
        return None
    return int(first)
