# SPDX-License-Identifier: Apache-2.0
"""The state of a pretraining run: one training step, and resuming from a checkpoint. The loop is in `train/pretrain.py`."""

import gc
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import SCALER_NAME
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from scratch_gpt.data.collators.packed import IGNORED, to_device
from scratch_gpt.data.shards.mixed_blocks import MixedBlocks
from scratch_gpt.errors import UserError
from scratch_gpt.runs.checkpoints import (
    STATE_FOLDER,
    check_sharding,
    keep_weights_in_model_folder,
    read_progress,
)
from scratch_gpt.runs.log import console
from scratch_gpt.training.pretrain.distribution import check_distribution, use_float32_beside_matrices
from scratch_gpt.training.pretrain.loss_spike_guard import LossSpikeGuard
from scratch_gpt.training.pretrain.objectives import Objective
from scratch_gpt.training.pretrain.shuffled_indices import block_hash, block_order


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
    """One run: the state that a step changes, and the step.

    Args:
        micro_batch_size: blocks of one process in one forward pass.
        micro_batches: of one process in one step.
        seed: of the order of the blocks.
        max_steps: of the run, as planned.
        schedule: factor on the learning rate of each step.
        max_grad_norm: to which gradients are clipped.
        max_skipped_steps: this many in a row end the run.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        model: PreTrainedModel,
        optimizer: torch.optim.Optimizer,
        objective: Objective,
        blocks: MixedBlocks,
        *,
        micro_batch_size: int,
        micro_batches: int,
        seed: int,
        max_steps: int,
        schedule: Callable[[int], float],
        max_grad_norm: float,
        max_skipped_steps: int,
    ) -> None:
        self.accelerator, self.objective, self.blocks = accelerator, objective, blocks
        self.micro_batch_size, self.micro_batches = micro_batch_size, micro_batches
        self.blocks_per_step = micro_batch_size * micro_batches * accelerator.num_processes
        self.parts = list(blocks.parts.values())
        self.order = block_order(blocks, max_steps, self.blocks_per_step, seed)
        self.max_steps, self.schedule = max_steps, schedule
        self.max_grad_norm = max_grad_norm
        self.vocab_size, self.num_parameters = model.config.vocab_size, model.num_parameters()
        self.auxiliary_weight = getattr(model.config, "router_aux_loss_coef", 0.0)
        check_distribution(accelerator)
        use_float32_beside_matrices(accelerator, model)
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        self.peak_learning_rates = [group["lr"] for group in self.optimizer.param_groups]
        keep_weights_in_model_folder(accelerator)
        self.loss_spike_guard = LossSpikeGuard(max_skipped_steps)
        self.step = 0
        self.replanned: int | None = None  # the length that a `TimeBudget` has set
        self.position = 0  # blocks that all processes together have trained on
        self.token_hash = 0  # see `block_hash`; this process's part of the sum
        self.elapsed_seconds = 0.0  # in training steps alone
        self.model.train()

    def resume(self, checkpoint: Path) -> None:
        """Put weights, optimizer, random states and counters back as they were after the checkpoint's step.

        Raises:
            UserError: the checkpoint is of sharded weights and this run is not, or the other way round.
        """
        check_sharding(self.accelerator, checkpoint)
        state, scaler = checkpoint / STATE_FOLDER, self.accelerator.scaler
        if not (state / SCALER_NAME).is_file():  # a run that was not in float16 until now
            self.accelerator.scaler = None
        self.accelerator.load_state(str(state))
        self.accelerator.scaler = scaler
        progress = read_progress(checkpoint)
        self.step, self.position = progress["step"], progress["position"]
        self.elapsed_seconds = progress["elapsed_seconds"]
        self.replanned = progress.get("replanned")
        self.token_hash = int(progress["token_hash"], 16) if self.accelerator.is_main_process else 0
        self.loss_spike_guard.load_state_dict(progress["loss_spike_guard"])

    def progress(self) -> dict[str, Any]:
        """How far the run is, as plain values; all processes call it."""
        return {
            "step": self.step,
            "position": self.position,
            "token_hash": self.token_hash_of_all(),
            "elapsed_seconds": self.elapsed_seconds,
            "replanned": self.replanned,
            "content_hash": self.blocks.manifest["content_hash"],
            "loss_spike_guard": self.loss_spike_guard.state_dict(),
        }

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
            places = [self.order[position] for position in positions]
            blocks = [self.parts[part][number] for part, number in places]
            for (part, number), block in zip(places, blocks, strict=True):
                if block.max() >= self.vocab_size:
                    message = (
                        f"block {number} of {self.parts[part].folder} holds token {block.max()}, which the model does "
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
        factor = self.schedule(self.step)
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
                output = self.model(**batch, use_cache=False, num_items_in_batch=num_tokens)
                share = self._share_of(output)
                self.accelerator.backward(share * self.accelerator.num_processes)
            loss += share.detach()
        grad_norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.max_grad_norm)
        step_metrics = self._agree(loss, grad_norm, interrupted)
        self._update(step_metrics)
        self.step += 1
        self.position += self.blocks_per_step
        self.elapsed_seconds += time.perf_counter() - started
        return step_metrics

    def _share_of(self, output: ModelOutput) -> torch.Tensor:
        """What a micro-batch adds to the step's loss.

        Cross-entropies are divided by the step's tokens already. The load-balancing loss of a mixture of experts, which
        transformers adds where the configuration says `output_router_logits`, is a mean over one micro-batch, so that
        it would weigh more the more there are.
        """
        loss: torch.Tensor = output.loss
        auxiliary = getattr(output, "aux_loss", None)
        if auxiliary is None:
            return loss
        parts = self.micro_batches * self.accelerator.num_processes
        return loss - self.auxiliary_weight * auxiliary * (1 - 1 / parts)

    def _agree(self, loss: torch.Tensor, grad_norm: torch.Tensor, interrupted: bool) -> StepMetrics:
        """One message between the processes, and one wait for the device, a step."""
        reduced = self.accelerator.reduce(torch.stack([loss, torch.full_like(loss, interrupted)]))
        loss_value, count, norm = torch.cat([reduced, _whole(grad_norm)[None]]).tolist()
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
                message = (
                    f"stopped at step {self.step + 1}, {self.loss_spike_guard.skipped_in_a_row} steps in a row could not be used "
                    f"({problem}; {self._state_of_weights()}; learning rate {self.optimizer.param_groups[0]['lr']:.3g}): lower "
                    "learning_rate or lengthen warmup_steps, and resume from an earlier checkpoint with "
                    "--allow_changed_settings true"
                )
                raise UserError("too_many_skipped_steps", message, step=self.step + 1)
            if scaler is not None:
                scaler.update()
        else:
            self.optimizer.step()
        self.optimizer.zero_grad()

    def _state_of_weights(self) -> str:
        # The gradients show nothing more: clipping by a norm of NaN has made all of them NaN.
        weights = self.accelerator.unwrap_model(self.model).named_parameters()
        broken = [name for name, weight in weights if not _whole(weight).isfinite().all()]
        return f"the weights are not finite, first {broken[0]}" if broken else "the weights are finite"

    def tokens_by_folder(self) -> dict[str, int]:
        """Tokens trained on so far by the folder of their shards, where there are several."""
        if len(self.parts) == 1:
            return {}
        sequence_length = self.blocks.manifest["sequence_length"]
        used = zip(self.blocks.parts, self.order.used(self.position), strict=True)
        return {folder: count * sequence_length for folder, count in used}

    def is_due(self, every: int) -> bool:
        """Whether something done every N steps, and after the last, is done now."""
        return self.step % every == 0 or self.step == self.max_steps

    def token_hash_of_all(self) -> str:
        """The sum of `block_hash` over all blocks trained on so far, by all processes: 16 hexadecimal digits."""
        halves = torch.tensor([[self.token_hash >> 32, self.token_hash & 0xFFFFFFFF]])
        gathered = self.accelerator.gather(halves.to(self.accelerator.device))
        return f"{sum((high << 32) + low for high, low in gathered.tolist()) % (1 << 64):016x}"

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
