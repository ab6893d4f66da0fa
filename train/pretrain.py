# SPDX-License-Identifier: Apache-2.0
"""Pretrain a model from nothing on packed shards.

    accelerate launch train/pretrain.py --config train/configs/demo/pretrain.yaml
    scratch-gpt pretrain --config train/configs/demo/pretrain.yaml --max_steps 50 --output_dir runs/try
    torchrun --nproc_per_node 2 train/pretrain.py --config ...        (several processes on a CPU)

Reads the folders of the shards and tokenizer stages; writes one folder: an ordinary Hugging Face model with run.yaml
and log.jsonl beside the weights.
"""

from pathlib import Path

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import set_seed

from scratch_gpt.publishing import upload
from scratch_gpt.tokenization import load_tokenizer
from scratch_gpt.training.arguments import PretrainArguments, run_stage, write_run_yaml
from scratch_gpt.training.checkpoints import (
    MANIFEST_FILE,
    prepare_folder,
    read_progress,
    save_model_folder,
    write_progress,
)
from scratch_gpt.training.distribution import check_launch
from scratch_gpt.training.interruption import Interruption
from scratch_gpt.training.optimization import build_optimizer
from scratch_gpt.training.planning import complete, gpu_memory, launcher_of_environment
from scratch_gpt.training.pretraining import Pretraining
from scratch_gpt.training.resume import hardware_again, is_finished
from scratch_gpt.training.scaling import as_before
from scratch_gpt.training.setup import build_config, build_model, choose_setting, open_shards
from scratch_gpt.training.telemetry import check_trackers, console, progress_bar


def main(arguments: PretrainArguments) -> None:
    """Data, model, setting, optimizer, (resume,) loop, save."""
    check_launch()
    check_trackers(arguments.report_to)
    use_cpu = not torch.cuda.is_available()
    state = PartialState(cpu=use_cpu)
    tokenizer = load_tokenizer(arguments.tokenizer)
    train_blocks, validation_blocks = open_shards(arguments.shards, tokenizer)
    output_dir = Path(arguments.output_dir)
    if is_finished(output_dir, arguments, train_blocks.manifest["content_hash"]):
        return
    checkpoint = prepare_folder(output_dir, arguments.resume_from_checkpoint, MANIFEST_FILE)
    progress = read_progress(checkpoint) if checkpoint else None

    sequence_length = train_blocks.manifest["sequence_length"]
    config = build_config(arguments, tokenizer, sequence_length)
    if progress:
        arguments = as_before(arguments, progress["settings"])
    launcher = launcher_of_environment(state.num_processes)
    tokens = len(train_blocks) * sequence_length
    arguments, rules = complete(arguments, config, launcher, sequence_length, tokens, gpu_memory())
    set_seed(arguments.seed)
    model = build_model(arguments, config, sequence_length)
    tokenizer.model_max_length = model.config.max_position_embeddings
    if progress:
        hardware = hardware_again(progress, arguments)
    else:
        hardware = choose_setting(model, tokenizer, train_blocks, arguments)
    torch.set_num_threads(hardware.num_threads)
    accelerator = Accelerator(
        mixed_precision=hardware.mixed_precision,
        cpu=use_cpu,
        log_with=arguments.report_to or None,
        project_dir=output_dir,
    )
    set_seed(arguments.seed, device_specific=True)  # dropout differs between the processes

    optimizer = build_optimizer(
        model,
        arguments.optim,
        learning_rate=arguments.learning_rate,
        weight_decay=arguments.weight_decay,
        betas=(arguments.adam_beta1, arguments.adam_beta2),
    )
    run = Pretraining(
        arguments, accelerator, hardware, model, optimizer, tokenizer, train_blocks, validation_blocks
    )
    if checkpoint:
        run.resume(checkpoint, progress)
    if state.is_main_process:
        for line in rules:
            console.print(f"by rule: {line}", markup=False, highlight=False)
        console.print(
            f"{model.num_parameters():,} parameters, {run.max_steps} steps, "
            f"{train_blocks.manifest['tokens']:,} tokens in the shards; {hardware.mixed_precision} precision, "
            f"{hardware.num_threads} threads, {accelerator.num_processes} process(es)"
            + (f"; going on after step {run.step}" if checkpoint else "")
        )

    with Interruption() as interruption, progress_bar(state.is_main_process) as bar:
        bar.add_task("pretrain", total=run.max_steps, completed=run.step, status="")
        while run.step < run.max_steps:
            outcome = run.train_step(interruption.requested)
            if run.is_due(arguments.logging_steps):
                run.log_step(outcome, bar)
            if run.is_due(arguments.eval_steps):
                run.evaluate()
            if run.step == run.max_steps:
                break
            if outcome.interrupted or run.step % arguments.save_steps == 0:
                saved = run.save()
            if outcome.interrupted:
                console.print(
                    f"interrupted: saved {saved}; the same command with --resume_from_checkpoint latest goes on",
                    soft_wrap=True,
                )
                accelerator.end_training()
                interruption.leave()

    weights, progress = accelerator.get_state_dict(run.model), run.progress()
    if state.is_main_process:
        save_model_folder(accelerator.unwrap_model(run.model), tokenizer, output_dir, weights)
        write_progress(progress, output_dir)
        write_run_yaml(arguments, output_dir)
        console.print(f"wrote {output_dir}: AutoModelForCausalLM.from_pretrained opens it")
        if arguments.push_to_hub:
            upload(output_dir, arguments.hub_model_id)
    accelerator.end_training()


if __name__ == "__main__":
    run_stage(main, PretrainArguments)
