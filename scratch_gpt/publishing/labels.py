# SPDX-License-Identifier: Apache-2.0
"""Measures as people read them: `eval_min_reward` of a log is "lowest reward"."""

import html
from collections.abc import Mapping
from typing import Any


UNKNOWN = "not known"
# A measure -> its words; where a name is not here, its underscores become blanks.
WORDS = {
    "accuracy": "right choices",
    "bits_per_byte": "bits per byte",
    "bleu": "BLEU",
    "chrf": "chrF",
    "continues_with_question": "answers that ask another question",
    "distinct_1": "different words",
    "distinct_2": "different word pairs",
    "exact_match": "exact answers",
    "f1": "F1",
    "finished": "answers that end",
    "gold": "gold score",
    "gold_win_rate": "wins by gold score",
    "kl": "KL (nats an answer)",
    "last_number": "right results",
    "length": "length in tokens",
    "loops": "degenerate loops",
    "margin": "margin between the sides",
    "masked_accuracy": "masked tokens predicted right",
    "max_reward": "highest reward",
    "mean_reward": "mean reward",
    "mean_token_accuracy": "tokens predicted right",
    "min_reward": "lowest reward",
    "pseudo_perplexity": "pseudo-perplexity",
    "refused": "refusals",
    "repetition": "repeated 4-grams",
    "reward_win_rate": "wins by reward",
    "score": "score that chooses the step",
    "self_bleu": "self-BLEU",
}
# How the answers were decoded, the prefix of a measure -> the words behind it.
DECODINGS = {
    "default": "default decoding",
    "greedy": "greedy",
    "sampled": "sampled",
    "temperature_1": "temperature 1",
}
HELD_OUT = "eval_"
# What a stage's summary says of its held-out measures, where the log has any of these.
SUMMARY = (
    *("loss", "bits_per_byte", "accuracy", "masked_accuracy", "mean_token_accuracy", "margin"),
    *("default_gold", "default_reward", "kl"),
)


def inline(text: str) -> str:
    """A user's name in a line or a cell of the card: it begins no line, cell, tag or entity of its own."""
    return html.escape(" ".join(text.split()), quote=False).replace("|", "\\|")


def number(value: Any) -> str:
    """A number as a person reads it; `not known` for None."""
    if value is None:
        return UNKNOWN
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:,.1f}"


def measure_label(name: str) -> str:
    """The label of a measure of a log (`eval_kl`) or a result (`stories/greedy_coherence`, `facts/exact_match`)."""
    *places, measure = name.removeprefix(HELD_OUT).split("/")
    behind = [f" ({DECODINGS[places.pop()]})"] if places and places[-1] in DECODINGS else []
    for decoding, words in DECODINGS.items():
        if measure.startswith(f"{decoding}_"):
            measure = measure.removeprefix(f"{decoding}_")
            behind.append(f" ({words})")
    words = WORDS.get(measure, measure.replace("_", " "))
    return ": ".join([*(place.replace("_", " ") for place in places), words]) + "".join(behind)


def held_out_measures(row: Mapping[str, Any]) -> str:
    """The main held-out measures of a row of a log, in words; all of them where it has none of the main ones."""
    measures = {
        key.removeprefix(HELD_OUT): value
        for key, value in row.items()
        if key.startswith(HELD_OUT) and isinstance(value, float)
    }
    shown = {key: measures[key] for key in SUMMARY if key in measures} or measures
    return ", ".join(f"{measure_label(key)} {number(value)}" for key, value in shown.items())
