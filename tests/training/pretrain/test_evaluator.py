# SPDX-License-Identifier: Apache-2.0
"""Bits per byte against a plain loop over the documents."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from scratch_gpt.data.shards.blocks import PackedBlocks
from scratch_gpt.tokenization import token_byte_lengths
from scratch_gpt.training.pretrain.evaluator import Evaluator
from scratch_gpt.training.pretrain.objectives import CausalObjective


@pytest.fixture
def causal(trained_tokenizer) -> CausalObjective:
    """The objective whose figure is bits per byte."""
    return CausalObjective(trained_tokenizer, 64, seed=0, attn_implementation="sdpa")


def plain_bits_per_byte(model, tokenizer, blocks) -> float:
    """Sum of -log2 p over the predicted tokens of separate documents, over their bytes."""
    lengths = token_byte_lengths(tokenizer)
    bits = num_bytes = 0.0
    for block in blocks:
        documents = np.split(block, np.flatnonzero(block == tokenizer.eos_token_id) + 1)
        for document in documents:
            document = document[document != tokenizer.pad_token_id]
            if len(document) < 2:
                continue
            with torch.no_grad():
                log_probs = model(torch.tensor(document)[None]).logits[0].log_softmax(-1)
            for position, token in enumerate(document[1:]):
                bits -= log_probs[position, token].item() / math.log(2)
                num_bytes += lengths[token]
    return bits / num_bytes


def test_bits_per_byte_equal_a_plain_loop(data, tiny_model, trained_tokenizer, causal) -> None:
    """Of four blocks, evenly spaced, in batches that do not divide them."""
    blocks = PackedBlocks(Path(data["shards"]) / "validation")
    some = [blocks[index * len(blocks) // 4] for index in range(4)]
    metrics = Evaluator(blocks, causal, batch_size=3, max_blocks=4).measure(Accelerator(cpu=True), tiny_model)
    assert set(metrics) == {"eval_loss", "eval_bits_per_byte"}
    assert metrics["eval_bits_per_byte"] == pytest.approx(
        plain_bits_per_byte(tiny_model, trained_tokenizer, some), rel=1e-4
    )
    assert tiny_model.training


def test_sources_with_blocks_of_their_own_are_measured_each(
    data, tiny_model, trained_tokenizer, causal, tmp_path
) -> None:
    """The manifest says which blocks are whose; an empty range has no figure."""
    folder = tmp_path / "validation"
    shutil.copytree(Path(data["shards"]) / "validation", folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    count = manifest["blocks"]
    ranges = {"web": [0, 3], "none": [3, 3], "book": [3, count]}
    manifest["sources"] = [{"name": name, "block_range": blocks} for name, blocks in ranges.items()]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    blocks = PackedBlocks(folder)
    metrics = Evaluator(blocks, causal, 4, 1000).measure(Accelerator(cpu=True), tiny_model)
    for name, chosen in (("web", range(3)), ("book", range(3, count))):
        assert metrics[f"eval_bits_per_byte_{name}"] == pytest.approx(
            plain_bits_per_byte(tiny_model, trained_tokenizer, [blocks[index] for index in chosen]), rel=1e-4
        )
    assert "eval_bits_per_byte_none" not in metrics


def test_large_logits_shrink_the_batch(data, causal, monkeypatch) -> None:
    """One block's logits are 64 x 512 float32, 128 KiB."""
    blocks = PackedBlocks(Path(data["shards"]) / "validation")
    monkeypatch.setattr("scratch_gpt.training.pretrain.evaluator.PLAIN_LOGITS_BYTES", 300 << 10)
    assert Evaluator(blocks, causal, 16, 100).batch_size == 2
