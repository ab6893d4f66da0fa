# SPDX-License-Identifier: Apache-2.0
"""Align a chat model by reinforcement against a reward model, with TRL's RLOO or GRPO.

    accelerate launch train/rlhf.py --config train/configs/demo/rlhf.yaml
    scratch-gpt rlhf --config train/configs/demo/rlhf.yaml --algorithm grpo --output_dir runs/try

Reads the folders of the sft and reward stages; writes one folder: the aligned chat model with run.yaml, log.jsonl and
results/rlhf.json (the model before and after on held-out prompts) beside the weights.
"""

from pathlib import Path

import datasets
from trl import GRPOTrainer, RLOOTrainer

from scratch_gpt.evaluation.alignment import compare_models, watch_answers
from scratch_gpt.evaluation.runner import print_table, write_result
from scratch_gpt.training.arguments import run_stage
from scratch_gpt.training.posttraining import begin, load_chat_model, save_stage, train
from scratch_gpt.training.rewards import FinishedReward, load_reward_model
from scratch_gpt.training.rlhf_arguments import RLHFArguments
from scratch_gpt.training.rows import read_prompts
from scratch_gpt.training.telemetry import console


def main(arguments: RLHFArguments) -> None:
    """The order of steps: models, prompts, rewards, trainer, (resume,) training, before and after, save."""
    begin(arguments)
    chat_model, tokenizer = load_chat_model(arguments.model_name_or_path)
    reward_model = load_reward_model(arguments.reward_model, tokenizer)
    prompts = read_prompts(arguments, chat_model, tokenizer)
    messages = [{"prompt": [{"role": "user", "content": prompt.text}]} for prompt in prompts["train"]]

    trainer = {"rloo": RLOOTrainer, "grpo": GRPOTrainer}[arguments.algorithm](
        model=arguments.model_name_or_path,  # given as a path: TRL loads the KL term's reference from the same
        reward_funcs=[reward_model, FinishedReward(chat_model.generation_config.eos_token_id)],
        args=arguments.for_trainer(),
        train_dataset=datasets.Dataset.from_list(messages),
        processing_class=tokenizer,
        reward_processing_classes=[tokenizer, None],
    )
    aligned = trainer.accelerator.unwrap_model(trainer.model)
    answering = {"max_new_tokens": arguments.max_completion_length, "seed": arguments.seed}
    train(
        trainer,
        arguments,
        "rlhf",
        monitor=lambda: watch_answers(aligned, tokenizer, prompts["dev"], **answering),
        monitor_steps=int(arguments.eval_steps),
    )

    metrics = compare_models(
        chat_model,
        aligned.eval(),
        reward_model,
        tokenizer,
        prompts["test"],
        **answering,
        shards=arguments.shards,
    )
    if trainer.is_world_process_zero():
        write_result(
            Path(arguments.output_dir) / "results" / "rlhf.json",
            task="rlhf",
            model=str(arguments.output_dir),
            n=len(prompts["test"]),
            metrics={
                f"{model}/{name}": metric
                for model, found in metrics.items()
                for name, metric in found.items()
            },
            settings={
                "algorithm": arguments.algorithm,
                "max_completion_length": arguments.max_completion_length,
            },
            seed=arguments.seed,
        )
        print_table("held-out prompts, before and after", metrics)
    save_stage(trainer, tokenizer, arguments)
    console.print(f"wrote {arguments.output_dir}: talk to it with `scratch-gpt chat {arguments.output_dir}`")


if __name__ == "__main__":
    run_stage(main, RLHFArguments)
