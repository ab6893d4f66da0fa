# SPDX-License-Identifier: Apache-2.0
"""Margins of pairs, and what is computed from them: accuracy by kind, calibration."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from scratch_gpt.evaluation.benchmarks.preferences import (
    answer_log_probabilities,
    calibration_bins,
    calibration_error,
    pair_accuracy,
    reward_margins,
)


def pair(chosen: str, rejected: str, kind: str = "k", question: str = "Who?") -> dict[str, Any]:
    sides = {"chosen": chosen, "rejected": rejected}
    answers = {side: [{"role": "assistant", "content": text}] for side, text in sides.items()}
    return {"prompt": [{"role": "user", "content": question}], **answers, "kind": kind}


def test_accuracy_by_kind() -> None:
    """Right, wrong and equal pairs count 1, 0 and 1/2, over all pairs and within each kind."""
    pairs = [pair("a", "b", kind) for kind in ("rude", "rude", "wrong", "wrong")]
    metrics = pair_accuracy(np.array([2.0, 0.1, -1.0, 0.0]), pairs, seed=0)
    assert {name: metric.value for name, metric in metrics.items()} == {
        "accuracy": 0.625,
        "accuracy/rude": 1.0,
        "accuracy/wrong": 0.25,
    }
    assert all(metric.chance == 0.5 for metric in metrics.values())


def test_margins_are_differences_of_scores(chat_folder: Path, tiny_tokenizer: Any) -> None:
    """A pair and its mirror image have opposite margins, and equal sides none."""
    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_pretrained(chat_folder, num_labels=1).eval()
    torch.nn.init.normal_(model.score.weight)
    pairs = [pair("Me, of course.", "You."), pair("You.", "Me, of course."), pair("Me.", "Me.")]
    margins = reward_margins(model, tiny_tokenizer, pairs)
    assert margins[0] == pytest.approx(-margins[1], abs=1e-5)
    assert abs(margins[0]) > 1e-3 and margins[2] == pytest.approx(0, abs=1e-5)


def test_log_probabilities_are_those_of_the_answer_alone(tiny_model: Any, tiny_tokenizer: Any) -> None:
    """The sum over the answer's tokens and the end of its turn, whatever the batch, as computed one by one."""
    pairs = [pair("Me.", "x"), pair("It is me and nobody else. " * 3, "x", question="Who is it there?")]
    expected = []
    for row in pairs:
        prompt = tiny_tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, tokenize=False)
        text = prompt + row["chosen"][0]["content"] + "<|im_end|>\n"
        ids = tiny_tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
        start = len(tiny_tokenizer(prompt, add_special_tokens=False)["input_ids"])
        with torch.no_grad():
            log_probabilities = tiny_model(input_ids=ids).logits[0].log_softmax(-1)
        expected.append(sum(log_probabilities[t - 1, ids[0, t]].item() for t in range(start, ids.shape[1])))
    for batch_size in (1, 2):
        found = answer_log_probabilities(tiny_model, tiny_tokenizer, pairs, "chosen", batch_size)
        assert found == pytest.approx(expected, abs=1e-3)


def test_calibration_error_by_hand() -> None:
    """Two bins: sure by 0.88 and always right, sure by 0.62 and right half of the time."""
    margins = np.array([2.0, 2.0, 0.5, -0.5])
    sure, unsure = 1 / (1 + np.exp(-2.0)), 1 / (1 + np.exp(-0.5))
    assert calibration_error(margins, seed=0).value == pytest.approx(0.5 * (1 - sure) + 0.5 * (unsure - 0.5))


def test_a_calibrated_model_has_a_small_error() -> None:
    """Pairs that are ranked right as often as their margins say; doubling all margins makes it overconfident."""
    random = np.random.default_rng(0)
    size = np.abs(random.normal(size=20_000))
    margins = np.where(random.random(20_000) < 1 / (1 + np.exp(-size)), size, -size)
    assert calibration_error(margins, seed=0).value < 0.02
    doubled = calibration_error(2 * margins, seed=0)
    assert doubled.value > 0.08
    assert doubled.ci95[0] <= doubled.value <= doubled.ci95[1]


def test_chance_is_taken_off_the_interval_of_few_pairs() -> None:
    """Of calibrated models on 100 pairs the error is far from 0, as the baseline says, and many intervals hold 0."""
    random = np.random.default_rng(0)
    found = []
    for _ in range(40):
        size = np.abs(random.normal(size=100))
        right = random.random(100) < 1 / (1 + np.exp(-size))
        found.append(calibration_error(np.where(right, size, -size), seed=0))
    expected = np.mean([metric.baselines["calibrated"] for metric in found])
    assert np.mean([metric.value for metric in found]) == pytest.approx(expected, rel=0.1)
    assert expected > 0.05
    assert sum(metric.ci95[0] == 0 for metric in found) > 10


def test_bins_are_those_of_the_error() -> None:
    """A tie and a margin beyond floating point have bins; a bin's share is of its own pairs."""
    (low, two), (high, one) = calibration_bins(np.array([0.0, 900.0, -0.01]), seed=0)
    assert low == pytest.approx((0.5 + 1 / (1 + math.exp(-0.01))) / 2)
    assert (two.value, two.n) == (0.25, 2)
    assert (high, one.value, one.n) == (1.0, 1.0, 1)
