# SPDX-License-Identifier: Apache-2.0
"""The folder of a Hub Space."""

from pathlib import Path

import pytest

from scratch_gpt.serving.space import write_space


def test_a_space_has_what_the_page_shows_and_nothing_of_the_training(
    chat_folder: Path, tmp_path: Path
) -> None:
    """Weights, tokenizer, card and results go along; logs, items and states stay."""
    pytest.importorskip("gradio", reason="needs the packages of scratch-gpt[web]")
    (chat_folder / "results").mkdir()
    for name in ("README.md", "log.jsonl", "training_state", "results/qa.json", "results/qa.items.jsonl"):
        (chat_folder / name).write_text('{"model": "/home/somebody/runs/chat"}')
    write_space([str(chat_folder)], str(tmp_path / "space"))
    model = tmp_path / "space" / "models" / "chat"
    files = {path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file()}
    assert {"README.md", "results/qa.json", "config.json", "model.safetensors", "tokenizer.json"} <= files
    assert {"log.jsonl", "training_state", "results/qa.items.jsonl"}.isdisjoint(files)
    assert (tmp_path / "space/scratch_gpt/serving/web/page.py").is_file()
    for name in ("README.md", "results/qa.json"):
        assert (model / name).read_text() == '{"model": "chat"}'  # no path of this machine
