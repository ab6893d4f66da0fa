# SPDX-License-Identifier: Apache-2.0
"""What is no model's folder: one line that says what it is and what to do."""

import json
from pathlib import Path
from typing import Any

import pytest

from scratch_gpt.inference.loading import check_folder, load_model
from stock_folders import stock_tokenizer, write_stock_folder
from wording import user_error


def test_what_is_no_model_is_told_apart(tmp_path: Path, monkeypatch) -> None:
    """An adapter, a GGUF file and a folder of one, a name on the Hub, a folder that is not there."""
    adapter, gguf = tmp_path / "adapter", tmp_path / "gguf"
    adapter.mkdir()
    gguf.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "Qwen/Qwen3-0.6B"}))
    (gguf / "model-Q4.gguf").touch()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    with user_error("adapter_folder", "Qwen/Qwen3-0.6B", "merge_and_unload", folder=adapter):
        check_folder(adapter)
    for path in (gguf, gguf / "model-Q4.gguf"):
        with user_error("gguf_file", "safetensors", folder=path):
            check_folder(path)
    with user_error("no_model", "hf download meta-llama/Llama-3.2-1B --local-dir", "hf auth login"):
        check_folder("meta-llama/Llama-3.2-1B")
    with user_error("no_model", folder="runs/chat") as caught:
        check_folder("runs/chat")
    assert "hf download" not in str(caught.value)


def folder_of(config: dict[str, Any], folder: Path) -> Path:
    """A folder with a tokenizer and this configuration, without weights."""
    stock_tokenizer("qwen2.5").save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_quantized_weights_are_named(method: str, tmp_path: Path) -> None:
    """Their packages are not there: one line that says how they are quantized, and asks for the model before that."""
    folder = write_stock_folder("qwen2.5", tmp_path / "quantized")
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": method, "bits": 4, "group_size": 128, "zero_point": True}
    (folder / "config.json").write_text(json.dumps(config))
    with user_error("quantized_model", method, folder=folder):
        load_model(folder)


@pytest.mark.parametrize("allow", [False, True])
def test_a_model_that_sees_is_told_apart_from_an_encoder_decoder(allow: bool, tmp_path: Path) -> None:
    """Gemma 3 of 4B: both are called ForConditionalGeneration."""
    kinds = ["Gemma3ForConditionalGeneration"]
    folder = folder_of({"model_type": "gemma3", "architectures": kinds, "text_config": {}}, tmp_path)
    with user_error("wrong_model", "gemma-3-1b-it", found=kinds):
        load_model(folder, allow_encoder_decoder=allow)


def test_pickles_are_to_be_converted(tmp_path: Path) -> None:
    """A folder of pytorch_model.bin alone, whole or in parts."""
    folder = folder_of({"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}, tmp_path)
    (folder / "pytorch_model-00001-of-00002.bin").touch()
    with user_error("pickled_weights", "save_pretrained", folder=folder):
        load_model(folder)


def test_code_of_a_model_is_not_run(tmp_path: Path, monkeypatch) -> None:
    """Nor is anybody asked whether it should."""
    config = {"model_type": "minicpm_x", "architectures": ["XForCausalLM"], "auto_map": {"AutoConfig": "x.Y"}}
    folder = folder_of(config, tmp_path)
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    with user_error("custom_code", "auto_map", folder=folder):
        load_model(folder)
