# SPDX-License-Identifier: Apache-2.0
"""What a stage measures before and after: numbers computed here by hand, the paired change, what is asked, what is said."""

import copy
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from transformers import PreTrainedTokenizerFast

from scratch_gpt import ScratchGPTForCausalLM
from scratch_gpt.inference.loading import load_model
from scratch_gpt.tokenization import IM_END
from scratch_gpt.training.posttrain.forgetting import GENERAL, Measurement, pretraining_shards
from wording import shows, user_error


TEXT = "Anna is hungry. She wants an apple."
ROWS = [
    {
        "messages": [
            {"role": "user", "content": f"Who are you, {n}?"},
            {"role": "assistant", "content": "Me."},
        ],
        "source": "mine",
        "place": f"mine.jsonl:{n}",
    }
    for n in range(3)
]


@pytest.fixture
def chat(chat_folder: Path) -> tuple[ScratchGPTForCausalLM, PreTrainedTokenizerFast]:
    return load_model(chat_folder)


def settings(**more: Any) -> SimpleNamespace:
    given = {"seed": 0, "per_device_eval_batch_size": 2, "max_eval_prompts": 1, "general_text": None}
    return SimpleNamespace(**{**given, **more})


def trainer_of(model: ScratchGPTForCausalLM) -> Any:
    accelerator = SimpleNamespace(unwrap_model=lambda wrapped: wrapped)
    return SimpleNamespace(model=model, accelerator=accelerator)


def log_probabilities(model: ScratchGPTForCausalLM, ids: list[int]) -> torch.Tensor:
    """Of each token but the first."""
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    return logits[range(len(ids) - 1), ids[1:]]


def test_numbers_are_those_computed_by_hand(chat, tmp_path: Path) -> None:
    """Nats a token of the answers with their ends; bits per byte of a text, whose end costs bits and has no byte."""
    model, tokenizer = chat
    (tmp_path / "general.txt").write_text(TEXT)
    measurement = Measurement(settings(general_text=str(tmp_path / "general.txt")), model, tokenizer, ROWS)
    found = measurement.measure(model)
    nats, tokens = 0.0, 0
    for row in ROWS:
        ids = tokenizer.apply_chat_template(row["messages"])["input_ids"]
        start = len(
            tokenizer.apply_chat_template(row["messages"][:1], add_generation_prompt=True)["input_ids"]
        )
        learned = ids[: len(ids) - ids[::-1].index(tokenizer.convert_tokens_to_ids(IM_END))][start:]
        own = log_probabilities(model, ids)[start - 1 : start - 1 + len(learned)]
        nats, tokens = nats - own.sum().item(), tokens + len(learned)
    assert found["loss"].value == pytest.approx(nats / tokens, rel=1e-5)
    ids = [*tokenizer(TEXT)["input_ids"], tokenizer.convert_tokens_to_ids("<|endoftext|>")]
    first = len(tokenizer.decode(ids[:1]).encode())
    bits = -log_probabilities(model, ids).sum().item() / math.log(2)
    assert found[GENERAL].value == pytest.approx(bits / (len(TEXT.encode()) - first), rel=1e-5)
    assert found["finished"].n == found["repetition"].n == 1  # as many as are asked
    assert {"loss", GENERAL} == set(measurement.measure(model, answers=False))


def test_the_change_is_paired_and_forgetting_is_said(
    chat, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model with other weights: change is after less before, and a text that became less likely gives one line."""
    model, tokenizer = chat
    (tmp_path / "general.txt").write_text(f"{TEXT}\n\n" * 3)
    measurement = Measurement(
        settings(general_text=str(tmp_path / "general.txt"), max_eval_prompts=0), model, tokenizer, ROWS
    )
    broken = copy.deepcopy(model)
    with torch.no_grad():
        for weight in broken.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.3)
    before = measurement.measure(model)
    columns = measurement.compare(before, trainer_of(broken))
    assert list(columns) == ["before", "after", "change"] and columns["before"] is before
    for name in ("loss", GENERAL):
        difference = columns["after"][name].value - before[name].value
        assert difference > 0 and columns["change"][name].value == pytest.approx(difference)
    old, new = (f"{columns[when][GENERAL].value:.3f}" for when in ("before", "after"))
    assert shows(capsys.readouterr().out, old, new, "replay_shards")
    measurement.compare(measurement.measure(broken), trainer_of(model))
    assert "forgotten" not in capsys.readouterr().out


def test_calls_of_tools_are_not_asked_for(chat) -> None:
    """Nor questions whose answer has weight 0: a text is no answer to them, or the wrong one. What is learned is weighed."""
    call = {"type": "function", "function": {"name": "add", "arguments": "{}"}}
    called = {"role": "assistant", "content": "", "tool_calls": [call]}
    rows = [{**ROWS[0], "messages": [ROWS[0]["messages"][0], called]}]
    measurement = Measurement(settings(), *chat, rows)
    assert len(measurement.rows) == 1 and measurement.questions == []
    wrong = {"role": "assistant", "content": "It is 5.", "weight": 0}
    rows = [{**ROWS[0], "messages": [ROWS[0]["messages"][0], wrong, *ROWS[0]["messages"]]}]
    assert Measurement(settings(), *chat, rows).questions == []


def test_without_rows_and_text_nothing_is_measured(chat, capsys: pytest.CaptureFixture[str]) -> None:
    """One line says that forgetting is not seen."""
    model, tokenizer = chat
    measurement = Measurement(settings(), model, tokenizer, [])
    assert shows(capsys.readouterr().out, "general_text")
    assert measurement.compare(measurement.measure(model), trainer_of(model)) == {}


def test_the_general_text_must_be_readable(chat, tmp_path: Path) -> None:
    """An empty one and one that is not there, before anything is trained; shards that run.yaml names and are gone are none."""
    (tmp_path / "empty.txt").write_text("\n")
    with user_error("source_empty", tmp_path / "empty.txt"):
        Measurement(settings(general_text=str(tmp_path / "empty.txt")), *chat, ROWS)
    with user_error("file_not_found", file=tmp_path / "nowhere.txt"):
        Measurement(settings(general_text=str(tmp_path / "nowhere.txt")), *chat, ROWS)
    folder = Path(chat[0].name_or_path)
    (folder / "run.yaml").write_text(yaml.safe_dump({"shards": str(tmp_path / "gone")}))
    assert Measurement(settings(), *chat, ROWS).general_text is None


@pytest.mark.parametrize("listed", [False, True])
def test_the_held_out_shards_of_the_pretraining_are_the_general_text(
    listed: bool, data: dict[str, str], trained_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """Of a run on several folders, those of the first."""
    declared = [{"path": data["shards"]}, {"path": "gone", "from": 0.5}] if listed else data["shards"]
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({"shards": declared}))
    found = pretraining_shards(str(tmp_path), trained_tokenizer)
    assert found == str(Path(data["shards"]) / "validation")
