# SPDX-License-Identifier: Apache-2.0
"""Answers of chat models as a reward model sees them, one model against another."""

from collections.abc import Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from scratch_gpt.data import primer
from scratch_gpt.data.bad_rows import BadRows
from scratch_gpt.data.conversations import instruction_rows
from scratch_gpt.data.example import Example
from scratch_gpt.data.sources import parse_sources
from scratch_gpt.errors import UserError
from scratch_gpt.evaluation.alignment import conversation
from scratch_gpt.evaluation.benchmark import EvalArguments
from scratch_gpt.evaluation.runner import Answer, Metric, generate_answers, mean_metric
from scratch_gpt.training.rewards import load_reward_model, score_conversations


def conversation_prompts(arguments: EvalArguments) -> list[Example]:
    """The embedded corpus's prompts of the split, or the first message of each conversation of the sources.

    Raises:
        UserError: sources that cannot be read, too many bad rows, no prompt.
    """
    if not arguments.sources:
        return primer.prompts(arguments.split)[: arguments.limit]
    sources, bad_rows = parse_sources(list(arguments.sources)), BadRows(arguments.on_bad_row)
    texts = [
        (next(message["content"] for message in row["messages"] if message["role"] == "user"), row["kind"])
        for row in instruction_rows(sources, arguments.split, bad_rows, arguments.seed)
    ]
    return [Example(text, (), kind, text) for text, kind in texts[: arguments.limit]]


def reward_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    reward_model: str,
    prompts: Sequence[Example],
    arguments: EvalArguments,
) -> tuple[list[float], list[Answer]]:
    """The reward model's score of the model's answer to each prompt, and the answers.

    Raises:
        UserError: no reward model in the folder, or one with another tokenizer; an answer that it cannot read whole,
            a score that is NaN.
    """
    judge = load_reward_model(reward_model, tokenizer).to(model.device)
    texts = [example.prompt for example in prompts]
    answers = generate_answers(model, tokenizer, texts, chat=True, **arguments.generation_settings())
    written = [conversation(text, answer.text) for text, answer in zip(texts, answers, strict=True)]
    rewards = score_conversations(judge, tokenizer, written, arguments.batch_size)
    if broken := sum(reward != reward for reward in rewards):
        raise UserError(f"the reward model {reward_model} gives NaN for {broken} of {len(rewards)} answers")
    return rewards, answers


def win_rate_metrics(
    rewards: Sequence[float],
    others: Sequence[float],
    answers: Sequence[Answer],
    seed: int,
) -> dict[str, Metric]:
    """`prompts/win_rate` against the other model's rewards on the same prompts (a tie counts half), `reward`, `finished`."""
    wins = [(reward > other) + 0.5 * (reward == other) for reward, other in zip(rewards, others, strict=True)]
    return {
        "prompts/win_rate": mean_metric(wins, seed, chance=0.5),
        "prompts/reward": mean_metric(rewards, seed),
        "prompts/finished": mean_metric([float(answer.finished) for answer in answers], seed),
    }
