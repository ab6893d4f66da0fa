# SPDX-License-Identifier: Apache-2.0
"""Answers that are cut off before anything is learned: refused, warned of, and a length that would do."""

from typing import Any

import pytest

from scratch_gpt.inference.generation import Answer
from scratch_gpt.inference.prompts import Prompt
from scratch_gpt.training.rl import answer_length
from scratch_gpt.training.rl.answer_length import cut_off_line, suggest_length
from wording import shows, user_error


def test_nearly_all_cut_off_is_refused() -> None:
    """Above nine of ten, where such answers teach nothing; else a line."""
    with user_error("answers_cut_off", "97%", length=48, suggested=120):
        cut_off_line(0.97, 48, 120, masked=True)
    with user_error("answers_cut_off", "100%", "sft", length=48):
        cut_off_line(1.0, 48, None, masked=True)
    assert shows(cut_off_line(0.97, 48, 120, masked=False), "97%", 48, 120)
    assert shows(cut_off_line(0.6, 48, 120, masked=True), "60%", 48, 120)


def test_the_suggested_length_is_measured(
    monkeypatch: pytest.MonkeyPatch, tiny_model: Any, tiny_tokenizer: Any
) -> None:
    """Where nine of ten sampled answers end, the stop token counted; None where they do not, or there is no room."""
    texts = ["Yes. " * count for count in range(1, 11)]
    lengths = [len(tiny_tokenizer(text, add_special_tokens=False)["input_ids"]) + 1 for text in texts]
    asked: dict[str, Any] = {}

    def answer(model, tokenizer, prompts, **settings) -> list[Answer]:
        asked.update(settings)
        return [Answer(text, place < ended) for place, text in enumerate(texts)]

    monkeypatch.setattr(answer_length, "generate_answers", answer)
    prompts = [Prompt("Hi?")] * 10
    ended = 10
    assert suggest_length(tiny_model, tiny_tokenizer, prompts, 4, seed=0) == max(lengths[8], 5)
    assert (asked["max_new_tokens"], asked["temperature"]) == (32, 1.0)
    ended = 8
    assert suggest_length(tiny_model, tiny_tokenizer, prompts, 4, seed=0) is None
    assert suggest_length(tiny_model, tiny_tokenizer, prompts, 127, seed=0) is None
