# SPDX-License-Identifier: Apache-2.0
"""Steps that would harm the weights are left out: losses and gradients that are not finite, or far outliers."""

import math
from collections import deque
from typing import Any

import numpy as np


class LossSpikeGuard:
    """Judges each step by its loss and gradient norm, against those of the steps before it.

    A step is left out if either is not finite, or more than `SIGMAS` standard deviations above the mean of the last
    `WINDOW` steps: the rule of OLMo-core's SkipStepOptimizer (OLMo 2, hf.co/papers/2501.00656). Outliers enter the
    window too, so a lasting change of level is accepted after about four steps.

    Args:
        patience: this many consecutive skipped steps mean that the run diverged.
    """

    WINDOW = 128
    SIGMAS = 6.0

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.losses: deque[float] = deque(maxlen=self.WINDOW)
        self.grad_norms: deque[float] = deque(maxlen=self.WINDOW)
        self.skipped = self.skipped_in_a_row = 0

    def check(self, loss: float, grad_norm: float) -> str | None:
        """Why the step must not be taken, None if it may; to be asked once a step."""
        problems = [
            self._judge(name, value, window)
            for name, value, window in (
                ("loss", loss, self.losses),
                ("gradient norm", grad_norm, self.grad_norms),
            )
        ]
        found = next(filter(None, problems), None)
        self.skipped += found is not None
        self.skipped_in_a_row = self.skipped_in_a_row + 1 if found else 0
        return found

    def _judge(self, name: str, value: float, window: deque[float]) -> str | None:
        if not math.isfinite(value):
            return f"{name} {value}"
        found = None
        if len(window) == self.WINDOW:
            limit = np.mean(window) + self.SIGMAS * np.std(window)
            if value > limit:
                found = f"{name} {value:.4g}, over {limit:.4g}"
        window.append(value)
        return found

    @property
    def exhausted(self) -> bool:
        """Whether the run is to be stopped."""
        return self.skipped_in_a_row >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to judge alike; plain numbers, which JSON keeps exactly."""
        return {
            "losses": list(self.losses),
            "grad_norms": list(self.grad_norms),
            "skipped": self.skipped,
            "skipped_in_a_row": self.skipped_in_a_row,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with a `state_dict`."""
        self.losses.extend(state["losses"])
        self.grad_norms.extend(state["grad_norms"])
        self.skipped, self.skipped_in_a_row = state["skipped"], state["skipped_in_a_row"]
