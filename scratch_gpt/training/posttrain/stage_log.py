# SPDX-License-Identifier: Apache-2.0
"""What a stage on top of transformers' Trainer tells: `log.jsonl` and a progress bar, by one callback."""

import time
from typing import Any

from rich.progress import Progress
from transformers import TrainerCallback

from scratch_gpt.runs.log import RunLog


# What Trainer and TRL tell besides the measures of the training.
BOOKKEEPING = ("epoch", "num_tokens", "num_input_tokens_seen", "step_time", "runtime", "per_second")


class StageLog(TrainerCallback):
    """Writes `log.jsonl` and moves the progress bar.

    Seconds are those inside training steps, generating answers included; evaluating and saving are not counted.
    """

    def __init__(self, log: RunLog, bar: Progress, stage: str) -> None:
        self.log, self.bar = log, bar
        self.task = bar.add_task(stage, total=None, status="")
        rows = log.rows()
        self.elapsed_seconds = self.logged_seconds = rows[-1]["elapsed_seconds"] if rows else 0.0
        self.logged_tokens = 0
        self.step_started = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.update(self.task, total=state.max_steps, completed=state.global_step)
        self.logged_tokens = state.num_input_tokens_seen

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.step_started = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.elapsed_seconds += time.perf_counter() - self.step_started
        self.bar.update(self.task, completed=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **kwargs: Any) -> None:
        measures = {name: value for name, value in logs.items() if not name.endswith(BOOKKEEPING)}
        if not state.is_world_process_zero:
            return
        if any(name.startswith("eval_") for name in logs):
            self.log.write(step=state.global_step, elapsed_seconds=self.elapsed_seconds, **measures)
        elif "loss" in logs:
            tokens, seconds = state.num_input_tokens_seen, self.elapsed_seconds
            speed = (tokens - self.logged_tokens) / (seconds - self.logged_seconds)
            self.logged_tokens, self.logged_seconds = tokens, seconds
            head = {name: measures.pop(name) for name in ("loss", "learning_rate", "grad_norm")}
            self.log.write(
                step=state.global_step,
                tokens=tokens,
                **head,
                tokens_per_second=speed,
                elapsed_seconds=seconds,
                **measures,
            )
            name = "reward" if "reward" in logs else "loss"
            self.bar.update(self.task, status=f"{name} {logs[name]:.3f}  {speed:,.0f} tokens/s")
