# SPDX-License-Identifier: Apache-2.0
"""TRL's RLOO and GRPO, measured while they learn: the best model is kept, and common failures are detected.

Numbers that are none end the run, and `max_kl` and `patience` where they are given.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, Trainer
from trl import GRPOTrainer, RLOOTrainer

from scratch_gpt.errors import UserError
from scratch_gpt.runs.log import MONITOR, RunLog, console
from scratch_gpt.training.rl.answer_length import WARNED, cut_off_line
from scratch_gpt.training.rl.monitors import LogRow, check_run


# How much the greedy gold score may seem to fall: of 200 answers four, which chance does.
GREEDY_FALL = 0.02


def is_eligible(row: LogRow, start: LogRow, max_kl: float | None) -> bool:
    """Whether the model of this measurement may be kept: near enough to the start, and greedily not clearly worse.

    Reinforcement sharpens: it can raise what is sampled and yet turn some right greedy answers, which users mostly see,
    into wrong ones.
    """
    if max_kl is not None and row["eval_kl"] > max_kl:
        return False
    return row.get("eval_greedy_gold", 0.0) >= start.get("eval_greedy_gold", 0.0) - GREEDY_FALL


def best_row(history: Sequence[LogRow], max_kl: float | None) -> LogRow:
    """The measurement with the highest dev score among the eligible ones, the first of equals; the start is one."""
    eligible = [row for row in history if is_eligible(row, history[0], max_kl)]
    return max(eligible, key=lambda row: row["eval_score"])


def stop_reason(history: Sequence[LogRow], max_kl: float | None, patience: int | None) -> str | None:
    """Why the training should end now, if it should: too far from the start, or no better for too long.

    Args:
        history: the measurements so far, the start first.
        max_kl: nats an answer; None: no limit.
        patience: measurements in a row without a better dev score, such as a falling gold score; None: no limit.
    """
    last, best = history[-1], best_row(history, max_kl)
    if max_kl is not None and last["eval_kl"] > max_kl:
        return f"KL {last['eval_kl']:.3f} nats an answer is over max_kl {max_kl}"
    if patience is not None and sum(row["step"] > best["step"] for row in history) >= patience:
        return f"no better than at step {best['step']} for {patience} measurements"
    return None


class Measured(Trainer):
    """Over a trainer of TRL's: its evaluation is a measurement of ours, by which transformers keeps the best checkpoint.

    `watch` gives the measures, `suggest_length` a better `max_completion_length` or None, `limits` are `max_kl` and
    `patience`; all are set before training. After it, `best` is the measurement of the model that was kept.
    """

    watch: Callable[[], dict[str, float]]
    suggest_length: Callable[[], int | None]
    limits: tuple[float | None, int | None] = (None, None)
    history: list[LogRow]
    best: LogRow
    model: Any

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Measure, log, report each kind of failure once, and stop where a limit is passed."""
        history, step = self.history, self.state.global_step
        if history and history[-1]["step"] == step:  # a resumed run begins where one was taken
            return history[-1]
        row = {"step": step, **self.watch()}
        if not math.isfinite(row["eval_score"]):
            message = (
                f"the score on dev prompts is {row['eval_score']}: the model is broken, lower learning_rate"
            )
            raise UserError("score_not_finite", message, value=row["eval_score"])
        if step == 0 and (cut_off := 1 - row["eval_finished"]) > WARNED:
            self._check_length(cut_off)
        history.append(row)
        reported = {name for earlier in history for name in earlier if name.startswith(MONITOR)}
        for alert in check_run(history):
            row[MONITOR + alert.name] = 1.0
            if MONITOR + alert.name not in reported:
                console.print(f"step {step}: {alert.message}", markup=False)
        self.model.eval()  # TRL would put what it has counted in training into the same row
        self.log({name: value for name, value in row.items() if name != "step"})
        self.model.train()
        if step == 0:
            self.state.best_metric = row["eval_score"]
        elif reason := stop_reason(history, *self.limits):
            console.print(f"stopped at step {step}: {reason}", markup=False)
            self.control.should_training_stop = True
        eligible = is_eligible(row, history[0], self.limits[0])
        return {**row, "eval_score": row["eval_score"] if eligible else -math.inf}

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """As the trainer does, then take the best model."""
        # a resumed run continues the history in its log
        rows = RunLog(Path(self.args.output_dir) / "log.jsonl").rows()
        self.history = [row for row in rows if "eval_score" in row]
        output = super().train(*args, **kwargs)
        self.best = best_row(self.history, self.limits[0])
        if self.best["step"] == 0:
            self._take_start()
        console.print(
            f"kept step {self.best['step']:.0f} of {self.state.global_step}: dev score {self.best['eval_score']:.3f}, at "
            f"the start {self.history[0]['eval_score']:.3f}",
            markup=False,
        )
        return output

    def _check_length(self, cut_off: float) -> None:
        """Say if many answers are cut off, and refuse if nearly all are: nothing would be learned."""
        masked = self.args.mask_truncated_completions
        line = cut_off_line(cut_off, self.args.max_completion_length, self.suggest_length(), masked)
        console.print(line, markup=False, soft_wrap=True)

    def _take_start(self) -> None:
        """Undo the training: nothing was better than the model before."""
        model = self.accelerator.unwrap_model(self.model)
        if hasattr(model, "unload"):  # PEFT's: without its adapters it is the model before
            self.model = model.unload()
            return
        # GRPO's settings do not hold the folder, the model that was loaded from it does
        model.load_state_dict(AutoModelForCausalLM.from_pretrained(model.name_or_path).state_dict())


class MeasuredRLOO(Measured, RLOOTrainer):
    """RLOO (Ahmadian et al. 2024): the baseline is the mean of the other answers; the KL is part of the reward."""


class MeasuredGRPO(Measured, GRPOTrainer):
    """GRPO (Shao et al. 2024): advantages are normalized within the group; the KL is part of the loss."""


TRAINERS = {"rloo": MeasuredRLOO, "grpo": MeasuredGRPO}
