# SPDX-License-Identifier: Apache-2.0
"""Teach a base model to answer: supervised fine-tuning on conversations, with TRL.

    accelerate launch train/sft.py --config train/configs/demo/sft.yaml
    scratch-gpt sft --config train/configs/demo/sft.yaml --max_steps 20 --output_dir runs/try

Reads the folder of the pretraining stage; writes one folder: a chat model with run.yaml, log.jsonl and results/sft.json
(what it gained and forgot, on held-out rows and a general text) beside the weights. Only the assistant's tokens are
learned, and those of the pretraining's documents where `replay_shards` mixes some in.
"""

import scratch_gpt.native_libraries  # noqa: F401  # before torch

from functools import partial

import datasets
from trl import SFTTrainer

from scratch_gpt.data.rows.conversations import instruction_rows
from scratch_gpt.data.rows.splits import drop_long_rows, read_splits
from scratch_gpt.inference.chat_format import check_chat_format, encode_conversation
from scratch_gpt.inference.loading import load_model
from scratch_gpt.inference.preview import show_rows
from scratch_gpt.inference.turns import is_chat, training_tokenizer
from scratch_gpt.runs.log import console
from scratch_gpt.settings.parsing import run_stage
from scratch_gpt.training.posttrain.arguments import SFTArguments
from scratch_gpt.training.posttrain.defaults import resolve_defaults
from scratch_gpt.training.posttrain.forgetting import Measurement
from scratch_gpt.training.posttrain.posttraining import (
    begin,
    check_packing,
    make_chat_model,
    save_stage,
    train,
    use_trained_precision,
    write_stage_result,
)
from scratch_gpt.training.posttrain.replay import replay_rows
from scratch_gpt.training.posttrain.resume import is_finished


def main(arguments: SFTArguments) -> None:
    """The order of steps: model, rows, trainer, before, (resume,) training, after, save."""
    begin(arguments)
    if is_finished(arguments):
        return
    model, tokenizer = load_model(
        arguments.model_name_or_path, quantization_config=arguments.quantization_config()
    )
    was_chat = is_chat(tokenizer)
    new_tokens = make_chat_model(model, tokenizer)
    taught = training_tokenizer(tokenizer)
    check_chat_format(taught, arguments.model_name_or_path)

    resolve_defaults(arguments, model)
    if arguments.packing or arguments.padding_free:
        check_packing(model)
    rows = drop_long_rows(
        read_splits(instruction_rows, arguments, allow_no_held_out=True),
        partial(encode_conversation, taught, assistant_only=arguments.assistant_only_loss),
        arguments.max_length,
        arguments,
    )
    show_rows(taught, rows["train"])
    if arguments.replay_shards:
        documents = replay_rows(
            rows["train"],
            arguments.replay_shards,
            arguments.replay_fraction,
            tokenizer,
            arguments.max_length,
            arguments.seed,
        )
        console.print(f"replay: {len(documents):,} documents of {arguments.replay_shards}", markup=False)
        rows["train"] += documents

    trainer = SFTTrainer(
        model=model,
        args=arguments.for_trainer(),
        train_dataset=datasets.Dataset.from_list(rows["train"]),
        eval_dataset=datasets.Dataset.from_list(rows["dev"]) if rows["dev"] else None,
        processing_class=tokenizer,
        peft_config=arguments.peft_config("CAUSAL_LM", new_tokens),
    )
    use_trained_precision(model, arguments)
    measurement = Measurement(arguments, model, tokenizer, rows["test"])
    with trainer.accelerator.autocast():  # as afterwards
        before = measurement.measure(model, answers=was_chat)
    train(trainer, arguments, "sft")
    write_stage_result(
        trainer,
        arguments,
        "sft",
        len(measurement.rows),
        {"before and after": measurement.compare(before, trainer)},
        sources=arguments.sources,
        max_length=arguments.max_length,
        general_text=measurement.general_text,
        training_rows=len(rows["train"]),
    )
    save_stage(trainer, tokenizer, arguments)
    console.print(f"wrote {arguments.output_dir}: talk to it with `scratch-gpt chat {arguments.output_dir}`")


if __name__ == "__main__":
    run_stage(main, SFTArguments)
