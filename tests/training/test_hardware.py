# SPDX-License-Identifier: Apache-2.0
"""The measured choice of threads and precision."""

import time

import pytest
import torch

from scratch_gpt.training import hardware
from scratch_gpt.training.hardware import Hardware, choose_hardware


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
