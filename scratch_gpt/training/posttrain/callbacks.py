# SPDX-License-Identifier: Apache-2.0
"""What a stage does inside transformers' Trainer: log and progress bar, samples, an end where it is interrupted or gradients are NaN."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from rich.progress import Progress
from transformers import PreTrainedTokenizerFast, TrainerCallback

from scratch_gpt.errors import UserError
from scratch_gpt.inference.generation import generate_answers
from scratch_gpt.runs.graceful_shutdown import GracefulShutdown, interrupted_line
from scratch_gpt.runs.log import MONITOR, RunLog, console
from scratch_gpt.tokenization import save_tokenizer


# What Trainer and TRL log besides the measures of the training.
BOOKKEEPING = ("epoch", "num_tokens", "num_input_tokens_seen", "step_time", "runtime", "per_second")
# Of a sample.
MAX_NEW_TOKENS = 64
NO_SIGNAL = MONITOR + "no_signal"
# What float32 leaves of a gradient whose parts cancel out; real ones are above 1e-3.
ZERO_GRADIENT = 1e-6


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


class Samples(TrainerCallback):
    """Appends the greedy answers to `prompts` at every evaluation; random states stay as they were."""

    def __init__(self, log: RunLog, prompts: list[str], tokenizer: PreTrainedTokenizerFast) -> None:
        self.log, self.prompts, self.tokenizer = log, prompts, tokenizer
        self.step = max((row["step"] for row in log.rows()), default=-1)

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any], model: Any = None, **kwargs: Any
    ) -> None:
        if self.step == state.global_step or not any(name.startswith("eval_") for name in logs):
            return
        self.step, was_training = state.global_step, model.training
        model.eval()
        answers = generate_answers(
            model,
            self.tokenizer,
            self.prompts,
            chat=not model.config.is_encoder_decoder,
            max_new_tokens=min(MAX_NEW_TOKENS, model.config.max_position_embeddings // 2),
        )
        model.train(was_training)
        if state.is_world_process_zero:
            for prompt, answer in zip(self.prompts, answers, strict=True):
                self.log.write(step=state.global_step, text=f"{prompt}\n{answer.text}")


class FiniteGradients(TrainerCallback):
    """Stops before a NaN gradient corrupts the weights.

    Trainer would continue: it hides such a loss, and good checkpoints would rotate away. In fp16 such gradients are usual,
    and the gradient scaler leaves out their steps.
    """

    def on_pre_optimizer_step(
        self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any
    ) -> None:
        if args.fp16:
            return
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if not torch.isfinite(norm):
            message = f"the gradient is {norm.item()}: lower learning_rate, in rlhf also look at the rewards"
            raise UserError("gradient_not_finite", message, value=norm.item())


class Interruption(TrainerCallback):
    """Ends the run behind the step in which a signal came, with a checkpoint; to be added last, so that all is saved by then.

    Args:
        leave: ends the process group.
    """

    def __init__(self, shutdown: GracefulShutdown, leave: Callable[[], None]) -> None:
        self.shutdown, self.leave, self.requested = shutdown, leave, False

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.requested = any(gather_object([self.shutdown.requested]))
        control.should_save |= self.requested

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.requested:
            saved = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            console.print(interrupted_line(saved), soft_wrap=True)
            self.leave()
            self.shutdown.exit()


class NoSignal(TrainerCallback):
    """Says when there is nothing to learn from: equal rewards in every group, answers that are all cut off, or no gradient.

    Such a run ends like any other. Each measurement before which no step had a signal is marked in the log; to be added
    before `StageLog`, which writes it. `nothing_learned`: no logged step had one.
    """

    def __init__(self, log: RunLog, mask_truncated: bool) -> None:
        self.log, self.mask_truncated = log, mask_truncated
        self.reported = self.nothing_learned = False
        self.reasons: set[str | None] = set()  # of the steps since the last measurement
        self.seen = False
        for row in log.rows():
            self._take(row)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **kwargs: Any) -> None:
        if any(name.startswith("eval_") for name in logs) and self.reasons and None not in self.reasons:
            logs[NO_SIGNAL] = 1.0
            self._tell(state.global_step)
        self._take(logs)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.nothing_learned and not self.reported:  # nothing was measured behind the last step
            self._tell(state.global_step)
            if state.is_world_process_zero:
                seconds = self.log.rows()[-1]["elapsed_seconds"]
                self.log.write(step=state.global_step, elapsed_seconds=seconds, **{NO_SIGNAL: 1.0})

    def _take(self, row: dict[str, Any]) -> None:
        if any(name.startswith("eval_") for name in row):
            self.reported |= NO_SIGNAL in row
            self.reasons = set()
        elif "grad_norm" in row:
            self.reasons.add(self._reason(row))
            self.seen |= None in self.reasons
            self.nothing_learned = not self.seen

    def _reason(self, row: dict[str, Any]) -> str | None:
        """Why a step taught nothing, with a cure; None: it did."""
        if self.mask_truncated and row.get("completions/clipped_ratio") == 1:
            return "every answer was cut off, and mask_truncated_completions leaves those out: raise max_completion_length"
        if "frac_reward_zero_std" in row:
            if row["frac_reward_zero_std"] < 1:
                return None
            return (
                "all answers to a prompt had the same reward, so that none is better than another: add a reward that "
                "tells them apart, or raise temperature or num_generations"
            )
        if row["grad_norm"] <= ZERO_GRADIENT:
            return "the gradient was 0: of pairs, both sides are alike or beta is 0"
        return None

    def _tell(self, step: int) -> None:
        if not self.reported:
            self.reported = True
            reasons = "; or ".join(sorted(filter(None, self.reasons)))
            console.print(f"step {step}: no signal: {reasons}", markup=False)


class TokenizerOfCheckpoint(TrainerCallback):
    """Saves the tokenizer of each checkpoint as that of the finished folder is saved."""

    def on_save(
        self, args: Any, state: Any, control: Any, processing_class: Any = None, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            save_tokenizer(processing_class, Path(args.output_dir) / f"checkpoint-{state.global_step}")
