# SPDX-License-Identifier: Apache-2.0
"""The measured choice of threads and precision."""

import time

import pytest
import torch

from scratch_gpt.training import hardware
from scratch_gpt.training.hardware import Hardware, choose_hardware, gpu_precision


@pytest.mark.parametrize(
    "fast", [Hardware(2, "no"), Hardware(2, "bf16"), Hardware(1, "bf16")], ids=lambda fast: str(fast)
)
def test_the_fastest_setting_is_kept(fast, monkeypatch) -> None:
    """Whichever setting runs the step fastest is chosen, and its number of threads is in force afterwards."""
    monkeypatch.setattr(hardware, "available_cpus", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    def step() -> None:
        threads = torch.get_num_threads()
        precision = "bf16" if torch.is_autocast_enabled("cpu") else "no"
        right = (threads == fast.num_threads) + (precision == fast.mixed_precision)
        time.sleep(0.02 * (3 - right))

    try:
        assert choose_hardware(step) == fast
        assert torch.get_num_threads() == fast.num_threads
    finally:
        torch.set_num_threads(1)


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
