# SPDX-License-Identifier: Apache-2.0
"""Train a reward model on preference pairs, starting from the chat model, with TRL.

    accelerate launch train/reward.py --config train/configs/demo/reward.yaml
    scratch-gpt reward --config train/configs/demo/reward.yaml --learning_rate 3e-4 --output_dir runs/try

Reads the folder of the sft stage; writes one folder: a model that gives a conversation one score, with run.yaml,
log.jsonl, results/reward.json (held-out pairs ranked right, each kind of pair apart) and results/calibration.png (how
far its probabilities can be believed) beside the weights.
"""

import scratch_gpt.native_libraries  # noqa: F401  # before torch

from functools import partial
from pathlib import Path

import datasets
from transformers import PreTrainedTokenizerFast
from trl import RewardTrainer

from scratch_gpt.data.rows.preferences import preference_rows
from scratch_gpt.data.rows.splits import Row, drop_long_rows, read_splits
from scratch_gpt.evaluation.benchmarks.preferences import (
    calibration_bins,
    calibration_error,
    pair_accuracy,
    reward_margins,
)
from scratch_gpt.inference.chat_format import measure_answers
from scratch_gpt.inference.loading import load_chat_model
from scratch_gpt.inference.preview import show_rows
from scratch_gpt.report.figures import draw_calibration
from scratch_gpt.runs.log import console
from scratch_gpt.settings.parsing import run_stage
from scratch_gpt.training.posttrain.arguments import RewardArguments
from scratch_gpt.training.posttrain.defaults import resolve_defaults
from scratch_gpt.training.posttrain.posttraining import (
    begin,
    closing_line,
    save_stage,
    train,
    write_stage_result,
)
from scratch_gpt.training.posttrain.resume import is_finished


def main(arguments: RewardArguments) -> None:
    """The order of steps: model, pairs, trainer, (resume,) training, held-out accuracy, save."""
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

    trainer = RewardTrainer(
        model=arguments.model_name_or_path,  # given as a path, TRL puts a head with one score on the decoder
        args=arguments,
        train_dataset=datasets.Dataset.from_list(pairs["train"]),
        eval_dataset=datasets.Dataset.from_list(pairs["dev"]) if pairs["dev"] else None,
        processing_class=tokenizer,
        quantization_config=arguments.quantization_config(),
        peft_config=arguments.peft_config("SEQ_CLS"),
    )
    learned = train(trainer, arguments, "reward")

    if pairs["test"]:
        measure(trainer, tokenizer, pairs, arguments)
    save_stage(trainer, tokenizer, arguments)
    use = "AutoModelForSequenceClassification.from_pretrained opens it"
    console.print(closing_line(arguments, learned, use))


def measure(
    trainer: RewardTrainer,
    tokenizer: PreTrainedTokenizerFast,
    pairs: dict[str, list[Row]],
    arguments: RewardArguments,
) -> None:
    """Write and show how many held-out pairs the trained model ranks right, and how far its probabilities can be believed."""
    margins = reward_margins(trainer.model.eval(), tokenizer, pairs["test"])
    metrics = {
        **pair_accuracy(margins, pairs["test"], arguments.seed),
        "calibration_error": calibration_error(margins, arguments.seed),
    }
    if trainer.is_world_process_zero():
        draw_calibration(
            calibration_bins(margins, arguments.seed),
            metrics["calibration_error"],
            len(margins),
            Path(arguments.output_dir) / "results" / "calibration.png",
        )
    write_stage_result(
        trainer,
        arguments,
        "reward",
        len(pairs["test"]),
        {"held-out pairs ranked right": {"reward": metrics}},
        sources=arguments.sources,
        max_length=arguments.max_length,
        training_pairs=len(pairs["train"]),
    )


if __name__ == "__main__":
    run_stage(main, RewardArguments)
