# SPDX-License-Identifier: Apache-2.0
"""Chat models side by side: what is measured of their answers, and how far they are from where they began."""

import copy
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GenerationConfig

from scratch_gpt import primer
from scratch_gpt.evaluation.benchmarks import alignment
from scratch_gpt.evaluation.benchmarks.alignment import (
    AlignmentArguments,
    answer_tokens,
    best_of_n,
    decode_settings,
    evaluate_policy,
    gold_scores,
    measure_answers,
    measure_model,
    token_statistics,
)
from scratch_gpt.inference.generation import Answer
from scratch_gpt.inference.prompts import Prompt
from scratch_gpt.tasks.example import Example
from wording import user_error


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
QUESTIONS = [Prompt("Where is Paris?"), Prompt("Is it?", system="Be kind."), Prompt("Well?")]


def test_the_stop_token_counts_where_it_was_written(chat_tokenizer: Any) -> None:
    """What counts are the answer's tokens, and the stop token behind a finished answer only; never the prompt."""
    batch, written = answer_tokens(chat_tokenizer, QUESTIONS, ANSWERS)
    texts = [chat_tokenizer.decode(ids[mask]) for ids, mask in zip(batch["input_ids"], written, strict=True)]
    assert texts == ["Paris is in France.<|im_end|>", "Yes", "<|im_end|>"]


def test_kl_and_entropy_of_the_answer_alone(tiny_model: Any, changed_model: Any, chat_tokenizer: Any) -> None:
    """One by one, unpadded: torch's KL between the two next-token distributions before each answer token, and entropy."""
    divergences, entropies = token_statistics(
        changed_model, tiny_model, chat_tokenizer, QUESTIONS, ANSWERS, batch_size=2
    )
    expected_kl, expected_entropy = [], []
    for question, answer in zip(QUESTIONS, ANSWERS, strict=True):
        system = f"<|im_start|>system\n{question.system}<|im_end|>\n" if question.system else ""
        text = f"{system}<|im_start|>user\n{question.text}<|im_end|>\n<|im_start|>assistant\n"
        start = chat_tokenizer(text, return_tensors="pt")["input_ids"]
        whole = text + answer.text + ("<|im_end|>" if answer.finished else "")
        ids = chat_tokenizer(whole, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            p, q = (
                model(ids).logits[0, start.shape[1] - 1 : -1].log_softmax(-1)
                for model in (changed_model, tiny_model)
            )
        expected_kl.append(torch.nn.functional.kl_div(q, p, log_target=True, reduction="sum").item())
        expected_entropy.append(torch.distributions.Categorical(logits=p).entropy().mean().item())
    assert divergences == pytest.approx(expected_kl, rel=1e-4)
    assert entropies == pytest.approx(expected_entropy, rel=1e-4)
    assert min(expected_kl) > 0.01
    same, _ = token_statistics(tiny_model, tiny_model, chat_tokenizer, QUESTIONS, ANSWERS)
    assert same == [0.0, 0.0, 0.0]


def test_gold_needs_an_example() -> None:
    """Prompts of which nobody knows the answer have no gold score."""
    example = primer.prompts("dev")[0]
    prompts = [
        Prompt("anything"),
        Prompt(example.prompt, example),
        Prompt("mine", Example("mine", ("x",), kind="fact", key="mine"), source="file"),
    ]
    answers = [Answer("x", True), Answer(example.references[0], True), Answer("x", True)]
    assert gold_scores(prompts, answers) == [1.0]


def test_wins_are_counted_against_the_model_before(
    monkeypatch: pytest.MonkeyPatch, chat_tokenizer: Any
) -> None:
    """Means and win-rate (ties half) come out as counted by hand, for each decoding."""
    example = Example(prompt="?", references=("right",), kind="fact", key="k")
    prompts = [Prompt(text, example) for text in ("a", "b", "c", "d")]
    own = GenerationConfig(do_sample=True, temperature=0.3, top_p=0.9)
    models = {name: SimpleNamespace(name=name, generation_config=own) for name in ("before", "after")}
    said = {
        ("before", 0.3): ["right", "wrong", "wrong", "wrong"],
        ("after", 0.3): ["right", "right", "right", "wrong"],
        ("before", 1.0): ["right", "wrong", "wrong", "wrong"],
        ("after", 1.0): ["wrong", "right", "right", "wrong"],
        ("before", 0.0): ["right", "right", "wrong", "wrong"],
        ("after", 0.0): ["right", "right", "right", "wrong"],
    }
    monkeypatch.setattr(
        alignment,
        "generate_answers",
        lambda model, *_, temperature, **__: [
            Answer(text, text == "right") for text in said[model.name, temperature]
        ],
    )
    monkeypatch.setattr(
        alignment.primer, "gold_score", lambda example, text, finished: float(text == "right")
    )
    monkeypatch.setattr(
        alignment,
        "token_statistics",
        lambda model, *_: ([0.0 if model.name == "before" else 2.0] * 4, [0.5] * 4),
    )
    judges = {"gold": gold_scores, "reward": lambda *_: [1.0, 2.0, 3.0, 4.0], "judge": lambda *_: []}
    settings = {"reference": models["before"], "max_new_tokens": 5, "seed": 0}
    measured = measure_model(models["before"], chat_tokenizer, prompts, judges, baseline=None, **settings)
    before = measured.metrics
    aligned = measure_model(models["after"], chat_tokenizer, prompts, judges, baseline=measured, **settings)
    after = aligned.metrics
    assert list(before) == list(after)
    assert not any("judge" in name for name in after)  # it knew none of them
    assert next(iter(before)) == "default/gold"  # what people get comes first
    assert (before["default/gold"].value, after["default/gold"].value) == (0.25, 0.75)
    assert (before["temperature_1/gold"].value, after["temperature_1/gold"].value) == (0.25, 0.5)
    assert after["temperature_1/gold_win_rate"].value == (0 + 1 + 1 + 0.5) / 4
    assert after["greedy/gold_win_rate"].value == (0.5 + 0.5 + 1 + 0.5) / 4
    assert before["greedy/gold_win_rate"].value == 0.5
    assert after["greedy/finished"].value == 0.75
    assert (before["temperature_1/kl"].value, after["temperature_1/kl"].value) == (0.0, 2.0)
    assert after["greedy/reward"].value == 2.5


def test_loops_are_answers_that_do_nothing_else(chat_tokenizer: Any) -> None:
    """Above one half of repeated 4-grams; the share of them is told beside it."""
    answers = [Answer("a b c d " * 5, True), Answer("one two three four five", True)]
    prompts = [Prompt("?"), Prompt("!")]
    metrics = measure_answers("greedy", chat_tokenizer, prompts, answers, {}, None, 0).metrics
    assert metrics["greedy/loops"].value == 0.5
    assert metrics["greedy/repetition"].value == pytest.approx((1 - 4 / 17) / 2)


def test_a_length_is_no_share(chat_tokenizer: Any) -> None:
    """Answers that all end at once have one token each, and no interval; that all are finished has one."""
    answers = [Answer("", True)] * 3
    metrics = measure_answers("greedy", chat_tokenizer, QUESTIONS, answers, {}, None, 0).metrics
    assert metrics["greedy/length"].ci95 == (1.0, 1.0)
    assert metrics["greedy/finished"].ci95[0] < metrics["greedy/finished"].value == 1.0


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"do_sample": True, "temperature": 0.3, "top_p": 0.9}, {"temperature": 0.3, "top_p": 0.9}),
        ({"do_sample": True, "top_k": 5}, {"temperature": 1.0, "top_p": 1.0, "top_k": 5}),
        ({"do_sample": False}, {"temperature": 0.0}),
    ],
)
def test_the_default_decoding_is_the_folders(said: dict[str, Any], expected: dict[str, Any]) -> None:
    """What generation_config.json says, as chat and serve take it; the two others are the same for every model."""
    found = decode_settings(SimpleNamespace(generation_config=GenerationConfig(**said)))
    assert list(found) == ["default", "temperature_1", "greedy"]
    assert expected.items() <= found["default"].items()
    assert (found["temperature_1"], found["greedy"]) == ({"temperature": 1.0}, {"temperature": 0.0})


def test_best_of_n_takes_the_highest_score(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each prompt is asked n times, and of its own answers the best one comes back, in the prompts' order."""
    said = {"a": iter(["3", "9", "1"]), "b": iter(["5", "2", "4"])}
    monkeypatch.setattr(
        alignment,
        "generate_answers",
        lambda model, tokenizer, asked, **_: [
            Answer(next(said[messages[-1]["content"]]), True) for messages in asked
        ],
    )
    best = best_of_n(
        SimpleNamespace(generation_config=GenerationConfig()),
        None,
        [Prompt("a"), Prompt("b")],
        lambda prompts, answers: [float(answer.text) for answer in answers],
        3,
        "default",
        max_new_tokens=5,
        seed=0,
    )
    assert [answer.text for answer in best] == ["9", "5"]


def test_the_tax_is_measured_on_blocks(
    monkeypatch: pytest.MonkeyPatch, tiny_model: Any, changed_model: Any, chat_tokenizer: Any
) -> None:
    """With shards, both models get their own bits per byte, whatever the prompts."""
    text = chat_tokenizer("The capital of France is Paris. " * 3)["input_ids"]
    monkeypatch.setattr(alignment, "PackedBlocks", lambda *_, **__: [np.array(text), np.array(text[::-1])])
    prompts = [Prompt("Who?"), Prompt("What?")]
    metrics = {
        name: measure_model(
            model,
            chat_tokenizer,
            prompts,
            {},
            reference=tiny_model,
            baseline=None,
            max_new_tokens=3,
            seed=0,
            shards="folder",
        ).metrics
        for name, model in (("sft", tiny_model), ("aligned", changed_model))
    }
    for name, model in (("sft", tiny_model), ("aligned", changed_model)):
        nats = 0.0
        for ids in (text, text[::-1]):
            with torch.no_grad():
                nats += model(torch.tensor([ids]), labels=torch.tensor([ids])).loss.item() * (len(ids) - 1)
        num_bytes = 2 * len(("The capital of France is Paris. " * 3).encode())
        num_bytes -= sum(len(chat_tokenizer.convert_ids_to_tokens(ids[0])) for ids in (text, text[::-1]))
        assert metrics[name]["bits_per_byte"].value == pytest.approx(nats / np.log(2) / num_bytes, rel=1e-4)
    assert metrics["sft"]["bits_per_byte"].value != metrics["aligned"]["bits_per_byte"].value


def watched(model: Any, reference: Any, tokenizer: Any, prompts: list[Prompt]) -> dict[str, float]:
    return evaluate_policy(
        model,
        tokenizer,
        prompts,
        lambda prompts, answers: [float(len(answer.text)) for answer in answers],
        reference=reference,
        beta=0.5,
        max_new_tokens=4,
        seed=0,
    )


def test_watching_changes_nothing(tiny_model: Any, changed_model: Any, chat_tokenizer: Any) -> None:
    """The measures on the way leave the random state and the training mode as they were."""
    prompts = [Prompt(example.prompt, example) for example in primer.prompts("dev")[:3]]
    tiny_model.train()
    state = torch.get_rng_state()
    measures = watched(tiny_model, changed_model, chat_tokenizer, prompts)
    assert all(name.startswith("eval_") for name in measures)
    assert tiny_model.training
    assert torch.equal(torch.get_rng_state(), state)


def test_the_dev_score(
    monkeypatch: pytest.MonkeyPatch, tiny_model: Any, changed_model: Any, chat_tokenizer: Any
) -> None:
    """Gold of the default decoding and greedy gold weigh alike; without gold it is the two rewards less what the KL costs."""
    example = primer.prompts("dev")[0]
    asked = [Prompt(example.prompt, example), Prompt("Who?")]
    gold = iter([[1.0], [0.2], [0.5]])
    monkeypatch.setattr(alignment, "gold_scores", lambda prompts, answers: next(gold))
    measures = watched(tiny_model, changed_model, chat_tokenizer, asked)
    found = {name: measures[f"eval_{name}"] for name in ("default_gold", "gold", "greedy_gold", "score")}
    assert found == {"default_gold": 1.0, "gold": 0.2, "greedy_gold": 0.5, "score": 0.75}
    monkeypatch.undo()
    measures = watched(tiny_model, changed_model, chat_tokenizer, [Prompt("Who?"), Prompt("Where?")])
    assert measures["eval_kl"] > 0
    assert measures["eval_default_reward"] != measures["eval_greedy_reward"]
    assert measures["eval_score"] == pytest.approx(
        (measures["eval_default_reward"] + measures["eval_greedy_reward"]) / 2 - 0.5 * measures["eval_kl"]
    )
    assert not any("gold" in name for name in measures)


def test_mistakes_in_the_comparison(chat_folder: Any) -> None:
    """Best of n needs a score to be best by, and more than one answer; seeds hold out prompts of their own."""
    with user_error("setting_missing", "best_of_n", setting="reward_model"):
        AlignmentArguments(model=[str(chat_folder)], best_of_n=4)
    with user_error("wrong_value", "at least 2", setting="best_of_n", value=1):
        AlignmentArguments(model=[str(chat_folder)], best_of_n=1, reward_model="r")
    with user_error("setting_missing", "r{seed}", "--seeds 0 1 2", setting="seeds"):
        AlignmentArguments(model=[str(chat_folder)], reward_model="r{seed}")
    with user_error("placeholder_missing", chat_folder, "{seed}", setting="model"):
        AlignmentArguments(model=[str(chat_folder)], seeds=[0, 1])
