# SPDX-License-Identifier: Apache-2.0
"""What a pretraining run leaves in its folder: rows of the log, samples, checkpoints, the finished model."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress

from scratch_gpt.runs.checkpoints import (
    save_checkpoint,
    save_model_folder,
    write_progress,
    writing_checkpoint,
    writing_model,
)
from scratch_gpt.runs.log import RunLog, console
from scratch_gpt.training.pretrain.evaluator import Evaluator, write_samples
from scratch_gpt.training.pretrain.pretraining import Pretraining, StepMetrics


def named_metric(key: str, primary_metric: str, name: str) -> str:
    """A metric of other shards called `name`: of all their blocks, or of one source of theirs."""
    source = key.removeprefix(f"{primary_metric}_")
    return f"{key}_{name}" if source == key else f"{primary_metric}_{name}_{source}"


class Recorder:
    """Measures a run between its steps, and writes what it is to leave.

    Args:
        validation: the held-out blocks.
        other_validation: those of other shards, by name.
        sample_prompts: the model continues them at every evaluation.
        settings: that decide the bits of the run; every checkpoint holds them.
        describe: writes into a finished folder how the model came about, run.yaml last: present means complete.
        save_total_limit: checkpoints that are kept.
        peak_speed: tokens a second of all devices together at their peak, None where that is not known.
        compiled: layers are compiled, and run uncompiled at evaluations.
    """

    def __init__(
        self,
        run: Pretraining,
        validation: Evaluator,
        log: RunLog,
        *,
        other_validation: Mapping[str, Evaluator],
        sample_prompts: list[str],
        settings: dict[str, Any],
        describe: Callable[[Path], None],
        save_total_limit: int,
        peak_speed: float | None,
        compiled: bool,
    ) -> None:
        self.run, self.accelerator = run, run.accelerator
        self.evaluator, self.other_evaluators = validation, other_validation
        self.sample_prompts = sample_prompts
        self.log, self.output_dir = log, log.path.parent
        self.settings, self.describe = settings, describe
        self.save_total_limit, self.peak_speed, self.compiled = save_total_limit, peak_speed, compiled
        # at the row before; a resumed run begins anew
        self._position, self._seconds = run.position, run.elapsed_seconds

    def record(self, **row: float | int | str) -> None:
        """A row of log.jsonl, and to the trackers."""
        if self.accelerator.is_main_process:
            self.log.write(step=self.run.step, **row)
            values = {name: value for name, value in row.items() if not isinstance(value, str)}
            self.accelerator.log(values, step=self.run.step)

    def log_step(self, outcome: StepMetrics, bar: Progress) -> None:
        """Record the step just taken, and move the bar."""
        run = self.run
        sequence_length = run.blocks.manifest["sequence_length"]
        speed = (run.position - self._position) * sequence_length
        speed /= run.elapsed_seconds - self._seconds
        self._position, self._seconds = run.position, run.elapsed_seconds
        mfu = {"mfu": speed / self.peak_speed} if self.peak_speed else {}
        self.record(
            tokens=run.position * sequence_length,
            loss=outcome.loss,
            learning_rate=run.optimizer.param_groups[0]["lr"],
            grad_norm=outcome.grad_norm,
            tokens_per_second=speed,
            elapsed_seconds=run.elapsed_seconds,
            skipped_steps=run.loss_spike_guard.skipped,
            token_hash=run.token_hash_of_all(),
            **{f"tokens_{folder}": tokens for folder, tokens in run.tokens_by_folder().items()},
            **mfu,
        )
        status = f"loss {outcome.loss:.3f}  {speed:,.0f} tokens/s"
        status += f"  {mfu['mfu']:.0%} MFU" if mfu else ""
        bar.update(bar.task_ids[0], completed=run.step, status=status)

    def log_length(self, length: dict[str, float], bar: Progress) -> None:
        """Record the length that a `TimeBudget` has set."""
        self.record(elapsed_seconds=self.run.elapsed_seconds, **length)
        bar.update(bar.task_ids[0], total=self.run.max_steps)
        console.print(
            f"step {self.run.step}: {length['seconds_per_step']:.3g} s a step, so {length['max_steps']:,} steps instead of "
            f"the {length['planned_steps']:,} planned end in time; the decay stays as planned",
            soft_wrap=True,
        )

    def evaluate(self) -> None:
        """Record the objective's figures on the validation blocks, where there are some, and write samples.

        Compiled layers run uncompiled: each length of a generated text would be compiled, up to torch's limit.
        """
        with torch.compiler.set_stance("force_eager") if self.compiled else nullcontext():
            self._evaluate()

    def _evaluate(self) -> None:
        run, objective = self.run, self.run.objective
        main = self.accelerator.is_main_process
        figure = objective.primary_metric
        metrics = self.evaluator.measure(self.accelerator, run.model)
        for name, evaluator in self.other_evaluators.items():
            measured = evaluator.measure(self.accelerator, run.model)
            metrics |= {named_metric(key, figure, name): value for key, value in measured.items()}
        if metrics:
            self.record(elapsed_seconds=run.elapsed_seconds, **metrics)
        if main and metrics:
            shown = {
                key.removeprefix(figure)[1:] or "held-out text": f"{value:.3f}"
                for key, value in metrics.items()
                if key.startswith(figure)
            }
            parts = ", ".join(f"{name} {value}" for name, value in shown.items())
            console.print(f"step {run.step}: {objective.metric_unit}: {parts}", soft_wrap=True)
        write_samples(
            self.accelerator.unwrap_model(run.model),
            objective,
            self.sample_prompts,
            run.step,
            self.output_dir / "samples.jsonl" if main else None,
        )

    def progress(self) -> dict[str, Any]:
        """How far the run is and by which settings; all processes call it."""
        return {**self.run.progress(), "settings": self.settings}

    def save(self) -> Path:
        """Write `checkpoint-N`; return its folder."""
        run, progress = self.run, self.progress()
        with writing_checkpoint(self.accelerator, self.output_dir, run.step, self.save_total_limit) as folder:
            save_checkpoint(self.accelerator, run.model, run.objective.tokenizer, folder, progress)
            if self.accelerator.is_main_process:
                self.describe(folder)
        return self.output_dir / f"checkpoint-{run.step}"

    def finish(self) -> None:
        """Write the finished model; all processes call it.

        Raises:
            UserError: no room, no permission.
        """
        run, output_dir = self.run, self.output_dir
        weights, progress = self.accelerator.get_state_dict(run.model), self.progress()
        if self.accelerator.is_main_process:
            model = self.accelerator.unwrap_model(run.model)
            with writing_model(output_dir):
                save_model_folder(model, run.objective.tokenizer, output_dir, weights)
                write_progress(progress, output_dir)
                self.describe(output_dir)
            opener = run.objective.auto_class.__name__
            console.print(f"wrote {output_dir}: {opener}.from_pretrained opens it")
