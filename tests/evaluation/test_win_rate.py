# SPDX-License-Identifier: Apache-2.0
"""One chat model against another as a reward model sees them."""

import json

import pytest

from scratch_gpt.data import primer
from scratch_gpt.errors import UserError
from scratch_gpt.evaluation import win_rate
from scratch_gpt.evaluation.benchmark import EvalArguments
from scratch_gpt.evaluation.runner import Answer


def test_wins_are_counted_on_the_same_prompts() -> None:
    """Two better, one worse, one alike: (2 + 1/2) of 4."""
    answers = [Answer("x", True)] * 3 + [Answer("y", False)]
    metrics = win_rate.win_rate_metrics([1.0, 2.0, 0.0, 5.0], [0.0, 1.0, 3.0, 5.0], answers, 0)
    assert metrics["prompts/win_rate"].value == 2.5 / 4
    assert metrics["prompts/win_rate"].chance == 0.5
    assert metrics["prompts/reward"].value == 2.0
    assert metrics["prompts/finished"].value == 0.75
    low, high = metrics["prompts/win_rate"].ci95
    assert low < 2.5 / 4 < high


def test_prompts_are_the_corpuss_or_the_users(base_folder, tmp_path) -> None:
    """The first message of each conversation of a file, or held-out prompts of the embedded corpus."""
    arguments = EvalArguments(model=[str(base_folder)], limit=3)
    assert win_rate.conversation_prompts(arguments) == primer.prompts("test")[:3]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"Q{n}", "completion": "A"}) + "\n" for n in range(5)))
    arguments = EvalArguments(
        model=[str(base_folder)], limit=2, sources=[{"name": "mine", "path": str(path)}]
    )
    assert [example.prompt for example in win_rate.conversation_prompts(arguments)] == ["Q0", "Q1"]


def test_a_reward_that_is_no_number_is_named(monkeypatch, tiny_model, tiny_tokenizer, base_folder) -> None:
    """NaN would count as a loss, and say nothing."""
    monkeypatch.setattr(win_rate, "load_reward_model", lambda folder, tokenizer: tiny_model)
    monkeypatch.setattr(
        win_rate, "score_conversations", lambda judge, tokenizer, rows, size: [1.0, float("nan")]
    )
    prompts = primer.prompts("test")[:2]
    arguments = EvalArguments(model=[str(base_folder)], max_new_tokens=2)
    with pytest.raises(UserError, match="the reward model judge gives NaN for 1 of 2 answers"):
        win_rate.reward_answers(tiny_model, tiny_tokenizer, "judge", prompts, arguments)
