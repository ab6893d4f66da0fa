# SPDX-License-Identifier: Apache-2.0
"""The pretraining loop: packed blocks in, a complete model folder out."""

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch.utils.data import DataLoader, Sampler
from transformers import PreTrainedTokenizerFast

from scratch_gpt.configuration_scratch_gpt import ScratchGPTConfig
from scratch_gpt.data.collator import PackedCollator
from scratch_gpt.data.shards import PackedBlocks
from scratch_gpt.errors import UserError
from scratch_gpt.evaluation.runner import packed_costs
from scratch_gpt.modeling_scratch_gpt import ScratchGPTForCausalLM
from scratch_gpt.tokenization import encode_plain, token_byte_lengths
from scratch_gpt.training.arguments import PretrainArguments
from scratch_gpt.training.checkpoints import (
    STATE_FOLDER,
    keep_weights_in_model_folder,
    save_checkpoint,
)
from scratch_gpt.training.hardware import Hardware, choose_hardware
from scratch_gpt.training.optimization import warmup_stable_decay
from scratch_gpt.training.telemetry import RunLog, progress_bar


Batch = dict[str, torch.Tensor]


class BlockOrder(Sampler[int]):
    """Indices of blocks from position `start` to `stop` of an endless sequence of seeded permutations.

    The order is a function of the seed and the position alone, so resuming is starting at a later position.
    """

    def __init__(self, num_blocks: int, start: int, stop: int, seed: int) -> None:
        self.num_blocks, self.start, self.stop, self.seed = num_blocks, start, stop, seed

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[int]:
        for epoch in range(self.start // self.num_blocks, math.ceil(self.stop / self.num_blocks)):
            order = np.random.default_rng([self.seed, epoch]).permutation(self.num_blocks)
            first = epoch * self.num_blocks
            yield from order[max(self.start - first, 0) : self.stop - first].tolist()


def build_model(
    arguments: PretrainArguments, tokenizer: PreTrainedTokenizerFast, sequence_length: int
) -> ScratchGPTForCausalLM:
    """A fresh `ScratchGPTForCausalLM` that fits the tokenizer and the shards.

    Raises:
        UserError: `model_config` has fewer ids than the tokenizer, or fewer positions than a block.
    """
    model_config = {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": sequence_length,
        **arguments.model_config,  # type: ignore[dict-item]  # a mapping once the arguments are parsed
    }
    config = ScratchGPTConfig(
        **model_config,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    if config.vocab_size < len(tokenizer):
        raise UserError(
            f"model_config: vocab_size {config.vocab_size} is smaller than the tokenizer's {len(tokenizer)} tokens"
        )
    if config.max_position_embeddings < sequence_length:
        raise UserError(
            f"model_config: max_position_embeddings {config.max_position_embeddings} is shorter than the shards' "
            f"sequence_length {sequence_length}"
        )
    model = ScratchGPTForCausalLM(config)
    model.set_attn_implementation(arguments.attn_implementation)
    return model


def choose_setting(
    model: ScratchGPTForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    blocks: PackedBlocks,
    arguments: PretrainArguments,
) -> Hardware:
    """The setting asked for, or the fastest of a few timed passes over the first blocks; the weights do not change.

    All processes of a run get the main one's choice.
    """
    collator = PackedCollator(tokenizer.eos_token_id, tokenizer.pad_token_id)
    batch = collator([blocks[index % len(blocks)] for index in range(arguments.per_device_train_batch_size)])

    def step() -> None:
        model(**batch, use_cache=False).loss.backward()
        model.zero_grad(set_to_none=True)

    if arguments.mixed_precision == "auto" or (
        arguments.num_threads is None and not torch.cuda.is_available()
    ):
        fastest = choose_hardware(step)
    else:
        fastest = Hardware(torch.get_num_threads(), arguments.mixed_precision)
    precision = fastest.mixed_precision if arguments.mixed_precision == "auto" else arguments.mixed_precision
    (chosen,) = broadcast_object_list([Hardware(arguments.num_threads or fastest.num_threads, precision)])
    return chosen


def evaluate(
    accelerator: Accelerator, model: torch.nn.Module, batches: DataLoader[Batch], byte_lengths: torch.Tensor
) -> dict[str, float]:
    """Mean loss in nats a token, and bits a byte, over all processes; see `packed_costs`."""
    model.eval()
    totals = torch.zeros(3, dtype=torch.float64, device=accelerator.device)  # nats, tokens, bytes
    for batch in batches:
        totals += packed_costs(model, batch, byte_lengths).sum(dim=0)
    nats, tokens, num_bytes = accelerator.reduce(totals).tolist()
    model.train()
    return {"eval_loss": nats / tokens, "eval_bits_per_byte": nats / math.log(2) / num_bytes}


@torch.inference_mode()
def write_samples(
    model: ScratchGPTForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    prompts: list[str],
    step: int,
    path: Path,
) -> None:
    """Append what the model makes of each prompt (greedy) to `samples.jsonl`."""
    model.eval()
    with path.open("a", encoding="utf-8") as file:
        for prompt in prompts:
            input_ids = torch.tensor(encode_plain(tokenizer, [prompt]), device=model.device)
            output = model.generate(
                input_ids, attention_mask=torch.ones_like(input_ids), max_new_tokens=48, do_sample=False
            )
            text = tokenizer.decode(output[0], skip_special_tokens=True)
            file.write(json.dumps({"step": step, "text": text}, ensure_ascii=False) + "\n")
    model.train()


class Pretraining:
    """One run: the state that a step changes, and the loop over the steps."""

    def __init__(
        self,
        arguments: PretrainArguments,
        accelerator: Accelerator,
        model: ScratchGPTForCausalLM,
        optimizers: list[torch.optim.Optimizer],
        tokenizer: PreTrainedTokenizerFast,
        train_blocks: PackedBlocks,
        validation_blocks: PackedBlocks,
    ) -> None:
        self.arguments = arguments
        self.accelerator = accelerator
        self.tokenizer = tokenizer
        self.train_blocks = train_blocks
        self.collator = PackedCollator(tokenizer.eos_token_id, tokenizer.pad_token_id)
        self.blocks_per_step = (
            arguments.per_device_train_batch_size
            * arguments.gradient_accumulation_steps
            * accelerator.num_processes
        )
        self.max_steps = arguments.max_steps
        if self.max_steps < 0:
            self.max_steps = max(
                1, int(arguments.num_train_epochs * len(train_blocks) / self.blocks_per_step)
            )
        self.decay_steps = round(arguments.decay_ratio * self.max_steps)
        self.output_dir = Path(arguments.output_dir)  # type: ignore[arg-type]
        self.log = RunLog(self.output_dir / "log.jsonl")
        self.model, *self.optimizers = accelerator.prepare(model, *optimizers)
        keep_weights_in_model_folder(accelerator)
        self.byte_lengths = torch.tensor(token_byte_lengths(tokenizer), device=accelerator.device)
        num_eval_blocks = min(len(validation_blocks), arguments.max_eval_blocks)
        self.validation_batches = accelerator.prepare(
            DataLoader(
                torch.utils.data.Subset(validation_blocks, range(num_eval_blocks)),
                batch_size=arguments.per_device_eval_batch_size,
                collate_fn=self.collator,
            )
        )
        self.step = 0
        self.elapsed_seconds = 0.0

    def resume(self, checkpoint: Path, progress: dict[str, float | int | str]) -> None:
        """Put weights, optimizer and random state back as they were after the checkpoint's step."""
        self.accelerator.load_state(str(checkpoint / STATE_FOLDER))
        self.step = int(progress["step"])
        self.elapsed_seconds = float(progress["elapsed_seconds"])

    def batches_from_here(self) -> Iterator[Batch]:
        """Micro-batches from the current step to the last."""
        order = BlockOrder(
            len(self.train_blocks),
            start=self.step * self.blocks_per_step,
            stop=self.max_steps * self.blocks_per_step,
            seed=self.arguments.seed,
        )
        loader = DataLoader(
            self.train_blocks,
            sampler=order,
            batch_size=self.arguments.per_device_train_batch_size,
            collate_fn=self.collator,
            # a generator of its own: else starting the loader draws from the random state that dropout uses
            generator=torch.Generator().manual_seed(self.arguments.seed),
        )
        return iter(self.accelerator.prepare(loader))

    def train_step(self, batches: Iterator[Batch]) -> tuple[float, float]:
        """One optimizer step over the next micro-batches; returns the mean loss a token and the gradient norm."""
        arguments = self.arguments
        factor = warmup_stable_decay(self.step, self.max_steps, arguments.warmup_steps, self.decay_steps)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = arguments.learning_rate * factor
        micro_batches = [next(batches) for _ in range(arguments.gradient_accumulation_steps)]
        # Every token of the step weighs the same, whatever micro-batch or process it is in; gradients are averaged
        # over the processes, hence the factor.
        num_tokens = sum((batch["labels"][:, 1:] != -100).sum() for batch in micro_batches)
        num_tokens = self.accelerator.reduce(num_tokens)
        loss = torch.zeros((), device=self.accelerator.device)
        for index, batch in enumerate(micro_batches):
            last = index == len(micro_batches) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                share = self.model(**batch, use_cache=False, num_items_in_batch=num_tokens).loss
                self.accelerator.backward(share * self.accelerator.num_processes)
            loss += share.detach()
        grad_norm = self.accelerator.clip_grad_norm_(self.model.parameters(), arguments.max_grad_norm)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        return self.accelerator.reduce(loss).item(), grad_norm.item()

    def run(self, hardware: Hardware) -> None:
        """Train to the last step, writing log rows, evaluations, samples and checkpoints on the way."""
        arguments, main = self.arguments, self.accelerator.is_main_process
        tokens_per_step = self.blocks_per_step * self.train_blocks.manifest["sequence_length"]
        batches = self.batches_from_here()
        self.model.train()
        clock = (
            time.perf_counter() - self.elapsed_seconds
        )  # reads the seconds of training, those before a resume too
        with progress_bar(main) as bar:
            task = bar.add_task("pretrain", total=self.max_steps, completed=self.step, status="")
            logged_step, logged_seconds = self.step, self.elapsed_seconds
            while self.step < self.max_steps:
                loss, grad_norm = self.train_step(batches)
                self.elapsed_seconds = time.perf_counter() - clock
                last = self.step == self.max_steps
                if self.step % arguments.logging_steps == 0 or last:
                    speed = (
                        (self.step - logged_step) * tokens_per_step / (self.elapsed_seconds - logged_seconds)
                    )
                    logged_step, logged_seconds = self.step, self.elapsed_seconds
                    bar.update(task, completed=self.step, status=f"loss {loss:.3f}  {speed:,.0f} tokens/s")
                    if main:
                        self.log.write(
                            step=self.step,
                            tokens=self.step * tokens_per_step,
                            loss=loss,
                            learning_rate=self.optimizers[0].param_groups[0]["lr"],
                            grad_norm=grad_norm,
                            tokens_per_second=speed,
                            elapsed_seconds=self.elapsed_seconds,
                        )
                if self.step % arguments.eval_steps == 0 or last:
                    self.evaluate_here(bar.console.print if main else None)
                if self.step % arguments.save_steps == 0 and not last:
                    progress = {
                        "step": self.step,
                        "elapsed_seconds": self.elapsed_seconds,
                        "content_hash": self.train_blocks.manifest["content_hash"],
                        **vars(hardware),
                    }
                    save_checkpoint(
                        self.accelerator,
                        self.model,
                        self.tokenizer,
                        self.output_dir,
                        progress,
                        arguments.save_total_limit,
                    )
                # evaluating, sampling and saving are not training time
                pause = time.perf_counter() - clock - self.elapsed_seconds
                clock += pause

    def evaluate_here(self, tell: Callable[[str], None] | None) -> None:
        """Bits per byte on the validation blocks, and samples; `tell` prints on the main process (None elsewhere)."""
        metrics = evaluate(self.accelerator, self.model, self.validation_batches, self.byte_lengths)
        if tell is not None:
            self.log.write(step=self.step, elapsed_seconds=self.elapsed_seconds, **metrics)
            tell(f"step {self.step}: {metrics['eval_bits_per_byte']:.3f} bits per byte on held-out text")
            write_samples(
                self.accelerator.unwrap_model(self.model),
                self.tokenizer,
                self.arguments.sample_prompts,
                self.step,
                self.output_dir / "samples.jsonl",
            )
