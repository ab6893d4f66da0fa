# SPDX-License-Identifier: Apache-2.0
"""Pretraining step by step: packed blocks in, weights that serve the objective out. `train/pretrain.py` has the loop."""

import gc
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from rich.progress import Progress
from transformers import PreTrainedModel

from scratch_gpt.data.collators.packed import IGNORED, to_device
from scratch_gpt.data.shards.blocks import PackedBlocks
from scratch_gpt.errors import UserError
from scratch_gpt.publishing import push_to_hub, upload
from scratch_gpt.runs.checkpoints import (
    STATE_FOLDER,
    disk_errors,
    keep_weights_in_model_folder,
    save_checkpoint,
    save_model_folder,
    write_progress,
    writing_checkpoint,
)
from scratch_gpt.runs.folders import write_run_yaml
from scratch_gpt.runs.log import RunLog, console
from scratch_gpt.runs.provenance import write_provenance
from scratch_gpt.settings.hardware import ComputeSettings
from scratch_gpt.training.pretrain.arguments import PretrainArguments
from scratch_gpt.training.pretrain.distribution import check_distribution, use_float32_beside_matrices
from scratch_gpt.training.pretrain.evaluator import Evaluator, write_samples
from scratch_gpt.training.pretrain.loss import compile_layers
from scratch_gpt.training.pretrain.loss_spike_guard import LossSpikeGuard
from scratch_gpt.training.pretrain.objectives import Objective
from scratch_gpt.training.pretrain.optimization import cosine_decay, warmup_stable_decay
from scratch_gpt.training.pretrain.resume import check_settings, settings_of
from scratch_gpt.training.pretrain.shuffled_indices import ShuffledIndices, block_hash


Batch = dict[str, Any]


@dataclass(frozen=True)
class StepMetrics:
    """What a step came to, the same in all processes.

    Attributes:
        loss: mean over the step's tokens, nats.
        grad_norm: global norm of the gradients before clipping.
        interrupted: one of the processes is to stop, so all are.
    """

    loss: float
    grad_norm: float
    interrupted: bool


class Pretraining:
    """One run: the state that a step changes, and what can be done between steps."""

    def __init__(
        self,
        arguments: PretrainArguments,
        accelerator: Accelerator,
        hardware: ComputeSettings,
        model: PreTrainedModel,
        optimizer: torch.optim.Optimizer,
        objective: Objective,
        train_blocks: PackedBlocks,
        validation_blocks: PackedBlocks,
    ) -> None:
        self.arguments = arguments
        self.hardware = hardware
        self.accelerator = accelerator
        self.objective = objective
        self.train_blocks = train_blocks
        self.settings = settings_of(arguments, hardware, accelerator.num_processes)
        self.output_dir = Path(arguments.output_dir)  # type: ignore[arg-type]
        self.log = RunLog(self.output_dir / "log.jsonl")
        self.order = ShuffledIndices(len(train_blocks), arguments.seed)
        # Nothing is open any more: `apply_scaling_rules` filled the arguments.
        self.micro_batch_size: int = arguments.per_device_train_batch_size  # type: ignore[assignment]
        self.micro_batches: int = arguments.gradient_accumulation_steps  # type: ignore[assignment]
        self.warmup_steps: int = arguments.warmup_steps  # type: ignore[assignment]
        self.blocks_per_step = self.micro_batch_size * self.micro_batches * accelerator.num_processes
        if self.blocks_per_step > len(train_blocks):
            message = (
                f"one step takes {self.blocks_per_step} blocks and the shards hold {len(train_blocks)}: lower "
                "per_device_train_batch_size or gradient_accumulation_steps, or write more text"
            )
            raise UserError("step_too_large", message, blocks=self.blocks_per_step)
        self.max_steps = arguments.max_steps
        self.schedule: Callable[[int, int, int], float] = cosine_decay
        if arguments.lr_scheduler_type == "warmup_stable_decay":
            decay_steps = round(arguments.decay_ratio * self.max_steps)
            self.schedule = partial(warmup_stable_decay, decay_steps=decay_steps)
        self.evaluator = Evaluator(
            validation_blocks,
            objective,
            arguments.per_device_eval_batch_size,
            arguments.max_eval_blocks,
        )

        self.vocab_size = model.config.vocab_size
        check_distribution(accelerator)
        use_float32_beside_matrices(accelerator, model)
        if arguments.torch_compile and (reason := compile_layers(model)):
            console.print(f"torch_compile: going on without, since nothing can be compiled here: {reason}")
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        self.peak_learning_rates = [group["lr"] for group in self.optimizer.param_groups]
        keep_weights_in_model_folder(accelerator)
        if arguments.report_to:
            accelerator.init_trackers("scratch-gpt", config={k: str(v) for k, v in self.settings.items()})

        self.loss_spike_guard = LossSpikeGuard(arguments.max_skipped_steps)
        self.step = 0
        self.position = 0  # blocks that all processes together have trained on
        self.token_hash = 0  # see `block_hash`; this process's part of the sum
        self.elapsed_seconds = 0.0  # in training steps alone
        self._logged_position, self._logged_seconds = 0, 0.0
        self.model.train()

    def resume(self, checkpoint: Path, progress: dict) -> None:
        """Put weights, optimizer, random states and counters back as they were after the checkpoint's step.

        Raises:
            UserError: the shards are others; a setting is another and that is not allowed.
        """
        if progress["content_hash"] != self.train_blocks.manifest["content_hash"]:
            message = f"{checkpoint} was trained on other shards than {self.arguments.shards}: name a new output_dir"
            raise UserError("trained_on_other_shards", message, folder=checkpoint)
        check_settings(progress, self.settings, checkpoint, self.arguments.allow_changed_settings)
        self.accelerator.load_state(str(checkpoint / STATE_FOLDER))
        self.step, self.position = progress["step"], progress["position"]
        self.elapsed_seconds = progress["elapsed_seconds"]
        self.token_hash = int(progress["token_hash"], 16) if self.accelerator.is_main_process else 0
        self.loss_spike_guard.load_state_dict(progress["loss_spike_guard"])
        self._logged_position, self._logged_seconds = self.position, self.elapsed_seconds

    def announce(self, rules: list[str]) -> None:
        """Tell what will be trained, and what was found by rule (`apply_scaling_rules`)."""
        for line in rules:
            console.print(f"by rule: {line}", markup=False, highlight=False)
        if self.warmup_steps > self.max_steps:
            console.print(
                f"warning: warmup_steps {self.warmup_steps} are more than the run's {self.max_steps} steps: the learning "
                "rate does not reach its peak",
                soft_wrap=True,
            )
        model = self.accelerator.unwrap_model(self.model)
        console.print(
            f"{model.num_parameters():,} parameters, {self.max_steps} steps, "
            f"{self.train_blocks.manifest['tokens']:,} tokens in the shards; {self.hardware.mixed_precision} precision, "
            f"{self.hardware.num_threads} threads, {self.accelerator.num_processes} process(es)"
            + (f"; going on after step {self.step}" if self.step else "")
        )

    def read_step(self) -> list[Batch]:
        """The micro-batches of this step that this process trains on.

        A step is the next `blocks_per_step` blocks of the order, dealt out in micro-batches to the processes in turn: as
        many processes with as many micro-batches as you like see the same blocks in the same step. Reading mapped
        memory takes microseconds a block, so there are no loader processes.

        Raises:
            UserError: a token that the model does not have.
        """
        size = self.micro_batch_size
        batches = []
        for index in range(self.micro_batches):
            turn = index * self.accelerator.num_processes + self.accelerator.process_index
            first = self.position + turn * size
            positions = range(first, first + size)
            numbers = [self.order[position] for position in positions]
            blocks = [self.train_blocks[number] for number in numbers]
            for number, block in zip(numbers, blocks, strict=True):
                if block.max() >= self.vocab_size:
                    message = (
                        f"block {number} of {self.train_blocks.folder} holds token {block.max()}, which the model does "
                        "not have: the file is damaged, run the shards stage again"
                    )
                    raise UserError("unknown_token", message, token=int(block.max()))
                self.token_hash = (self.token_hash + block_hash(self.step, block)) % (1 << 64)
            batch = self.objective.collator(blocks, positions)
            batches.append(to_device(batch, self.accelerator.device))
        return batches

    def train_step(self, interrupted: bool = False) -> StepMetrics:
        """One optimizer step over the next blocks, left out where the `LossSpikeGuard` objects.

        Args:
            interrupted: this process is to stop; all learn of it.

        Raises:
            UserError: too many steps in a row were left out.
        """
        started = time.perf_counter()
        factor = self.schedule(self.step, self.max_steps, self.warmup_steps)
        for group, peak in zip(self.optimizer.param_groups, self.peak_learning_rates, strict=True):
            group["lr"] = peak * factor
        micro_batches = self.read_step()
        # Every token of the step weighs the same, whatever micro-batch or process it is in; gradients are averaged
        # over the processes, hence the factor.
        num_tokens = sum((batch["labels"] != IGNORED).sum() for batch in micro_batches)
        num_tokens = self.accelerator.reduce(num_tokens)
        loss = torch.zeros((), device=self.accelerator.device)
        for index, batch in enumerate(micro_batches):
            last = index == len(micro_batches) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                share = self.model(**batch, use_cache=False, num_items_in_batch=num_tokens).loss
                self.accelerator.backward(share * self.accelerator.num_processes)
            loss += share.detach()
        grad_norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.arguments.max_grad_norm)
        step_metrics = self._agree(loss, grad_norm, interrupted)
        self._update(step_metrics)
        self.step += 1
        self.position += self.blocks_per_step
        self.elapsed_seconds += time.perf_counter() - started
        return step_metrics

    def _agree(self, loss: torch.Tensor, grad_norm: torch.Tensor, interrupted: bool) -> StepMetrics:
        """One message between the processes, and one wait for the device, a step."""
        told = self.accelerator.reduce(torch.stack([loss, torch.full_like(loss, interrupted)]))
        loss_value, count, norm = torch.cat([told, _whole(grad_norm)[None]]).tolist()
        return StepMetrics(loss_value, norm, count > 0)

    def _update(self, step_metrics: StepMetrics) -> None:
        """Let the optimizer take its step, unless there is an problem."""
        scaler = self.accelerator.scaler
        overflow = math.isfinite(step_metrics.loss) and not math.isfinite(step_metrics.grad_norm)
        if scaler is not None and overflow and scaler.get_scale() > 1:
            # Gradients that overflow float16 are in order: the step is left out, and the scaler halves its scale.
            scaler.update()
            self.loss_spike_guard.skipped += 1
        elif problem := self.loss_spike_guard.check(step_metrics.loss, step_metrics.grad_norm):
            console.print(f"step {self.step + 1} is left out: {problem}")
            if self.loss_spike_guard.exhausted:
                raise UserError("too_many_skipped_steps", self._diagnosis(problem), step=self.step + 1)
            if scaler is not None:
                scaler.update()
        else:
            self.optimizer.step()
        self.optimizer.zero_grad()

    def _diagnosis(self, problem: str) -> str:
        # The gradients tell no more: clipping by a norm of NaN has made all of them NaN.
        weights = self.accelerator.unwrap_model(self.model).named_parameters()
        broken = [name for name, weight in weights if not _whole(weight).isfinite().all()]
        found = f"the weights are not finite, first {broken[0]}" if broken else "the weights are finite"
        return (
            f"stopped at step {self.step + 1}, {self.loss_spike_guard.skipped_in_a_row} steps in a row could not be used "
            f"({problem}; {found}; learning rate {self.optimizer.param_groups[0]['lr']:.3g}): lower learning_rate or "
            "lengthen warmup_steps, and go on from an earlier checkpoint with --allow_changed_settings true"
        )

    def is_due(self, every: int) -> bool:
        """Whether something done every so many steps, and after the last, is done now."""
        return self.step % every == 0 or self.step == self.max_steps

    def record(self, **row: float | int | str) -> None:
        """A row of log.jsonl, and to the trackers."""
        if self.accelerator.is_main_process:
            self.log.write(step=self.step, **row)
            values = {name: value for name, value in row.items() if not isinstance(value, str)}
            self.accelerator.log(values, step=self.step)

    def log_step(self, step_metrics: StepMetrics, bar: Progress) -> None:
        """Record the step just taken, and move the bar."""
        sequence_length = self.train_blocks.manifest["sequence_length"]
        speed = (self.position - self._logged_position) * sequence_length
        speed /= self.elapsed_seconds - self._logged_seconds
        self._logged_position, self._logged_seconds = self.position, self.elapsed_seconds
        self.record(
            tokens=self.position * sequence_length,
            loss=step_metrics.loss,
            learning_rate=self.optimizer.param_groups[0]["lr"],
            grad_norm=step_metrics.grad_norm,
            tokens_per_second=speed,
            elapsed_seconds=self.elapsed_seconds,
            skipped_steps=self.loss_spike_guard.skipped,
            token_hash=self.token_hash_of_all(),
        )
        status = f"loss {step_metrics.loss:.3f}  {speed:,.0f} tokens/s"
        bar.update(bar.task_ids[0], completed=self.step, status=status)

    def token_hash_of_all(self) -> str:
        """The sum of `block_hash` over all blocks trained on so far, by all processes: 16 hexadecimal digits."""
        halves = torch.tensor([[self.token_hash >> 32, self.token_hash & 0xFFFFFFFF]])
        gathered = self.accelerator.gather(halves.to(self.accelerator.device))
        return f"{sum((high << 32) + low for high, low in gathered.tolist()) % (1 << 64):016x}"

    def evaluate(self) -> None:
        """Record the objective's figures on the validation blocks, and write samples.

        Compiled layers run uncompiled: each length of a generated text would be compiled, up to torch's limit.
        """
        with torch.compiler.set_stance("force_eager") if self.arguments.torch_compile else nullcontext():
            self._evaluate()

    def _evaluate(self) -> None:
        metrics = self.evaluator.measure(self.accelerator, self.model)
        self.record(elapsed_seconds=self.elapsed_seconds, **metrics)
        main = self.accelerator.is_main_process
        if main:
            figure = self.objective.primary_metric
            per_source = {name: metrics.get(f"{figure}_{name}") for name in self.evaluator.ranges}
            parts = [f"{metrics[figure]:.3f} {self.objective.metric_unit} on held-out text"]
            parts += [f"{name} {value:.3f}" for name, value in per_source.items() if value is not None]
            console.print(f"step {self.step}: {', '.join(parts)}")
        write_samples(
            self.accelerator.unwrap_model(self.model),
            self.objective,
            self.arguments.sample_prompts,
            self.step,
            self.output_dir / "samples.jsonl" if main else None,
        )

    def progress(self) -> dict[str, Any]:
        """How far the run is and by which settings, as plain values; all processes call it."""
        return {
            "step": self.step,
            "position": self.position,
            "token_hash": self.token_hash_of_all(),
            "elapsed_seconds": self.elapsed_seconds,
            "content_hash": self.train_blocks.manifest["content_hash"],
            "settings": self.settings,
            "loss_spike_guard": self.loss_spike_guard.state_dict(),
        }

    def save(self) -> Path:
        """Write `checkpoint-N`, and upload it as the revision step-N where asked; return its folder."""
        arguments = self.arguments
        progress = self.progress()
        with writing_checkpoint(
            self.accelerator, self.output_dir, self.step, arguments.save_total_limit
        ) as folder:
            save_checkpoint(self.accelerator, self.model, self.objective.tokenizer, folder, progress)
            if self.accelerator.is_main_process:
                config = self.accelerator.unwrap_model(self.model).config
                write_provenance(arguments, config, folder, self.log)
                write_run_yaml(arguments, folder)
        final = self.output_dir / f"checkpoint-{self.step}"
        if (
            arguments.push_to_hub
            and arguments.hub_strategy == "every_save"
            and self.accelerator.is_main_process
        ):
            try:
                upload(
                    final,
                    str(arguments.hub_model_id),
                    private=arguments.hub_private_repo,
                    revision=f"step-{self.step}",
                )
            except UserError as error:  # a network that is gone for an hour must not end a run of a week
                console.print(f"warning: {error}", soft_wrap=True)
        return final

    def finish(self) -> None:
        """Write the finished model, `run.yaml` last, and upload it where asked; all processes call it.

        Raises:
            UserError: no room, no permission.
        """
        arguments, output_dir = self.arguments, self.output_dir
        weights, progress = self.accelerator.get_state_dict(self.model), self.progress()
        if self.accelerator.is_main_process:
            model = self.accelerator.unwrap_model(self.model)
            with disk_errors(output_dir):
                save_model_folder(model, self.objective.tokenizer, output_dir, weights)
                write_provenance(arguments, model.config, output_dir, self.log)
                write_progress(progress, output_dir)
                write_run_yaml(arguments, output_dir)
            opener = self.objective.auto_class.__name__
            console.print(f"wrote {output_dir}: {opener}.from_pretrained opens it")
            if arguments.push_to_hub:
                push_to_hub(arguments)

    def end(self) -> None:
        """Leave the process group, after the last step or an interruption.

        The model goes first. Where DDP's reducer is the last to hold the group, its destructor waits for a thread that
        waits for the interpreter: now and then a process would never end.
        """
        self.accelerator.free_memory()
        del self.model, self.optimizer
        gc.collect()
        self.accelerator.end_training()


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    """All of a tensor that may be sharded."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
