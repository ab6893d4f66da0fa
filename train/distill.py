# SPDX-License-Identifier: Apache-2.0
"""Teach a small chat model the answers of a larger one: on-policy distillation, with TRL.

    accelerate launch train/distill.py --config train/configs/demo/distill.yaml
    scratch-gpt distill --config train/configs/demo/distill.yaml --beta 0.5 --output_dir runs/try

The student answers questions itself, and learns the teacher's probabilities of each next token of its own answers
(Agarwal et al. 2023, hf.co/papers/2306.13649). Reads two folders of chat models with one vocabulary; writes one folder:
the student with run.yaml, log.jsonl and results/distill.json (before and after on held-out prompts) beside the weights.
"""

import scratch_gpt.native_libraries  # noqa: F401  # before torch

import datasets
from trl import DistillationTrainer

from scratch_gpt.evaluation.benchmarks.alignment import gold_scores, measure_model
from scratch_gpt.inference.loading import load_chat_model, load_teacher
from scratch_gpt.inference.prompts import read_prompts
from scratch_gpt.publishing.facts import AFTER, BEFORE
from scratch_gpt.runs.log import console
from scratch_gpt.settings.parsing import run_stage
from scratch_gpt.training.posttrain.arguments import DistillArguments
from scratch_gpt.training.posttrain.defaults import resolve_defaults
from scratch_gpt.training.posttrain.forgetting import pretraining_shards
from scratch_gpt.training.posttrain.posttraining import (
    begin,
    closing_line,
    save_stage,
    train,
    use_trained_precision,
    write_stage_result,
)
from scratch_gpt.training.posttrain.resume import is_finished


def main(arguments: DistillArguments) -> None:
    """The order of steps: models, prompts, trainer, before, (resume,) training, after, save."""
    begin(arguments)
    if is_finished(arguments):
        return
    student, tokenizer = load_chat_model(arguments.model_name_or_path)
    teacher = load_teacher(arguments.teacher_model_name_or_path, student, tokenizer)
    resolve_defaults(arguments, student)
    answering = {"max_new_tokens": arguments.max_completion_length}
    prompts = read_prompts(arguments, student, tokenizer, limit=arguments.max_eval_prompts, **answering)
    asked = {split: [{"prompt": prompt.messages} for prompt in prompts[split]] for split in ("train", "dev")}

    trainer = DistillationTrainer(
        model=student,
        teacher_model=teacher,
        args=arguments,
        train_dataset=datasets.Dataset.from_list(asked["train"]),
        eval_dataset=datasets.Dataset.from_list(asked["dev"]),
        processing_class=tokenizer,
    )
    # TRL would give it to the decoder without its head, where ours takes no keyword that it does not read
    trainer.model_kwarg_keys = trainer.model_kwarg_keys - {"logits_to_keep"}
    answering |= {
        "reference": teacher,  # the KL is the distance from it: what is learned
        "seed": arguments.seed,
        "shards": arguments.shards or pretraining_shards(arguments.model_name_or_path, tokenizer),
    }
    judges = {"gold": gold_scores}
    use_trained_precision(student, arguments)
    with trainer.accelerator.autocast():  # as afterwards
        before = measure_model(student.eval(), tokenizer, prompts["test"], judges, baseline=None, **answering)
    learned = train(trainer, arguments, "distill")

    student = trainer.accelerator.unwrap_model(trainer.model).eval()
    after = measure_model(student, tokenizer, prompts["test"], judges, baseline=before, **answering)
    write_stage_result(
        trainer,
        arguments,
        "distill",
        len(prompts["test"]),
        {"held-out prompts, before and after": {BEFORE: before.metrics, AFTER: after.metrics}},
        teacher=arguments.teacher_model_name_or_path,
        beta=arguments.beta,
        max_completion_length=arguments.max_completion_length,
        training_prompts=len(prompts["train"]),
    )
    save_stage(trainer, tokenizer, arguments)
    use = f"talk to it with `scratch-gpt chat {arguments.output_dir}`"
    console.print(closing_line(arguments, learned, use))


if __name__ == "__main__":
    run_stage(main, DistillArguments)
