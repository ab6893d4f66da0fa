# SPDX-License-Identifier: Apache-2.0
"""The length of a run that is to end in time: set once, at a tenth of the planned steps, by the speed measured so far.

The constant part of the learning rate becomes shorter or longer, the decay stays as planned. The new length is in the
log and in every later checkpoint, so a resumed run does not measure again.
"""

from accelerate.utils import broadcast_object_list

from scratch_gpt.training.pretrain.optimization import make_schedule
from scratch_gpt.training.pretrain.pretraining import Pretraining


# Share of the planned steps after which the length is set; the speed is that of the second half of them, since the
# first steps compile and warm caches.
REPLAN_SHARE = 0.1


def affordable_steps(step: int, decay_steps: int, seconds_left: float, seconds_per_step: float) -> int:
    """All steps of a run that has done `step` of them: as many as the time allows, at least to the end of the decay."""
    return step + max(decay_steps, int(seconds_left / seconds_per_step))


class TimeBudget:
    """Gives a run of warmup_stable_decay the length that its time allows.

    Args:
        max_minutes: of training steps, evaluations and checkpoints not counted; None: the run keeps its length.
        max_steps, warmup_steps, decay_ratio: as planned.
    """

    def __init__(
        self, max_minutes: float | None, max_steps: int, warmup_steps: int, decay_ratio: float
    ) -> None:
        self.max_minutes, self.warmup_steps = max_minutes, warmup_steps
        self.decay_steps = round(decay_ratio * max_steps)
        self.replan_step = max(1, round(REPLAN_SHARE * max_steps), warmup_steps)
        self._mark: tuple[int, float] | None = None

    def replan(self, run: Pretraining) -> dict[str, float]:
        """After each step: once, at `replan_step`, set the run's length; return what the log keeps of it, else nothing.

        All processes call it, and all take the main one's measurement.
        """
        if self.max_minutes is None or run.replanned or run.step > self.replan_step:
            return {}
        if self._mark is None and 2 * run.step >= self.replan_step:
            self._mark = (run.step, run.elapsed_seconds)
        if run.step < self.replan_step:
            return {}
        step, seconds = self._mark or (0, 0.0)
        if step == run.step:  # the first step after an interruption
            step, seconds = 0, 0.0
        seconds_per_step = (run.elapsed_seconds - seconds) / (run.step - step)
        seconds_left = 60 * self.max_minutes - run.elapsed_seconds
        steps = affordable_steps(run.step, self.decay_steps, seconds_left, seconds_per_step)
        (steps,) = broadcast_object_list([steps])
        planned = run.max_steps
        self._set_length(run, steps)
        return {"planned_steps": planned, "max_steps": steps, "seconds_per_step": seconds_per_step}

    def restore(self, run: Pretraining) -> None:
        """Give a resumed run the length that was set before the interruption."""
        if self.max_minutes is not None and run.replanned:
            self._set_length(run, run.replanned)

    def _set_length(self, run: Pretraining, max_steps: int) -> None:
        schedule = make_schedule(
            "warmup_stable_decay", max_steps, self.warmup_steps, self.decay_steps / max_steps
        )
        run.max_steps, run.schedule, run.replanned = max_steps, schedule, max_steps
