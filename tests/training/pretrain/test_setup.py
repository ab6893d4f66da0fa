# SPDX-License-Identifier: Apache-2.0
"""What a run begins with: shards, model and setting that fit each other."""

import json
import shutil

import pytest

from scratch_gpt.tokenization import load_tokenizer
from scratch_gpt.training.pretrain.setup import build_config, open_shards, select_precision_and_threads
from wording import user_error


MODEL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"vocab_size": 100}, user_error("vocab_size_too_small", vocab_size=100, needed=512)),
        (
            {"max_position_embeddings": 32},
            user_error("context_too_short", "sequence_length 64", max_position_embeddings=32),
        ),
    ],
)
def test_a_model_that_does_not_fit_is_refused(trained_tokenizer, changes, expected) -> None:
    """Fewer ids than the tokenizer has, or fewer positions than a block."""
    with expected:
        build_config("causal", {**MODEL, **changes}, trained_tokenizer, 64)


def test_shards_of_another_tokenizer_are_refused(data, trained_tokenizer, tmp_path) -> None:
    """The manifest's hash tells."""
    trained_tokenizer.save_pretrained(tmp_path)
    text = (tmp_path / "tokenizer.json").read_text()
    (tmp_path / "tokenizer.json").write_text(
        text.replace('"<|reserved', '"<|renamed').replace("{1,2}", "{1,3}")
    )
    with user_error("another_tokenizer", tmp_path):
        open_shards(data["shards"], load_tokenizer(str(tmp_path)))


def test_two_block_lengths_are_refused(data, tmp_path) -> None:
    """A validation side that was written with another sequence_length."""
    shards = tmp_path / "shards"
    shutil.copytree(data["shards"], shards)
    path = shards / "validation" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["sequence_length"], manifest["blocks"] = 32, manifest["blocks"] * 2
    path.write_text(json.dumps(manifest))
    with user_error("block_lengths_differ", shards, lengths=[64, 32]):
        open_shards(str(shards), load_tokenizer(data["tokenizer"]))


def test_fp16_needs_a_gpu(monkeypatch) -> None:
    """Said before anything is built on it."""
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    with user_error("gpu_missing", "fp16"):
        select_precision_and_threads("fp16", None)
