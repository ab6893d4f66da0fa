# SPDX-License-Identifier: Apache-2.0
"""Pretrain a fresh model on packed shards, or a trained one further: a decoder, an encoder or both, as `objective` says.

    accelerate launch train/pretrain.py --config train/configs/demo/pretrain.yaml
    scratch-gpt pretrain --config train/configs/demo/pretrain.yaml --max_steps 50 --output_dir runs/try
    torchrun --nproc_per_node 2 train/pretrain.py --config ...        (several processes on a CPU)

Reads the folders of the shards and tokenizer stages (or, with --model_name_or_path, of a model); writes one folder: an ordinary Hugging Face model with run.yaml
and log.jsonl beside the weights.
"""

import scratch_gpt.native_libraries  # noqa: F401  # before torch

from pathlib import Path

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedDataParallelKwargs, set_seed
from transformers import PreTrainedTokenizerFast

from scratch_gpt.data.shards.blocks import Blocks
from scratch_gpt.data.shards.mixed_blocks import MixedBlocks
from scratch_gpt.publishing import push_to_hub, upload_checkpoint
from scratch_gpt.runs.checkpoints import rollback
from scratch_gpt.runs.folders import write_run_yaml
from scratch_gpt.runs.graceful_shutdown import GracefulShutdown, interrupted_line
from scratch_gpt.runs.log import RunLog, check_trackers, console, progress_bar
from scratch_gpt.runs.provenance import write_provenance
from scratch_gpt.settings.parsing import run_stage
from scratch_gpt.settings.processes import check_launch
from scratch_gpt.training.planning.execution import peak_speed
from scratch_gpt.training.planning.plan import PretrainPlan, announce, resolve
from scratch_gpt.training.planning.resume import is_finished
from scratch_gpt.training.pretrain.arguments import PretrainArguments
from scratch_gpt.training.pretrain.continued import load_run_tokenizer
from scratch_gpt.training.pretrain.evaluator import Evaluator
from scratch_gpt.training.pretrain.objectives import OBJECTIVES
from scratch_gpt.training.pretrain.optimization import build_optimizer, make_schedule
from scratch_gpt.training.pretrain.pretraining import Pretraining
from scratch_gpt.training.pretrain.recorder import Recorder
from scratch_gpt.training.pretrain.setup import build_model, open_shards, open_validation
from scratch_gpt.training.pretrain.time_budget import TimeBudget


def main(arguments: PretrainArguments) -> None:
    """Open the data, resolve the settings, build, (resume,) loop, save."""
    check_launch()
    check_trackers(arguments.report_to)
    state = PartialState(cpu=not torch.accelerator.is_available())
    console.quiet = not state.is_main_process
    tokenizer = load_run_tokenizer(arguments.tokenizer, arguments.model_name_or_path)
    train_blocks, validation_blocks = open_shards(arguments.shards, tokenizer)
    if is_finished(arguments, train_blocks.manifest["content_hash"]):
        state.destroy_process_group()
        return
    plan = resolve(arguments, tokenizer, train_blocks, state.num_processes)

    run, recorder = build(plan, tokenizer, train_blocks, validation_blocks)
    budget = TimeBudget(plan.max_minutes, plan.max_steps, plan.warmup_steps, plan.decay_ratio)
    if plan.checkpoint:
        run.resume(plan.checkpoint)
        budget.restore(run)
    rollback(Path(plan.output_dir), plan.checkpoint)
    announce(plan, run.num_parameters, train_blocks.manifest["tokens"])
    hub_model_id = plan.hub_model_id if plan.push_to_hub and state.is_main_process else None

    with GracefulShutdown() as shutdown, progress_bar(state.is_main_process) as bar:
        bar.add_task("pretrain", total=run.max_steps, completed=run.step, status="")
        if plan.model_name_or_path and run.step == 0:
            recorder.evaluate()
        while run.step < run.max_steps:
            step_metrics = run.train_step(shutdown.requested)
            if replanned := budget.replan(run):
                recorder.log_length(replanned, bar)
            if run.is_due(plan.logging_steps):
                recorder.log_step(step_metrics, bar)
            if run.is_due(plan.eval_steps):
                recorder.evaluate()
            if run.step == run.max_steps:
                break
            if step_metrics.interrupted or replanned or run.step % plan.save_steps == 0:
                saved = recorder.save()
                if hub_model_id and plan.hub_strategy == "every_save":
                    upload_checkpoint(saved, hub_model_id, plan.hub_private_repo)
            if step_metrics.interrupted:
                console.print(interrupted_line(saved), soft_wrap=True)
                run.end()
                shutdown.exit()

    recorder.finish()
    if hub_model_id:
        push_to_hub(plan.output_dir, hub_model_id, plan.hub_private_repo)
    run.end()


def build(
    plan: PretrainPlan,
    tokenizer: PreTrainedTokenizerFast,
    train_blocks: MixedBlocks,
    validation_blocks: MixedBlocks,
) -> tuple[Pretraining, Recorder]:
    """Model, objective and optimizer, the run over them, and what records it: each gets its part of the plan."""
    other_validation = open_validation(
        plan.validation_shards, tokenizer, validation_blocks, plan.config.max_position_embeddings
    )
    set_seed(plan.seed)
    objective = OBJECTIVES[plan.objective](
        tokenizer,
        plan.sequence_length,
        seed=plan.seed,
        attn_implementation=plan.attn_implementation,
        whole_words=plan.whole_words,
    )
    model = build_model(
        plan.config,
        plan.objective,
        attn_implementation=plan.attn_implementation,
        batch_tokens=plan.per_device_train_batch_size * plan.sequence_length,
        model_name_or_path=plan.model_name_or_path,
        activation_checkpointing=plan.activation_checkpointing,
        torch_compile=plan.torch_compile,
    )
    tokenizer.model_max_length = plan.config.max_position_embeddings
    torch.set_num_threads(plan.num_threads)
    accelerator = Accelerator(
        mixed_precision=plan.mixed_precision,
        cpu=not torch.accelerator.is_available(),
        log_with=plan.report_to or None,
        project_dir=plan.output_dir,
        kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)],
    )
    set_seed(plan.seed, device_specific=True)  # dropout differs between the processes
    optimizer = build_optimizer(
        model,
        plan.optim,
        plan.learning_rate,
        plan.weight_decay,
        betas=(plan.adam_beta1, plan.adam_beta2),
        mixed_precision=plan.mixed_precision,
    )
    run = Pretraining(
        accelerator,
        model,
        optimizer,
        objective,
        train_blocks,
        micro_batch_size=plan.per_device_train_batch_size,
        micro_batches=plan.gradient_accumulation_steps,
        seed=plan.seed,
        max_steps=plan.max_steps,
        schedule=make_schedule(plan.lr_scheduler_type, plan.max_steps, plan.warmup_steps, plan.decay_ratio),
        max_grad_norm=plan.max_grad_norm,
        max_skipped_steps=plan.max_skipped_steps,
    )
    if plan.report_to:
        settings = {name: str(value) for name, value in plan.settings().items()}
        accelerator.init_trackers("scratch-gpt", config=settings)
    log = RunLog(Path(plan.output_dir) / "log.jsonl")

    def describe(folder: Path) -> None:
        write_provenance(plan, plan.config, folder, log, [plan.model_name_or_path])
        write_run_yaml(plan, folder)

    def evaluator_of(blocks: Blocks) -> Evaluator:
        return Evaluator(blocks, objective, plan.per_device_eval_batch_size, max_blocks=plan.max_eval_blocks)

    recorder = Recorder(
        run,
        evaluator_of(validation_blocks),
        log,
        other_validation={name: evaluator_of(blocks) for name, blocks in other_validation.items()},
        sample_prompts=plan.sample_prompts,
        settings=plan.settings(),
        describe=describe,
        save_total_limit=plan.save_total_limit,
        peak_speed=peak_speed(plan.config, plan.sequence_length, plan.num_processes),
        compiled=plan.torch_compile,
    )
    return run, recorder


if __name__ == "__main__":
    run_stage(main, PretrainArguments)
