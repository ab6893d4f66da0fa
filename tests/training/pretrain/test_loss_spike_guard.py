# SPDX-License-Identifier: Apache-2.0
"""Which steps are left out, and when the run is stopped."""

import json
import math
import random

import pytest

from scratch_gpt.training.pretrain.loss_spike_guard import LossSpikeGuard
from wording import shows


def after_quiet_steps(patience: int = 3) -> LossSpikeGuard:
    """A guard that has seen as many ordinary steps as it remembers."""
    noise = random.Random(0)
    guard = LossSpikeGuard(patience)
    for _ in range(LossSpikeGuard.WINDOW):
        assert guard.check(noise.gauss(3.0, 0.1), noise.gauss(1.0, 0.1)) is None
    return guard


@pytest.mark.parametrize(
    ("loss", "norm"), [(math.nan, 1.0), (math.inf, 1.0), (3.0, math.nan), (3.0, math.inf)]
)
def test_what_is_not_finite_is_left_out_from_the_first_step(loss, norm) -> None:
    """It is counted, and does not enter the window."""
    guard = LossSpikeGuard(patience=2)
    assert guard.check(loss, norm)
    assert (guard.skipped, guard.exhausted) == (1, False)
    assert guard.check(loss, norm)
    assert guard.exhausted
    assert all(map(math.isfinite, [*guard.losses, *guard.grad_norms]))


def test_outliers_are_left_out_and_ordinary_noise_is_not() -> None:
    """Six standard deviations (here 0.6) above the mean; below the mean nothing is an outlier."""
    guard = after_quiet_steps()
    assert guard.check(3.4, 1.4) is None
    assert guard.check(0.5, 0.1) is None
    guard = after_quiet_steps()
    assert shows(guard.check(3.0, 2.0), "gradient norm 2", " 1.")
    assert shows(guard.check(4.0, 1.0), "loss 4", " 3.")
    assert guard.check(3.0, 1.0) is None
    assert (guard.skipped, guard.skipped_in_a_row) == (2, 0)


def test_a_lasting_change_of_level_is_accepted() -> None:
    """A norm of 20 instead of 1, from now on: a few steps are left out, then it is the new normal."""
    guard = after_quiet_steps(patience=8)
    judged = [guard.check(3.0, 20.0) is None for _ in range(10)]
    assert judged.index(True) in (3, 4, 5)
    assert all(judged[5:])
    assert not guard.exhausted


def test_a_resumed_safeguard_judges_alike() -> None:
    """Its state passes through JSON without losing a bit."""
    guard = after_quiet_steps()
    guard.check(3.0, 5.0)
    again = LossSpikeGuard(3)
    again.load_state_dict(json.loads(json.dumps(guard.state_dict())))
    assert again.state_dict() == guard.state_dict()
    assert again.check(3.0, 1.9) == guard.check(3.0, 1.9)
