# SPDX-License-Identifier: Apache-2.0
"""Align a chat model on single answers that people liked or did not (thumbs up and down): KTO, with TRL.

    accelerate launch train/kto.py --config train/configs/demo/kto.yaml
    scratch-gpt kto --config train/configs/demo/kto.yaml --undesirable_weight 1.5 --output_dir runs/try

Reads the folder of the sft stage; writes one folder: the aligned chat model with run.yaml, log.jsonl and
results/kto.json (how likely held-out answers have become, liked ones and others, and what the model gained and forgot)
beside the weights. A pair of answers counts as a liked one and one that is not.
"""

import scratch_gpt.native_libraries  # noqa: F401  # before torch

from functools import partial

import datasets
import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from trl import KTOTrainer

from scratch_gpt.data.rows.preferences import feedback_rows, good_answers
from scratch_gpt.data.rows.splits import Row, drop_long_rows, read_splits
from scratch_gpt.evaluation.benchmarks.preferences import log_ratios
from scratch_gpt.evaluation.metrics.intervals import mean_metric
from scratch_gpt.inference.chat_format import measure_answers
from scratch_gpt.inference.loading import load_chat_model
from scratch_gpt.inference.preview import show_rows
from scratch_gpt.runs.log import console
from scratch_gpt.settings.parsing import run_stage
from scratch_gpt.training.posttrain.arguments import KTOArguments
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


def main(arguments: KTOArguments) -> None:
    """The order of steps: model, answers, trainer, before, (resume,) training, after, save."""
    begin(arguments)
    if is_finished(arguments):
        return
    chat_model, tokenizer = load_chat_model(
        arguments.model_name_or_path, quantization_config=arguments.quantization_config()
    )
    resolve_defaults(arguments, chat_model)
    answers = drop_long_rows(
        read_splits(feedback_rows, arguments, allow_no_held_out=True),
        partial(measure_answers, tokenizer),
        arguments.max_length,
        arguments,
    )
    show_rows(tokenizer, answers["train"])

    # TRL reads the rows in this order, and estimates the KL divergence by the answers to a row's neighbors in a batch
    shuffled = {
        side: datasets.Dataset.from_list(answers[side]).shuffle(arguments.seed)
        for side in ("train", "dev")
        if answers[side]
    }
    trainer = KTOTrainer(
        model=arguments.model_name_or_path,  # given as a path: TRL loads the reference from the same
        args=arguments,
        train_dataset=shuffled["train"],
        eval_dataset=shuffled.get("dev"),
        processing_class=tokenizer,
        quantization_config=arguments.quantization_config(),
        peft_config=arguments.peft_config("CAUSAL_LM"),
    )
    # as the policy: rounded otherwise, the two would differ at the start
    use_reference_precision(chat_model, arguments)
    chat_model = trainer.accelerator.prepare_model(chat_model, evaluation_mode=True)
    measurement = Measurement(arguments, chat_model, tokenizer, good_answers(answers["test"]))
    before = measurement.measure(chat_model)
    learned = train(trainer, arguments, "kto")

    own = measure(trainer, chat_model, tokenizer, answers["test"], arguments.seed)
    write_stage_result(
        trainer,
        arguments,
        "kto",
        len(answers["test"]),
        {"held-out answers, nats gained": own, "before and after": measurement.compare(before, trainer)},
        sources=arguments.sources,
        beta=arguments.beta,
        max_length=arguments.max_length,
        general_text=measurement.general_text,
        training_answers=len(answers["train"]),
    )
    save_stage(trainer, tokenizer, arguments)
    use = f"talk to it with `scratch-gpt chat {arguments.output_dir}`"
    console.print(closing_line(arguments, learned, use))


def measure(
    trainer: KTOTrainer,
    chat_model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    answers: list[Row],
    seed: int,
) -> Columns:
    """How much likelier held-out liked answers have become, and disliked ones; nothing without answers."""
    if not answers:
        return {}
    # log(policy / reference) of each held-out answer: KTO raises it for liked ones and lowers it for the others
    ratios = log_ratios(trainer.model.eval(), chat_model, tokenizer, answers, "completion")
    liked = np.array([row["label"] for row in answers])
    return {
        "kto": {
            name: mean_metric(ratios[chosen].tolist(), seed)
            for name, chosen in (("liked_log_ratio", liked), ("disliked_log_ratio", ~liked))
            if chosen.any()
        }
    }


if __name__ == "__main__":
    run_stage(main, KTOArguments)
