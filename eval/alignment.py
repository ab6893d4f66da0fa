# SPDX-License-Identifier: Apache-2.0
"""Chat models aligned in different ways, side by side on the same held-out prompts; the first is what they came from.

    accelerate launch eval/alignment.py --config eval/configs/alignment.yaml --model runs/demo/chat runs/demo/aligned
    accelerate launch eval/alignment.py --model CHAT DPO RLOO GRPO --reward_model REWARD --best_of_n 8
    accelerate launch eval/alignment.py --model "runs/seed{seed}/chat" "runs/seed{seed}/aligned" --seeds 0 1 2

Each answers as its generation config says (`default/`), at temperature 1 and greedy. Writes MODEL/results/alignment.json for
each, and FIRST/results/alignment_best_of_N.json for the best of N answers; `scratch-gpt compare` tests the differences.
"""

import scratch_gpt.native_libraries  # noqa: F401  # before torch

import dataclasses
from pathlib import Path
from typing import Any

import transformers
from accelerate import PartialState

from scratch_gpt.errors import UserError
from scratch_gpt.evaluation.benchmarks.alignment import (
    DECODINGS,
    DEFAULT,
    SAMPLED,
    AlignmentArguments,
    Measured,
    best_of_n,
    gold_scores,
    measure_answers,
    measure_model,
    model_judge,
)
from scratch_gpt.evaluation.harness import examples_digest, mean_over_seeds
from scratch_gpt.evaluation.metrics.intervals import print_table
from scratch_gpt.inference.loading import load_chat_model
from scratch_gpt.inference.prompts import read_prompts
from scratch_gpt.inference.rewards import load_reward_model
from scratch_gpt.runs.results import Metric, write_items, write_result
from scratch_gpt.settings.parsing import run_stage
from scratch_gpt.tasks.example import Example
from scratch_gpt.tokenization import tokenizer_hash


def compare(arguments: AlignmentArguments) -> list[dict[str, Metric]]:
    """The order of steps: the first model, prompts, judges, every model, best of n; what each was found to be."""
    first, *others = arguments.model
    chat_model, tokenizer = load_chat_model(first)
    answering: dict[str, Any] = {"max_new_tokens": arguments.max_new_tokens, "seed": arguments.seed}
    prompts = read_prompts(
        arguments, chat_model, tokenizer, max_new_tokens=arguments.max_new_tokens, limit=arguments.limit
    )["test"]
    texts = ["\n".join(message["content"] for message in prompt.messages) for prompt in prompts]
    asked = examples_digest([Example(text, (), "", text) for text in texts])
    digests = dict.fromkeys(DECODINGS, asked)
    judges = {"gold": gold_scores}
    for name, folder in (("judge", arguments.judge_model), ("reward", arguments.reward_model)):
        if folder:
            judges[name] = model_judge(load_reward_model(folder, tokenizer), tokenizer)
    comparing = {"judges": judges, "reference": chat_model, "shards": arguments.shards, **answering}
    settings = {
        key: value for key, value in dataclasses.asdict(arguments).items() if key not in ("model", "seed")
    }

    def tell(folder: str, name: str, measured: Measured) -> None:
        if PartialState().is_main_process:
            path = Path(folder) / "results" / f"{name}.json"
            write_items(path.with_suffix(".items.jsonl"), measured.metrics, digests)
            write_result(path, name, folder, len(prompts), measured.metrics, settings, arguments.seed)

    baseline = measure_model(chat_model, tokenizer, prompts, baseline=None, **comparing)
    results = [baseline.metrics]
    tell(first, "alignment", baseline)
    for folder in others:
        model, own_tokenizer = load_chat_model(folder)
        if tokenizer_hash(own_tokenizer) != tokenizer_hash(tokenizer):
            raise UserError(
                "another_tokenizer",
                f"{folder} has another tokenizer than {first}: compare models with the same tokenizer",
                folder=folder,
            )
        measured = measure_model(model, tokenizer, prompts, baseline=baseline, **comparing)
        results.append(measured.metrics)
        tell(folder, "alignment", measured)
    if arguments.best_of_n:
        best = Measured({}, {})
        for decoding in (DEFAULT, SAMPLED):
            answers = best_of_n(
                chat_model, tokenizer, prompts, judges["reward"], arguments.best_of_n, decoding, **answering
            )
            found = measure_answers(decoding, tokenizer, prompts, answers, judges, baseline, arguments.seed)
            best.metrics.update(found.metrics)
        results.append(best.metrics)
        tell(first, f"alignment_best_of_{arguments.best_of_n}", best)
    return results


def main(arguments: AlignmentArguments) -> None:
    """Compare the models of each seed, then print the tables of their means."""
    transformers.utils.logging.disable_progress_bar()
    found = {seed: compare(arguments.of_seed(seed)) for seed in arguments.seeds or [arguments.seed]}
    if PartialState().is_main_process:
        means = [
            mean_over_seeds(dict(zip(found, of_model, strict=True)))
            for of_model in zip(*found.values(), strict=True)
        ]
        print_table("alignment", dict(zip(arguments.model, means, strict=False)))
        if arguments.best_of_n:
            common = {name: means[0][name] for name in means[-1]}
            names = (arguments.model[0], f"best of {arguments.best_of_n}")
            print_table("best of n", dict(zip(names, (common, means[-1]), strict=True)))


if __name__ == "__main__":
    run_stage(main, AlignmentArguments)
