# SPDX-License-Identifier: Apache-2.0
"""How well preference pairs are ranked: by a reward model, or by what DPO has made of a chat model.

Everything is computed from margins: by how much the chosen answer of a pair is scored above the rejected one.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from scratch_gpt.evaluation.metrics.intervals import bootstrap_ci, mean_metric
from scratch_gpt.inference.chat_format import tools_of
from scratch_gpt.inference.rewards import score_conversations
from scratch_gpt.runs.results import Metric


Preference = dict[str, Any]

# Confidences of a choice between two answers, from guessing to certainty.
BINS = np.linspace(0.5, 1.0, 11)
CALIBRATED_DRAWS = 200


def reward_margins(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, pairs: Sequence[Preference]
) -> np.ndarray:
    """The reward model's score of the chosen answer less that of the rejected one, of each pair."""
    tools = list(map(tools_of, pairs))
    chosen, rejected = (
        score_conversations(model, tokenizer, [pair["prompt"] + pair[side] for pair in pairs], tools)
        for side in ("chosen", "rejected")
    )
    return np.subtract(chosen, rejected)


def log_ratios(
    aligned: PreTrainedModel,
    reference: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    rows: Sequence[Preference],
    side: str,
) -> np.ndarray:
    """How much likelier each row's answer `side` has become, in nats: what DPO and KTO learn, over beta."""
    after, before = (answer_log_probabilities(model, tokenizer, rows, side) for model in (aligned, reference))
    return after - before


@torch.inference_mode()
def answer_log_probabilities(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    pairs: Sequence[Preference],
    side: str,
    batch_size: int = 32,
) -> np.ndarray:
    """Log-probability in nats of each pair's `side` after its prompt, all tokens with the end of the turn."""
    rows = []
    for pair in pairs:
        render = partial(tokenizer.apply_chat_template, tools=tools_of(pair), return_dict=True)
        prompt = render(pair["prompt"], add_generation_prompt=True)
        whole = render(pair["prompt"] + pair[side])
        rows.append((whole["input_ids"], len(prompt["input_ids"])))
    order = sorted(range(len(rows)), key=lambda index: len(rows[index][0]))
    sums = np.zeros(len(rows))
    for begin in range(0, len(order), batch_size):
        indices = order[begin : begin + batch_size]
        batch = tokenizer.pad(
            {"input_ids": [rows[index][0] for index in indices]}, padding_side="right", return_tensors="pt"
        ).to(model.device)
        logits = model(**batch, use_cache=False).logits[:, :-1].float()
        targets = batch["input_ids"][:, 1:, None]
        log_probabilities = logits.log_softmax(-1).gather(2, targets)[:, :, 0]  # (B, T - 1)
        for index, row in zip(indices, log_probabilities, strict=True):
            ids, start = rows[index]
            sums[index] = row[start - 1 : len(ids) - 1].cpu().double().sum().item()
    return sums


def pair_accuracy(margins: np.ndarray, pairs: Sequence[Preference], seed: int) -> dict[str, Metric]:
    """Share of pairs ranked right: `accuracy` over all, `accuracy/KIND` of each kind.

    A tie counts half, so that a model that scores everything alike is at chance.
    """
    right = _right(margins)
    kinds = np.array([pair["kind"] for pair in pairs])
    metrics = {"accuracy": mean_metric(right.tolist(), seed, chance=0.5)}
    for kind in sorted(set(kinds.tolist())):
        metrics[f"accuracy/{kind}"] = mean_metric(right[kinds == kind].tolist(), seed, chance=0.5)
    return metrics


def calibration_error(margins: np.ndarray, seed: int) -> Metric:
    """Expected calibration error: how far, on average, confidence is from the share ranked right.

    By the model of Bradley and Terry (1952) a margin m says that the better-scored answer is preferred with the
    probability sigmoid(|m|). Pairs are put into ten bins by it (Guo et al. 2017, arXiv 1706.04599). Few pairs make the
    number larger, since a bin's share is then off by chance: the baseline `calibrated` is what a calibrated model gets
    for these pairs on average. Drawing the pairs again makes it larger once more, which the interval takes off (the basic
    bootstrap, Davison and Hinkley 1997, section 5.2), so that the number may lie above its interval.
    """
    confidence, bins = _confidence(margins), _bin(_confidence(margins))
    gaps = np.zeros((len(margins), len(BINS) - 1))
    gaps[np.arange(len(margins)), bins] = confidence - _right(margins)

    def error(sums: np.ndarray) -> float:
        return float(np.abs(sums).sum() / len(margins))

    value = error(gaps.sum(axis=0))
    low, high = bootstrap_ci(gaps, seed, error)
    random = np.random.default_rng(seed)
    calibrated = [
        error(np.bincount(bins, confidence - (random.random(len(margins)) < confidence)))
        for _ in range(CALIBRATED_DRAWS)
    ]
    return Metric(
        value,
        (max(2 * value - high, 0.0), max(2 * value - low, 0.0)),
        baselines={"calibrated": float(np.mean(calibrated))},
    )


def calibration_bins(margins: np.ndarray, seed: int) -> list[tuple[float, Metric]]:
    """Of each bin of `calibration_error` with pairs in it: the mean predicted probability, and the share ranked right."""
    confidence, right, bins = _confidence(margins), _right(margins), _bin(_confidence(margins))
    return [
        (float(confidence[bins == index].mean()), mean_metric(right[bins == index].tolist(), seed))
        for index in np.unique(bins)
    ]


def _right(margins: np.ndarray) -> np.ndarray:
    """1 for a pair ranked right, 0 for a wrong one, 1/2 for a tie."""
    return (margins > 0) + 0.5 * (margins == 0)


def _confidence(margins: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.abs(margins)))


def _bin(confidence: np.ndarray) -> np.ndarray:
    return np.clip(np.digitize(confidence, BINS) - 1, 0, len(BINS) - 2)
