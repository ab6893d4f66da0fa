# SPDX-License-Identifier: Apache-2.0
"""Align a chat model on preference pairs directly, without a reward model: DPO, with TRL.

    accelerate launch train/dpo.py --config train/configs/demo/dpo.yaml
    scratch-gpt dpo --config train/configs/demo/dpo.yaml --beta 0.3 --output_dir runs/try

Reads the folder of the sft stage; writes one folder: the aligned chat model with run.yaml, log.jsonl and
results/dpo.json (held-out pairs ranked right, how likely their answers have become, and what the model gained and forgot)
beside the weights.
"""

import scratch_gpt.native_libraries  # noqa: F401  # before torch

from functools import partial

import datasets
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from trl import DPOTrainer

from scratch_gpt.data.rows.preferences import good_answers, preference_rows
from scratch_gpt.data.rows.splits import Row, drop_long_rows, read_splits
from scratch_gpt.evaluation.benchmarks.preferences import log_ratios, pair_accuracy
from scratch_gpt.evaluation.metrics.intervals import mean_metric
from scratch_gpt.inference.chat_format import measure_answers
from scratch_gpt.inference.loading import load_chat_model
from scratch_gpt.inference.preview import show_rows
from scratch_gpt.runs.log import console
from scratch_gpt.settings.parsing import run_stage
from scratch_gpt.training.posttrain.arguments import DPOArguments
from scratch_gpt.training.posttrain.defaults import resolve_defaults
from scratch_gpt.training.posttrain.forgetting import Columns, Measurement
from scratch_gpt.training.posttrain.posttraining import (
    begin,
    closing_line,
    save_stage,
    train,
    use_reference_precision,
    write_stage_result,
)
from scratch_gpt.training.posttrain.resume import is_finished


def main(arguments: DPOArguments) -> None:
    """The order of steps: model, pairs, trainer, before, (resume,) training, after, save."""
    begin(arguments)
    if is_finished(arguments):
        return
    chat_model, tokenizer = load_chat_model(
        arguments.model_name_or_path, quantization_config=arguments.quantization_config()
    )
    resolve_defaults(arguments, chat_model)
    pairs = drop_long_rows(
        read_splits(preference_rows, arguments, allow_no_held_out=True),
        partial(measure_answers, tokenizer),
        arguments.max_length,
        arguments,
    )
    show_rows(tokenizer, pairs["train"])

    trainer = DPOTrainer(
        model=arguments.model_name_or_path,  # given as a path: TRL loads the reference from the same
        args=arguments,
        train_dataset=datasets.Dataset.from_list(pairs["train"]),
        eval_dataset=datasets.Dataset.from_list(pairs["dev"]) if pairs["dev"] else None,
        processing_class=tokenizer,
        quantization_config=arguments.quantization_config(),
        peft_config=arguments.peft_config("CAUSAL_LM"),
    )
    # as the policy: rounded otherwise, the two would differ at the start
    use_reference_precision(chat_model, arguments)
    chat_model = trainer.accelerator.prepare_model(chat_model, evaluation_mode=True)
    measurement = Measurement(arguments, chat_model, tokenizer, good_answers(pairs["test"]))
    before = measurement.measure(chat_model)
    learned = train(trainer, arguments, "dpo")

    own = measure(trainer, chat_model, tokenizer, pairs["test"], arguments.seed)
    write_stage_result(
        trainer,
        arguments,
        "dpo",
        len(pairs["test"]),
        {"held-out pairs ranked right": own, "before and after": measurement.compare(before, trainer)},
        sources=arguments.sources,
        beta=arguments.beta,
        max_length=arguments.max_length,
        general_text=measurement.general_text,
        training_pairs=len(pairs["train"]),
    )
    save_stage(trainer, tokenizer, arguments)
    use = f"talk to it with `scratch-gpt chat {arguments.output_dir}`"
    console.print(closing_line(arguments, learned, use))


def measure(
    trainer: DPOTrainer,
    chat_model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    pairs: list[Row],
    seed: int,
) -> Columns:
    """How many held-out pairs are ranked right, and how likely their answers have become; nothing without pairs."""
    if not pairs:
        return {}
    aligned = trainer.model.eval()
    # log(policy / reference) of each answer: their difference is the reward that DPO has learned, over beta
    chosen, rejected = (
        log_ratios(aligned, chat_model, tokenizer, pairs, side) for side in ("chosen", "rejected")
    )
    return {
        "dpo": {
            **pair_accuracy(chosen - rejected, pairs, seed),
            "chosen_log_ratio": mean_metric(chosen.tolist(), seed),
            "rejected_log_ratio": mean_metric(rejected.tolist(), seed),
        }
    }


if __name__ == "__main__":
    run_stage(main, DPOArguments)
