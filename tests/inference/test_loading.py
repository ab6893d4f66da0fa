# SPDX-License-Identifier: Apache-2.0
"""What is no model's folder: one line that says what it is and what to do."""

import json
from pathlib import Path

from scratch_gpt.inference.loading import check_folder
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
