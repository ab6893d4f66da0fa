# SPDX-License-Identifier: Apache-2.0
"""Whose answers a reward model prefers: each chat model against the first one, on the same prompts.

    accelerate launch eval/win_rate.py --config eval/configs/win_rate.yaml --model runs/demo/chat runs/demo/aligned
    scratch-gpt win-rate --reward_model runs/demo/reward --model runs/demo/chat runs/demo/aligned --seeds 0 1 2

A model that was trained against this very reward model wins here whatever it writes: judge it by others too.
"""

from dataclasses import dataclass, field

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from scratch_gpt.errors import UserError
from scratch_gpt.evaluation.benchmark import EvalArguments, run_benchmark
from scratch_gpt.evaluation.runner import Metric, is_chat
from scratch_gpt.evaluation.win_rate import conversation_prompts, reward_answers, win_rate_metrics
from scratch_gpt.training.arguments import run_stage


@dataclass
class WinRateArguments(EvalArguments):
    """Settings of `eval/win_rate.py`; `sources` are instructions here."""

    reward_model: str | None = field(default=None, metadata={"help": "Folder of the reward stage."})
    limit: int | None = field(default=256, metadata={"help": "Use the first so many prompts."})
    max_new_tokens: int = field(default=96, metadata={"help": "Longest answer, in tokens."})
    temperature: float = field(default=1.0, metadata={"help": "0: greedy; 1: as the model says."})

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.reward_model:
            raise UserError("reward_model is missing: give --reward_model DIR, a folder of the reward stage")
        if self.tasks:
            raise UserError(
                "tasks are not asked here: the prompts are the embedded corpus's, or your sources'"
            )


def main(arguments: WinRateArguments) -> None:
    """Let each model answer all prompts, and compare the reward model's scores with those of the first model."""
    prompts = conversation_prompts(arguments)
    first: dict[int, list[float]] = {}  # by seed

    def evaluate(
        model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, arguments: WinRateArguments
    ) -> dict[str, Metric]:
        if not is_chat(tokenizer):
            raise UserError(f"{model.name_or_path} is no chat model: its answers have no end")
        rewards, answers = reward_answers(model, tokenizer, str(arguments.reward_model), prompts, arguments)
        return win_rate_metrics(rewards, first.setdefault(arguments.seed, rewards), answers, arguments.seed)

    run_benchmark("win_rate", arguments, {"prompts": prompts}, evaluate)


if __name__ == "__main__":
    run_stage(main, WinRateArguments)
