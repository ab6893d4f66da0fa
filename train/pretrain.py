# SPDX-License-Identifier: Apache-2.0
"""Pretrain a model from nothing on packed shards: a decoder, an encoder or both, as `objective` says.

    accelerate launch train/pretrain.py --config train/configs/demo/pretrain.yaml
    scratch-gpt pretrain --config train/configs/demo/pretrain.yaml --max_steps 50 --output_dir runs/try
    torchrun --nproc_per_node 2 train/pretrain.py --config ...        (several processes on a CPU)

Reads the folders of the shards and tokenizer stages; writes one folder: an ordinary Hugging Face model with run.yaml
and log.jsonl beside the weights.
"""

import scratch_gpt.openmp  # noqa: F401  # before torch

from pathlib import Path

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import set_seed

from scratch_gpt.runs.checkpoints import MANIFEST_FILE, read_progress, resolve_checkpoint, rollback
from scratch_gpt.runs.log import check_trackers, console, progress_bar
from scratch_gpt.settings.parsing import run_stage
from scratch_gpt.tokenization import load_tokenizer
from scratch_gpt.training.planning.planning import (
    complete,
    gpu_memory,
    launcher_of_environment,
    optimizer_builder,
)
from scratch_gpt.training.pretrain.arguments import PretrainArguments
from scratch_gpt.training.pretrain.distribution import check_launch
from scratch_gpt.training.pretrain.graceful_shutdown import GracefulShutdown
from scratch_gpt.training.pretrain.objectives import OBJECTIVES
from scratch_gpt.training.pretrain.pretraining import Pretraining
from scratch_gpt.training.pretrain.resume import is_finished, restore_compute_settings
from scratch_gpt.training.pretrain.scaling import restore_settings
from scratch_gpt.training.pretrain.setup import (
    build_config,
    build_model,
    open_shards,
    select_precision_and_threads,
)


def main(arguments: PretrainArguments) -> None:
    """Data, model, setting, optimizer, (resume,) loop, save."""
    check_launch()
    check_trackers(arguments.report_to)
    use_cpu = not torch.cuda.is_available()
    state = PartialState(cpu=use_cpu)
    console.quiet = not state.is_main_process
    tokenizer = load_tokenizer(arguments.tokenizer)
    train_blocks, validation_blocks = open_shards(arguments.shards, tokenizer)
    output_dir = Path(arguments.output_dir)
    if is_finished(output_dir, arguments, train_blocks.manifest["content_hash"]):
        return
    checkpoint = resolve_checkpoint(output_dir, arguments.resume_from_checkpoint, MANIFEST_FILE)
    progress = read_progress(checkpoint) if checkpoint else None

    sequence_length = train_blocks.manifest["sequence_length"]
    config = build_config(arguments, tokenizer, sequence_length)
    if progress:
        arguments = restore_settings(arguments, progress["settings"])
    launcher = launcher_of_environment(state.num_processes)
    tokens = len(train_blocks) * sequence_length
    arguments, rules = complete(arguments, config, launcher, sequence_length, tokens, gpu_memory())
    set_seed(arguments.seed)
    objective = OBJECTIVES[arguments.objective](tokenizer, arguments, sequence_length)
    model = build_model(arguments, config, sequence_length)
    tokenizer.model_max_length = model.config.max_position_embeddings
    hardware = (
        restore_compute_settings(progress, arguments) if progress else select_precision_and_threads(arguments)
    )
    torch.set_num_threads(hardware.num_threads)
    accelerator = Accelerator(
        mixed_precision=hardware.mixed_precision,
        cpu=use_cpu,
        log_with=arguments.report_to or None,
        project_dir=output_dir,
    )
    set_seed(arguments.seed, device_specific=True)  # dropout differs between the processes

    optimizer = optimizer_builder(arguments, hardware.mixed_precision)(model)
    run = Pretraining(
        arguments, accelerator, hardware, model, optimizer, objective, train_blocks, validation_blocks
    )
    if checkpoint:
        run.resume(checkpoint, progress)
    rollback(output_dir, checkpoint)
    run.announce(rules)

    with GracefulShutdown() as shutdown, progress_bar(state.is_main_process) as bar:
        bar.add_task("pretrain", total=run.max_steps, completed=run.step, status="")
        while run.step < run.max_steps:
            step_metrics = run.train_step(shutdown.requested)
            if run.is_due(arguments.logging_steps):
                run.log_step(step_metrics, bar)
            if run.is_due(arguments.eval_steps):
                run.evaluate()
            if run.step == run.max_steps:
                break
            if step_metrics.interrupted or run.step % arguments.save_steps == 0:
                saved = run.save()
            if step_metrics.interrupted:
                console.print(
                    f"interrupted: saved {saved}; the same command with --resume_from_checkpoint latest goes on",
                    soft_wrap=True,
                )
                run.end()
                shutdown.exit()

    run.finish()
    run.end()


if __name__ == "__main__":
    run_stage(main, PretrainArguments)
