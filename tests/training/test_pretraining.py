# SPDX-License-Identifier: Apache-2.0
"""The loop: same bits after an interruption, same step whatever the micro-batches, and a model that learns."""

import importlib.util
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from transformers import AutoModelForCausalLM

from scratch_gpt.data.shards import PackedBlocks, write_shards
from scratch_gpt.errors import UserError
from scratch_gpt.tokenization import token_byte_lengths
from scratch_gpt.training.arguments import PretrainArguments, ShardsArguments
from scratch_gpt.training.setup import build_model
from scratch_gpt.training.telemetry import RunLog
from scratch_gpt.training.validation import Validation


spec = importlib.util.spec_from_file_location("pretrain", Path(__file__).parents[2] / "train" / "pretrain.py")
pretrain = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pretrain)

MODEL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "attention_dropout": 0.1}


@pytest.fixture(scope="module")
def data(trained_tokenizer, tmp_path_factory) -> dict[str, str]:
    """Folders of a tokenizer and of small shards of the primer."""
    folder = tmp_path_factory.mktemp("data")
    trained_tokenizer.save_pretrained(folder / "tokenizer")
    write_shards(
        ShardsArguments(
            sources=[{"name": "primer", "path": "primer"}],
            tokenizer=str(folder / "tokenizer"),
            output_dir=str(folder / "shards"),
            sequence_length=64,
            max_tokens=30_000,
            validation_fraction=0.05,
        )
    )
    return {"tokenizer": str(folder / "tokenizer"), "shards": str(folder / "shards")}


def arguments_for(data, output_dir, **changes) -> PretrainArguments:
    settings = {
        "model_config": MODEL,
        "max_steps": 6,
        "per_device_train_batch_size": 8,
        "warmup_steps": 2,
        "logging_steps": 1,
        "eval_steps": 3,
        "save_steps": 2,
        "num_threads": 1,
        "mixed_precision": "no",
        "sample_prompts": ["The"],
    }
    return PretrainArguments(**data, output_dir=str(output_dir), **{**settings, **changes})


def losses(output_dir) -> list[tuple[int, float]]:
    return [(row["step"], row["loss"]) for row in RunLog(output_dir / "log.jsonl").rows() if "loss" in row]


def test_resumed_run_equals_the_uninterrupted_one_bit_for_bit(data, tmp_path) -> None:
    """With dropout, from a checkpoint in the middle: same losses, same weights, each step logged once."""
    pretrain.main(arguments_for(data, tmp_path / "straight"))
    shutil.copytree(tmp_path / "straight", tmp_path / "resumed")
    for name in ("model.safetensors", "run.yaml"):
        (tmp_path / "resumed" / name).unlink()
    shutil.rmtree(tmp_path / "resumed" / "checkpoint-4")
    pretrain.main(arguments_for(data, tmp_path / "resumed", resume_from_checkpoint="latest"))
    assert [step for step, _ in losses(tmp_path / "resumed")] == [1, 2, 3, 4, 5, 6]
    assert losses(tmp_path / "resumed") == losses(tmp_path / "straight")
    straight, resumed = (
        AutoModelForCausalLM.from_pretrained(tmp_path / name).state_dict() for name in ("straight", "resumed")
    )
    for name, tensor in straight.items():
        assert torch.equal(tensor, resumed[name]), name


def test_micro_batches_do_not_change_the_step(data, tmp_path) -> None:
    """8 blocks at once, or 4 times 2: the same losses and gradient norms within float32 rounding."""
    model = {**MODEL, "attention_dropout": 0.0}
    pretrain.main(arguments_for(data, tmp_path / "whole", model_config=model))
    pretrain.main(
        arguments_for(
            data,
            tmp_path / "parts",
            model_config=model,
            per_device_train_batch_size=2,
            gradient_accumulation_steps=4,
        )
    )
    for whole, parts in zip(
        *(RunLog(tmp_path / n / "log.jsonl").rows() for n in ("whole", "parts")), strict=True
    ):
        for name in ("loss", "grad_norm", "eval_loss"):
            if name in whole:
                assert whole[name] == pytest.approx(parts[name], rel=1e-4)


def test_it_learns_and_leaves_a_complete_folder(data, tmp_path) -> None:
    """Every weight moves, the loss falls well below a uniform guess, and the contract's files and keys are there."""
    arguments = arguments_for(data, tmp_path / "base", max_steps=40, save_steps=30, learning_rate=1e-2)
    pretrain.main(arguments)
    rows = RunLog(tmp_path / "base" / "log.jsonl").rows()
    training = [row for row in rows if "loss" in row]
    assert set(training[0]) == {
        "step",
        "tokens",
        "loss",
        "learning_rate",
        "grad_norm",
        "tokens_per_second",
        "elapsed_seconds",
        "skipped_steps",
        "token_hash",
    }
    assert training[0]["loss"] == pytest.approx(math.log(512), abs=0.3)
    assert training[-1]["loss"] < training[0]["loss"] - 1.0
    evaluations = [row for row in rows if "eval_loss" in row]
    assert set(evaluations[0]) == {"step", "elapsed_seconds", "eval_loss", "eval_bits_per_byte"}
    names = {path.name for path in (tmp_path / "base").iterdir()}
    assert {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "modeling_scratch_gpt.py",
        "configuration_scratch_gpt.py",
        "tokenizer.json",
        "chat_template.jinja",
        "run.yaml",
        "log.jsonl",
        "checkpoint-30",
    } <= names
    early = AutoModelForCausalLM.from_pretrained(tmp_path / "base" / "checkpoint-30").state_dict()
    for name, tensor in AutoModelForCausalLM.from_pretrained(tmp_path / "base").state_dict().items():
        assert not torch.equal(tensor, early[name]), f"{name} did not change"
    samples = [json.loads(line) for line in (tmp_path / "base" / "samples.jsonl").read_text().splitlines()]
    assert samples[0]["step"] == 3
    assert samples[0]["text"].startswith("The")


def test_bits_per_byte_equal_a_plain_loop(data, tiny_model, trained_tokenizer) -> None:
    """Sum of -log2 p over the predicted tokens of separate documents, over their bytes."""
    blocks = PackedBlocks(Path(data["shards"]) / "validation")
    some = [blocks[index * len(blocks) // 4] for index in range(4)]
    lengths = token_byte_lengths(trained_tokenizer)
    bits = num_bytes = 0.0
    for block in some:
        documents = np.split(block, np.flatnonzero(block == trained_tokenizer.eos_token_id) + 1)
        for document in documents:
            document = document[document != trained_tokenizer.pad_token_id]
            if len(document) < 2:
                continue
            with torch.no_grad():
                log_probs = tiny_model(torch.tensor(document)[None]).logits[0].log_softmax(-1)
            for position, token in enumerate(document[1:]):
                bits -= log_probs[position, token].item() / math.log(2)
                num_bytes += lengths[token]
    metrics = Validation(blocks, trained_tokenizer, batch_size=3, max_blocks=4).measure(
        Accelerator(cpu=True), tiny_model
    )
    assert metrics["eval_bits_per_byte"] == pytest.approx(bits / num_bytes, rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_config": {**MODEL, "vocab_size": 100}}, "vocab_size 100 is smaller"),
        ({"model_config": {**MODEL, "max_position_embeddings": 32}}, "max_position_embeddings 32 is shorter"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(data, trained_tokenizer, tmp_path, changes, message) -> None:
    """Fewer ids than the tokenizer has, or fewer positions than a block."""
    with pytest.raises(UserError, match=message):
        build_model(arguments_for(data, tmp_path, **changes), trained_tokenizer, 64)


def test_resuming_from_what_is_no_checkpoint_is_refused(data, tmp_path) -> None:
    """A folder that is not there; a model without training state."""
    with pytest.raises(UserError, match="no folder"):
        pretrain.main(arguments_for(data, tmp_path / "a", resume_from_checkpoint=str(tmp_path / "none")))
    (tmp_path / "model").mkdir()
    with pytest.raises(UserError, match=r"manifest.json"):
        pretrain.main(arguments_for(data, tmp_path / "b", resume_from_checkpoint=str(tmp_path / "model")))


def test_shards_of_another_tokenizer_are_refused(data, trained_tokenizer, tmp_path) -> None:
    """The manifest's hash tells."""
    other = tmp_path / "other"
    trained_tokenizer.save_pretrained(other)
    text = (other / "tokenizer.json").read_text()
    (other / "tokenizer.json").write_text(text.replace('"<|reserved', '"<|renamed').replace("{1,2}", "{1,3}"))
    with pytest.raises(UserError, match="another tokenizer"):
        pretrain.main(arguments_for({**data, "tokenizer": str(other)}, tmp_path / "c"))
