# SPDX-License-Identifier: Apache-2.0
"""The well-known ways in which reinforcement learning goes wrong, seen in its measurements on held-out prompts.

A measurement is a row of `log.jsonl`: `step`, and `eval_` reward, gold, length, repetition, distinct_2, entropy, kl and
finished of sampled answers. The first one is the model before. Each test compares the last measurement with the first,
or with the best; all limits are on the row, so that anybody can look after them in the log.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple


LogRow = dict[str, float]

# Two standard errors of the change of a mean over 200 prompts whose answers are right or wrong and mostly stay so.
GOLD_FALL = 0.03
LENGTH_RATIO = 2.0
# Of repeated 4-grams: what a reader begins to notice.
REPETITION_RISE = 0.05
VARIETY_SHARE = 0.9
ENTROPY_SHARE = 0.25
# Nats a token. Alignments that keep their quality stay below 0.1; from here on the chat model is hardly in sight.
KL_PER_TOKEN = 0.3
FINISHED_FALL = 0.1


class Alert(NamedTuple):
    """One failure: its name in the log, and a line with the numbers and a cure."""

    name: str
    message: str


def reward_hacking(history: Sequence[LogRow]) -> str | None:
    """The reward is higher than it was where the gold score was best, and the gold score is lower (Gao et al. 2022)."""
    known = [row for row in history if "eval_gold" in row]
    if not known:
        return None
    best, last = max(known, key=lambda row: row["eval_gold"]), known[-1]
    if last["eval_reward"] <= best["eval_reward"] or last["eval_gold"] > best["eval_gold"] - GOLD_FALL:
        return None
    return (
        f"the reward rose from {best['eval_reward']:.3f} to {last['eval_reward']:.3f} since step {best['step']} while the "
        f"gold score fell from {best['eval_gold']:.3f} to {last['eval_gold']:.3f}: the reward is being hacked; raise "
        "beta, or add a reward that sees the truth"
    )


def length_drift(history: Sequence[LogRow]) -> str | None:
    """Answers are twice as long as before, or half as long."""
    before, now = history[0]["eval_length"], history[-1]["eval_length"]
    if before / LENGTH_RATIO < now < before * LENGTH_RATIO:
        return None
    return f"answers went from {before:.1f} to {now:.1f} tokens: something rewards length alone; add the reward length"


def repetition(history: Sequence[LogRow]) -> str | None:
    """More of the answers' 4-grams are repetitions."""
    before, now = history[0]["eval_repetition"], history[-1]["eval_repetition"]
    if now <= before + REPETITION_RISE:
        return None
    return f"repeated 4-grams went from {before:.3f} to {now:.3f}: answers begin to loop; raise beta"


def variety(history: Sequence[LogRow]) -> str | None:
    """Fewer different word pairs over all answers: the same phrases everywhere."""
    before, now = history[0]["eval_distinct_2"], history[-1]["eval_distinct_2"]
    if now >= VARIETY_SHARE * before:
        return None
    return (
        f"distinct-2 fell from {before:.3f} to {now:.3f}: answers become alike; raise beta or the temperature"
    )


def entropy_collapse(history: Sequence[LogRow]) -> str | None:
    """Answers to one prompt no longer differ, so that nothing can be learned from comparing them."""
    before, now = history[0]["eval_entropy"], history[-1]["eval_entropy"]
    if now >= ENTROPY_SHARE * before:
        return None
    return (
        f"entropy fell from {before:.3f} to {now:.3f} nats a token: answers to a prompt hardly differ any more; lower "
        "learning_rate or raise beta"
    )


def kl_runaway(history: Sequence[LogRow]) -> str | None:
    """The policy left the chat model behind."""
    kl, length = history[-1]["eval_kl"], history[-1]["eval_length"]
    if kl <= KL_PER_TOKEN * length:
        return None
    return (
        f"KL from the model before is {kl:.2f} nats an answer of {length:.1f} tokens: raise beta, or set max_kl below "
        f"{kl:.1f} to stop there"
    )


def unfinished(history: Sequence[LogRow]) -> str | None:
    """More answers are cut off at their longest allowed length."""
    before, now = history[0]["eval_finished"], history[-1]["eval_finished"]
    if now >= before - FINISHED_FALL:
        return None
    return (
        f"finished answers fell from {before:.2f} to {now:.2f}: reward them (rewards: name: finished), or raise "
        "max_completion_length"
    )


TESTS: tuple[Callable[[Sequence[LogRow]], str | None], ...] = (
    reward_hacking,
    length_drift,
    repetition,
    variety,
    entropy_collapse,
    kl_runaway,
    unfinished,
)


def check_run(history: Sequence[LogRow]) -> list[Alert]:
    """What is wrong at the last measurement."""
    found = [(test.__name__, test(history)) for test in TESTS]
    return [Alert(name, message) for name, message in found if message]
