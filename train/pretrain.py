# SPDX-License-Identifier: Apache-2.0
"""Pretrain a model from nothing on packed shards.

    accelerate launch train/pretrain.py --config train/configs/demo/pretrain.yaml
    scratch-gpt pretrain --config train/configs/demo/pretrain.yaml --max_steps 50 --output_dir runs/try

Reads the folders of the shards and tokenizer stages; writes one folder: an ordinary Hugging Face model with run.yaml
and log.jsonl beside the weights.
"""

from pathlib import Path

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import set_seed

from scratch_gpt.data.shards import PackedBlocks
from scratch_gpt.errors import UserError
from scratch_gpt.publishing import upload
from scratch_gpt.tokenization import load_tokenizer, tokenizer_hash
from scratch_gpt.training.arguments import PretrainArguments, run_stage, write_run_yaml
from scratch_gpt.training.checkpoints import (
    PROGRESS_FILE,
    prepare_folder,
    read_progress,
    save_model_folder,
)
from scratch_gpt.training.hardware import Hardware
from scratch_gpt.training.optimization import build_optimizers
from scratch_gpt.training.pretraining import Pretraining, build_model, choose_setting
from scratch_gpt.training.telemetry import console


def main(arguments: PretrainArguments) -> None:
    """The order of steps: data, model, setting, optimizer, (resume,) loop, save."""
    state = PartialState(cpu=not torch.cuda.is_available())
    tokenizer = load_tokenizer(arguments.tokenizer)
    train_blocks = PackedBlocks(Path(arguments.shards) / "train")
    validation_blocks = PackedBlocks(Path(arguments.shards) / "validation")
    if train_blocks.manifest["tokenizer_hash"] != tokenizer_hash(tokenizer):
        raise UserError(
            f"the shards in {arguments.shards} were written with another tokenizer than {arguments.tokenizer}"
        )
    output_dir = Path(arguments.output_dir)
    checkpoint = prepare_folder(output_dir, arguments.resume_from_checkpoint, PROGRESS_FILE)
    progress = read_progress(checkpoint) if checkpoint else None
    if progress and progress["content_hash"] != train_blocks.manifest["content_hash"]:
        raise UserError(
            f"{checkpoint} was trained on other shards than {arguments.shards}: name a new output_dir"
        )

    set_seed(arguments.seed)
    model = build_model(arguments, tokenizer, train_blocks.manifest["sequence_length"])
    tokenizer.model_max_length = model.config.max_position_embeddings
    if progress:  # the same setting as before the interruption, for the same bits
        hardware = Hardware(progress["num_threads"], progress["mixed_precision"])
    else:
        hardware = choose_setting(model, tokenizer, train_blocks, arguments)
    torch.set_num_threads(hardware.num_threads)
    accelerator = Accelerator(mixed_precision=hardware.mixed_precision, cpu=not torch.cuda.is_available())
    set_seed(arguments.seed)

    optimizers = build_optimizers(
        model,
        arguments.optim,
        learning_rate=arguments.learning_rate,
        weight_decay=arguments.weight_decay,
        betas=(arguments.adam_beta1, arguments.adam_beta2),
    )
    run = Pretraining(arguments, accelerator, model, optimizers, tokenizer, train_blocks, validation_blocks)
    if checkpoint:
        run.resume(checkpoint, progress)
    if state.is_main_process:
        console.print(
            f"{model.num_parameters():,} parameters, {run.max_steps} steps, "
            f"{train_blocks.manifest['tokens']:,} tokens in the shards; {hardware.mixed_precision} precision, "
            f"{hardware.num_threads} threads, {accelerator.num_processes} process(es)"
            + (f"; going on after step {run.step}" if checkpoint else "")
        )
    run.run(hardware)

    if state.is_main_process:
        save_model_folder(accelerator.unwrap_model(run.model), tokenizer, output_dir)
        write_run_yaml(arguments, output_dir)
        console.print(f"wrote {output_dir}: AutoModelForCausalLM.from_pretrained opens it")
        if arguments.push_to_hub:
            upload(output_dir, arguments.hub_model_id)
    accelerator.end_training()


if __name__ == "__main__":
    run_stage(main, PretrainArguments)
