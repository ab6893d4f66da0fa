# SPDX-License-Identifier: Apache-2.0
"""The comparison of a model before and after alignment."""

import copy
from typing import Any

import numpy as np
import pytest
import torch

from scratch_gpt.data import primer
from scratch_gpt.data.example import Example
from scratch_gpt.evaluation import alignment
from scratch_gpt.evaluation.alignment import (
    answer_tokens,
    compare_models,
    gold_scores,
    sequence_kl,
    watch_answers,
)
from scratch_gpt.evaluation.runner import Answer
from scratch_gpt.training.rows import Prompt


@pytest.fixture
def chat_tokenizer(tiny_tokenizer: Any) -> Any:
    tiny_tokenizer.eos_token = "<|im_end|>"
    return tiny_tokenizer


@pytest.fixture
def changed_model(tiny_model: Any) -> Any:
    """The tiny model with other weights in its last layer."""
    other = copy.deepcopy(tiny_model)
    torch.manual_seed(5)
    torch.nn.init.normal_(other.model.layers[-1].mlp.down_proj.weight, std=0.5)
    return other


ANSWERS = [Answer("Paris is in France.", True), Answer("Yes", False), Answer("", True)]
QUESTIONS = ["Where is Paris?", "Is it?", "Well?"]


def test_the_stop_token_counts_where_it_was_written(chat_tokenizer: Any) -> None:
    """What counts are the answer's tokens, and the stop token behind a finished answer only; never the prompt."""
    batch, written = answer_tokens(chat_tokenizer, QUESTIONS, ANSWERS)
    texts = [chat_tokenizer.decode(ids[mask]) for ids, mask in zip(batch["input_ids"], written, strict=True)]
    assert texts == ["Paris is in France.<|im_end|>", "Yes", "<|im_end|>"]


def test_kl_sums_the_divergence_over_the_answer(
    tiny_model: Any, changed_model: Any, chat_tokenizer: Any
) -> None:
    """One by one, unpadded: torch's KL between the two next-token distributions before each answer token, summed."""
    found = sequence_kl(changed_model, tiny_model, chat_tokenizer, QUESTIONS, ANSWERS, batch_size=2)
    expected = []
    for question, answer in zip(QUESTIONS, ANSWERS, strict=True):
        text = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
        start = chat_tokenizer(text, return_tensors="pt")["input_ids"]
        whole = text + answer.text + ("<|im_end|>" if answer.finished else "")
        ids = chat_tokenizer(whole, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            p, q = (
                model(ids).logits[0, start.shape[1] - 1 : -1].log_softmax(-1)
                for model in (changed_model, tiny_model)
            )
        expected.append(torch.nn.functional.kl_div(q, p, log_target=True, reduction="sum").item())
    assert found == pytest.approx(expected, rel=1e-4)
    assert min(expected) > 0.01
    assert sequence_kl(tiny_model, tiny_model, chat_tokenizer, QUESTIONS, ANSWERS) == [0.0, 0.0, 0.0]


def test_gold_needs_an_example() -> None:
    """Prompts of which nobody knows the answer have no gold score."""
    example = primer.prompts("dev")[0]
    prompts = [Prompt("anything", None), Prompt(example.prompt, example)]
    answers = [Answer("x", True), Answer(example.references[0], True)]
    assert gold_scores(prompts, answers) == [1.0]


def test_wins_are_counted_against_the_model_before(
    monkeypatch: pytest.MonkeyPatch, chat_tokenizer: Any
) -> None:
    """Means and win-rate (ties half) come out as counted by hand, for each decoding."""
    example = Example(prompt="?", references=("right",), kind="fact", key="k")
    prompts = [Prompt(text, example) for text in ("a", "b", "c", "d")]
    said = {
        ("before", 1.0): ["right", "wrong", "wrong", "wrong"],
        ("after", 1.0): ["wrong", "right", "right", "wrong"],
        ("before", 0.0): ["right", "right", "wrong", "wrong"],
        ("after", 0.0): ["right", "right", "right", "wrong"],
    }
    monkeypatch.setattr(
        alignment,
        "generate_answers",
        lambda model, *_, temperature, **__: [
            Answer(text, text == "right") for text in said[model, temperature]
        ],
    )
    monkeypatch.setattr(
        alignment.primer, "gold_score", lambda example, text, finished: float(text == "right")
    )
    monkeypatch.setattr(alignment, "score_conversations", lambda *_: [1.0, 2.0, 3.0, 4.0])
    monkeypatch.setattr(alignment, "sequence_kl", lambda model, *_: [0.0 if model == "before" else 2.0] * 4)
    metrics = compare_models("before", "after", None, chat_tokenizer, prompts, max_new_tokens=5, seed=0)
    before, after = metrics["sft"], metrics["aligned"]
    assert list(before) == list(after)
    assert (before["temperature_1/gold"].value, after["temperature_1/gold"].value) == (0.25, 0.5)
    assert after["temperature_1/gold_win_rate"].value == (0 + 1 + 1 + 0.5) / 4
    assert after["greedy/gold_win_rate"].value == (0.5 + 0.5 + 1 + 0.5) / 4
    assert before["greedy/gold_win_rate"].value == 0.5
    assert after["greedy/finished"].value == 0.75
    assert (before["temperature_1/kl"].value, after["temperature_1/kl"].value) == (0.0, 2.0)
    assert after["greedy/reward"].value == 2.5


def test_the_tax_is_measured_on_blocks(
    monkeypatch: pytest.MonkeyPatch, tiny_model: Any, changed_model: Any, chat_tokenizer: Any
) -> None:
    """With shards, both models get their own bits per byte, whatever the prompts."""
    text = chat_tokenizer("The capital of France is Paris. " * 3)["input_ids"]
    monkeypatch.setattr(alignment, "shard_blocks", lambda *_, **__: [np.array(text), np.array(text[::-1])])
    monkeypatch.setattr(alignment, "score_conversations", lambda model, tokenizer, rows: [0.0] * len(rows))
    prompts = [Prompt("Who?", None), Prompt("What?", None)]
    metrics = compare_models(
        tiny_model, changed_model, None, chat_tokenizer, prompts, max_new_tokens=3, seed=0, shards="folder"
    )
    for name, model in (("sft", tiny_model), ("aligned", changed_model)):
        nats = 0.0
        for ids in (text, text[::-1]):
            with torch.no_grad():
                nats += model(torch.tensor([ids]), labels=torch.tensor([ids])).loss.item() * (len(ids) - 1)
        num_bytes = 2 * len(("The capital of France is Paris. " * 3).encode())
        num_bytes -= sum(len(chat_tokenizer.convert_ids_to_tokens(ids[0])) for ids in (text, text[::-1]))
        assert metrics[name]["bits_per_byte"].value == pytest.approx(nats / np.log(2) / num_bytes, rel=1e-4)
    assert metrics["sft"]["bits_per_byte"].value != metrics["aligned"]["bits_per_byte"].value


def test_watching_changes_nothing(tiny_model: Any, chat_tokenizer: Any) -> None:
    """The measures on the way leave the random state and the training mode as they were."""
    prompts = [Prompt(example.prompt, example) for example in primer.prompts("dev")[:3]]
    tiny_model.train()
    state = torch.get_rng_state()
    measures = watch_answers(tiny_model, chat_tokenizer, prompts, max_new_tokens=4, seed=0)
    assert set(measures) == {"eval_gold", "eval_finished"}
    assert tiny_model.training
    assert torch.equal(torch.get_rng_state(), state)
