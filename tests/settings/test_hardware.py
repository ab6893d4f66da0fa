# SPDX-License-Identifier: Apache-2.0
"""The choice of threads and precision."""

import pytest
import torch

from scratch_gpt.settings import hardware
from scratch_gpt.settings.hardware import Hardware, choose_hardware, gpu_precision


@pytest.fixture
def two_processors(monkeypatch):
    """A CPU with two processors that multiply bfloat16; threads are as before afterwards."""
    monkeypatch.setattr(hardware, "available_cpus", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def passes(monkeypatch):
    """A clock that `passes(seconds)` moves on, and nothing else: what takes how long does not depend on the machine."""
    now = [0.0]
    monkeypatch.setattr(hardware.time, "perf_counter", lambda: now[0])
    return lambda seconds: now.append(now.pop() + seconds)


@pytest.mark.parametrize(
    ("seconds", "num_threads"), [((0.02, 0.01), 2), ((0.01, 0.014), 2), ((0.01, 0.05), 1)]
)
def test_all_threads_unless_they_are_in_each_others_way(two_processors, passes, seconds, num_threads) -> None:
    """A pass takes so long with one and with two threads: twice as long, a little less, a fifth."""
    chosen = choose_hardware(lambda: passes(seconds[torch.get_num_threads() - 1]))
    assert chosen == Hardware(num_threads, "bf16")
    assert torch.get_num_threads() == num_threads


def test_the_precision_does_not_depend_on_the_clock(two_processors, passes, monkeypatch) -> None:
    """A processor that multiplies bfloat16 gets it also where a pass takes longer in it; another one never."""

    def step() -> None:
        passes(0.01 if torch.is_autocast_enabled("cpu") else 0.001)

    assert choose_hardware(step).mixed_precision == "bf16"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": True}, raising=False)
    assert choose_hardware(step).mixed_precision == "no"
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert choose_hardware(step).mixed_precision == "no"


def test_processes_of_a_launch_share_the_processors(two_processors, monkeypatch) -> None:
    """Two of them on two processors: one thread each, and nothing to time."""
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert choose_hardware(lambda: pytest.fail("timed")) == Hardware(1, "bf16")


@pytest.mark.parametrize(
    ("capability", "native_bf16", "precision"),
    [((8, 0), True, "bf16"), ((7, 5), False, "fp16"), ((7, 0), False, "fp16"), ((6, 1), False, "no")],
)
def test_a_gpu_gets_what_its_matrix_units_are_made_for(
    capability, native_bf16, precision, monkeypatch
) -> None:
    """Ampere, Turing, Volta, Pascal; bfloat16 that is only emulated does not count."""
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: native_bf16 or including_emulation
    )
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert gpu_precision() == precision
