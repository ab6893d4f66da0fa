# SPDX-License-Identifier: Apache-2.0
"""Align a chat model by reinforcement against a list of rewards, with TRL's RLOO or GRPO.

    accelerate launch train/rlhf.py --config train/configs/demo/rlhf.yaml
    scratch-gpt rlhf --config train/configs/demo/rlhf.yaml --algorithm grpo --output_dir runs/try

Reads the folders of the sft and reward stages; writes one folder: the best measured chat model with run.yaml, log.jsonl
and results/rlhf.json (the model before and after on held-out prompts) beside the weights.
"""

import scratch_gpt.native_libraries  # noqa: F401  # before torch

from functools import partial

import datasets

from scratch_gpt.evaluation.benchmarks.alignment import (
    evaluate_policy,
    gold_scores,
    measure_model,
    model_judge,
)
from scratch_gpt.inference.loading import load_chat_model
from scratch_gpt.inference.prompts import read_prompts
from scratch_gpt.inference.rewards import load_reward_model
from scratch_gpt.inference.turns import stop_ids
from scratch_gpt.runs.log import console
from scratch_gpt.runs.results import Metric
from scratch_gpt.settings.parsing import run_stage
from scratch_gpt.training.posttrain.defaults import resolve_defaults
from scratch_gpt.training.posttrain.forgetting import pretraining_shards
from scratch_gpt.training.posttrain.posttraining import (
    begin,
    closing_line,
    save_stage,
    train,
    use_reference_precision,
    write_stage_result,
)
from scratch_gpt.training.posttrain.resume import is_finished
from scratch_gpt.training.rl.answer_length import suggest_length
from scratch_gpt.training.rl.arguments import RLHFArguments
from scratch_gpt.training.rl.reward_files import refuse_code_of_model
from scratch_gpt.training.rl.reward_functions import make_rewards, reward_judge
from scratch_gpt.training.rl.rlhf import TRAINERS
from scratch_gpt.training.rl.verdict import changes, verdict


BEFORE, AFTER, CHANGE = "sft", "aligned", "change"


def main(arguments: RLHFArguments) -> None:
    """The order of steps: models, prompts, rewards, trainer, (resume,) training, before and after, save."""
    begin(arguments)
    if is_finished(arguments):
        return
    refuse_code_of_model(arguments)
    chat_model, tokenizer = load_chat_model(arguments.model_name_or_path)
    reward_model = load_reward_model(arguments.reward_model, tokenizer) if arguments.reward_model else None
    resolve_defaults(arguments, chat_model)
    answering = {"max_new_tokens": arguments.max_completion_length}
    prompts = read_prompts(arguments, chat_model, tokenizer, limit=arguments.max_eval_prompts, **answering)
    rewards = make_rewards(
        arguments.rewards,
        reward_model=reward_model,
        tokenizer=tokenizer,
        stop_token_ids=stop_ids(tokenizer, chat_model.generation_config),
        prompts=[prompt for split in prompts.values() for prompt in split],
    )
    asked = {split: [{"prompt": prompt.messages} for prompt in prompts[split]] for split in ("train", "dev")}

    trainer = TRAINERS[arguments.algorithm](
        model=arguments.model_name_or_path,  # given as a path: TRL loads the KL term's reference from the same
        reward_funcs=rewards,
        args=arguments.for_trainer(rewards),
        train_dataset=datasets.Dataset.from_list(asked["train"]),
        eval_dataset=datasets.Dataset.from_list(asked["dev"]),
        processing_class=tokenizer,
        peft_config=arguments.peft_config("CAUSAL_LM"),
    )
    aligned = trainer.accelerator.unwrap_model(trainer.model)
    # as the policy: rounded otherwise, the two would differ at the start
    use_reference_precision(chat_model, arguments)
    chat_model = trainer.accelerator.prepare_model(chat_model, evaluation_mode=True)
    answering |= {"reference": chat_model, "seed": arguments.seed}
    score = reward_judge(rewards, tokenizer)
    trainer.suggest_length = partial(
        suggest_length, aligned, tokenizer, prompts["dev"], arguments.max_completion_length, arguments.seed
    )
    trainer.limits = (arguments.max_kl, arguments.patience)
    trainer.watch = partial(
        evaluate_policy, aligned, tokenizer, prompts["dev"], score, beta=arguments.beta, **answering
    )
    learned = train(trainer, arguments, "rlhf")
    aligned = trainer.accelerator.unwrap_model(trainer.model)  # LoRA's part is merged by now

    judges = {"gold": gold_scores, "reward": model_judge(reward_model, tokenizer) if reward_model else score}
    answering |= {"shards": arguments.shards or pretraining_shards(arguments.model_name_or_path, tokenizer)}
    before = measure_model(chat_model, tokenizer, prompts["test"], judges, baseline=None, **answering)
    after = measure_model(aligned.eval(), tokenizer, prompts["test"], judges, baseline=before, **answering)
    changed = changes(before.metrics, after.metrics, arguments.seed)
    change = {name: Metric(difference.value, difference.ci95) for name, difference in changed.items()}
    found = {BEFORE: before.metrics, AFTER: after.metrics, CHANGE: change}
    line = verdict(before.metrics, after.metrics, changed)
    write_stage_result(
        trainer,
        arguments,
        "rlhf",
        len(prompts["test"]),
        {"held-out prompts, before and after": found},
        algorithm=arguments.algorithm,
        rewards=arguments.rewards,
        max_completion_length=arguments.max_completion_length,
        best_step=trainer.best["step"],
        verdict=line,
    )
    console.print(line, markup=False, soft_wrap=True)
    save_stage(trainer, tokenizer, arguments)
    use = f"talk to it with `scratch-gpt chat {arguments.output_dir}`"
    console.print(closing_line(arguments, learned, use))


if __name__ == "__main__":
    run_stage(main, RLHFArguments)
