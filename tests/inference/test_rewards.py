# SPDX-License-Identifier: Apache-2.0
"""The reward model's scores and checks."""

from pathlib import Path

import pytest
import torch
from accelerate import PartialState
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from scratch_gpt.inference.rewards import load_reward_model, score_conversations
from scratch_gpt.tokenization import train_tokenizer
from wording import user_error


def turns(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


@pytest.fixture
def reward_folder(chat_folder: Path, tmp_path: Path) -> Path:
    """A reward model with the chat model's tokenizer."""
    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_pretrained(chat_folder, num_labels=1)
    torch.nn.init.normal_(model.score.weight, std=1.0)
    model.save_pretrained(tmp_path / "reward")
    AutoTokenizer.from_pretrained(chat_folder).save_pretrained(tmp_path / "reward")
    return tmp_path / "reward"


def test_scores_do_not_depend_on_the_batch(reward_folder: Path) -> None:
    """Padded among longer ones and in any order, a conversation gets the score that it has alone."""
    tokenizer = AutoTokenizer.from_pretrained(reward_folder)
    model = load_reward_model(str(reward_folder), tokenizer)
    conversations = [
        turns("Who?", "Me."),
        turns("What is the capital of France?", "Paris. " * 9),
        turns("a", "b"),
    ]
    together = score_conversations(model, tokenizer, conversations, batch_size=3)
    alone = []
    for conversation in conversations:
        ids = tokenizer.apply_chat_template(conversation, return_dict=True, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            alone.append((model.model(input_ids=ids).last_hidden_state[0, -1] @ model.score.weight[0]).item())
    assert together == pytest.approx(alone, abs=1e-4)
    assert len({round(score, 3) for score in alone}) == 3
    assert score_conversations(model, tokenizer, conversations, batch_size=1) == pytest.approx(
        alone, abs=1e-4
    )


def test_other_models_are_no_reward_model(reward_folder: Path, chat_folder: Path, tmp_path: Path) -> None:
    """A missing folder, a chat model, a model with two scores and another tokenizer are told apart."""
    tokenizer = AutoTokenizer.from_pretrained(chat_folder)
    with user_error("no_model", folder=tmp_path / "nowhere"):
        load_reward_model(str(tmp_path / "nowhere"), tokenizer)
    with user_error("wrong_model", chat_folder, found=["ScratchGPTForCausalLM"]):
        load_reward_model(str(chat_folder), tokenizer)
    other = train_tokenizer(["some other text " * 5], vocab_size=320)
    with user_error("another_tokenizer", folder=reward_folder):
        load_reward_model(str(reward_folder), other)
    two = AutoModelForSequenceClassification.from_pretrained(chat_folder, num_labels=2)
    two.save_pretrained(tmp_path / "two")
    with user_error("too_many_labels", tmp_path / "two", num_labels=2):
        load_reward_model(str(tmp_path / "two"), tokenizer)


def test_a_damaged_reward_model_is_refused(reward_folder: Path) -> None:
    """A weight that is missing, is no number or cannot be read is one line; a score at random would be rewarded."""
    tokenizer = AutoTokenizer.from_pretrained(reward_folder)
    file = reward_folder / "model.safetensors"
    weights = load_file(file)

    def load(changed: dict[str, torch.Tensor]) -> None:
        save_file(changed, file, metadata={"format": "pt"})
        load_reward_model(str(reward_folder), tokenizer)

    with user_error("weight_missing", reward_folder, weight="score.weight"):
        load({name: weight for name, weight in weights.items() if name != "score.weight"})
    with user_error("weight_not_finite", reward_folder, weight="score.weight"):
        load({**weights, "score.weight": weights["score.weight"] * float("nan")})
    with user_error("damaged_model", folder=reward_folder):
        file.write_bytes(file.read_bytes()[:1000])
        load_reward_model(str(reward_folder), tokenizer)


def test_the_reward_model_is_on_the_device(reward_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the process has a GPU the scores are computed there: here the meta device stands for it."""
    monkeypatch.setattr(PartialState(), "device", torch.device("meta"))
    model = load_reward_model(str(reward_folder), AutoTokenizer.from_pretrained(reward_folder))
    assert model.device.type == "meta" and not model.training
