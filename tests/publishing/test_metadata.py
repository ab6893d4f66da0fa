# SPDX-License-Identifier: Apache-2.0
"""The head of the card: what the user says, what the records say, and nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from scratch_gpt.publishing import PublishArguments, ask_for_unknown, write_card
from scratch_gpt.publishing.metadata import Metadata, hub_datasets
from wording import user_error


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("language", ["english"]),
        ("language", [False]),
        ("datasets", ["a/b/c"]),
        ("base_model", "no name"),
        ("base_model_relation", "child"),
    ],
)
def test_what_the_hub_refuses_is_refused_here(setting: str, value: Any) -> None:
    """In the settings already, before anything is written."""
    shown = value[0] if isinstance(value, list) else value
    with user_error("wrong_value", setting=setting, value=shown):
        PublishArguments("model", **{setting: value})


def test_the_head_has_what_the_user_says(chat_folder: Path) -> None:
    """As the Hub's own reader finds it; a model without records makes no claim about its relation."""
    said = Metadata(["en", "pt-BR"], ["owner/rows"], "Qwen/Qwen3-0.6B", "finetune")
    data = ModelCard.load(write_card(chat_folder, metadata=said)).data
    assert (data.language, data.datasets) == (["en", "pt-BR"], ["owner/rows"])
    assert (data.base_model, data.base_model_relation) == ("Qwen/Qwen3-0.6B", "finetune")
    bare = ModelCard.load(write_card(chat_folder)).data.to_dict()
    assert not {"language", "datasets", "base_model", "base_model_relation"} & set(bare)
    with user_error("setting_missing", setting="base_model"):
        write_card(chat_folder, metadata=Metadata(base_model_relation="merge"))


@pytest.mark.parametrize(("name", "expected"), [("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B"), ("my_copy", None)])
def test_a_folder_is_no_base_model(chat_folder: Path, name: str, expected: str | None) -> None:
    """Of an origin only a name on the Hub goes into the head."""
    origin = {"name": name, "revision": None, "weights_sha256": "0"}
    (chat_folder / "provenance.json").write_text(json.dumps({"origin": origin, "stages": []}))
    data = ModelCard.load(write_card(chat_folder)).data
    assert data.base_model == expected
    assert "base_model_relation" not in data.to_dict()


def test_only_data_sets_of_the_hub_are_named(tmp_path: Path, monkeypatch) -> None:
    """Neither files and folders of this machine, present or gone, nor the embedded corpus; each once."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "wiki").mkdir(parents=True)
    paths = [
        "HuggingFaceFW/fineweb-edu",
        "data/wiki",
        "data/gone.jsonl",
        "primer",
        "HuggingFaceFW/fineweb-edu",
    ]
    records = [{"data": {"sources": [{"path": path}]}} for path in paths]
    assert hub_datasets(records) == ["HuggingFaceFW/fineweb-edu"]


def test_the_unknown_is_asked_for_at_a_terminal_alone(chat_folder: Path, monkeypatch) -> None:
    """What is given is not asked for again, and an answer is checked like a setting."""
    arguments = PublishArguments(str(chat_folder), license="mit")
    assert ask_for_unknown(arguments) == arguments
    asked = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda text: asked.append(text) or "en de")
    assert ask_for_unknown(arguments).language == ["en", "de"]
    assert len(asked) == 1
    monkeypatch.setattr("builtins.input", lambda text: "English")
    with user_error("wrong_value", setting="language", value="English"):
        ask_for_unknown(arguments)
