# SPDX-License-Identifier: Apache-2.0
"""Teach an encoder-decoder to answer: fine-tuning on pairs of a source and a target, with transformers' Seq2SeqTrainer.

    accelerate launch train/seq2seq.py --config train/configs/demo/seq2seq.yaml
    scratch-gpt seq2seq --config train/configs/demo/seq2seq.yaml --max_steps 20 --output_dir runs/try

Reads a folder that the pretraining stage wrote with objective span; writes one folder: an encoder-decoder with run.yaml
and log.jsonl beside the weights.
"""

import scratch_gpt.native_libraries  # noqa: F401  # before torch

from functools import partial

import datasets
from transformers import DataCollatorForSeq2Seq, Seq2SeqTrainer

from scratch_gpt.data.rows.conversations import instruction_rows
from scratch_gpt.data.rows.splits import drop_long_rows, read_splits
from scratch_gpt.runs.log import console
from scratch_gpt.settings.parsing import run_stage
from scratch_gpt.training.posttrain.posttraining import begin, save_stage, train
from scratch_gpt.training.posttrain.resume import is_finished
from scratch_gpt.training.posttrain.seq2seq import Seq2SeqArguments, encode_pair, load_encoder_decoder


def main(arguments: Seq2SeqArguments) -> None:
    """The order of steps: model, pairs, trainer, (resume,) training, save."""
    begin(arguments)
    if is_finished(arguments):
        return
    model, tokenizer = load_encoder_decoder(str(arguments.model_name_or_path))
    pairs = drop_long_rows(
        read_splits(instruction_rows, arguments, allow_no_held_out=True),
        partial(encode_pair, tokenizer),
        model.config.max_position_embeddings,
        arguments,
    )
    trainer = Seq2SeqTrainer(
        model=model,
        args=arguments,
        train_dataset=datasets.Dataset.from_list(pairs["train"]),
        eval_dataset=datasets.Dataset.from_list(pairs["dev"]) if pairs["dev"] else None,
        data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
        processing_class=tokenizer,
    )
    train(trainer, arguments, "seq2seq")
    save_stage(trainer, tokenizer, arguments)
    console.print(f"wrote {arguments.output_dir}: AutoModelForSeq2SeqLM.from_pretrained opens it")


if __name__ == "__main__":
    run_stage(main, Seq2SeqArguments)
