# SPDX-License-Identifier: Apache-2.0
"""What the pretraining tests share: small shards, a stage to run on them, and what a run logged."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from scratch_gpt.data.shards.arguments import ShardsArguments
from scratch_gpt.data.shards.writing import write_shards
from scratch_gpt.training.pretrain.arguments import PretrainArguments
from scratch_gpt.training.pretrain.objectives import OBJECTIVES
from scratch_gpt.training.pretrain.setup import build_config, build_model


STAGE = Path(__file__).parents[2] / "train" / "pretrain.py"

SETTINGS = {
    "model_config": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "attention_dropout": 0.1,
    },
    "max_steps": 6,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "learning_rate": 7e-3,
    "warmup_steps": 2,
    "logging_steps": 1,
    "eval_steps": 3,
    "save_steps": 2,
    "num_threads": 1,
    "mixed_precision": "no",
    "sample_prompts": ["The"],
}


@pytest.fixture(scope="session")
def data(trained_tokenizer, tmp_path_factory) -> dict[str, str]:
    """Folders of a tokenizer and of small shards of the primer; never changed."""
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


@pytest.fixture(scope="session")
def stage():
    """The module of `train/pretrain.py`, which is no package."""
    spec = importlib.util.spec_from_file_location("pretrain", STAGE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def arguments_for(data):
    """Arguments of a short run into a folder, with changes."""

    def make(output_dir, **changes) -> PretrainArguments:
        return PretrainArguments(**{**data, "output_dir": str(output_dir), **SETTINGS, **changes})

    return make


@pytest.fixture
def fresh(trained_tokenizer):
    """`fresh(objective, model_config, attention)`: the objective on blocks of 64 tokens, and a new model for it."""

    def make(objective: str, model_config: dict, attention: str = "sdpa", **settings):
        config = build_config(objective, model_config, trained_tokenizer, 64)
        model = build_model(config, objective, attn_implementation=attention, batch_tokens=8 * 64)
        settings = {"seed": 0, "attn_implementation": attention, **settings}
        return OBJECTIVES[objective](trained_tokenizer, 64, **settings), model

    return make


def varlen_by_mask(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale, window_size, enable_gqa):
    """torch's `varlen_attn` with a mask; (tokens, heads, E). Causal is a window that looks at nothing behind."""
    place = torch.arange(len(query))
    document = torch.bucketize(place, cu_seq_q, right=True)
    mask = document[:, None] == document
    if window_size == (-1, 0):
        mask &= place[:, None] >= place
    heads = (tensor.transpose(0, 1)[None] for tensor in (query, key, value))
    output = torch.nn.functional.scaled_dot_product_attention(
        *heads, mask, scale=scale, enable_gqa=enable_gqa
    )
    return output[0].transpose(0, 1)


@pytest.fixture
def varlen_kernel(monkeypatch) -> None:
    """Stands in for torch's kernel, which a CPU does not have."""
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", varlen_by_mask)


@pytest.fixture(scope="session")
def start(data):
    """Start the stage as a program in one process, or with torchrun in several."""

    def popen(output_dir, num_processes=1, script=STAGE, **changes) -> subprocess.Popen:
        config = Path(f"{output_dir}.yaml")
        config.write_text(yaml.safe_dump({**data, **SETTINGS, **changes, "output_dir": str(output_dir)}))
        torchrun = ["-m", "torch.distributed.run", "--nproc_per_node", str(num_processes)]
        torchrun += ["--rdzv_backend", "c10d", "--rdzv_endpoint", "localhost:0"]
        # sharding needs a process group, of one process too
        launcher = torchrun if num_processes > 1 or script != STAGE else []
        return subprocess.Popen(
            [sys.executable, *launcher, str(script), "--config", str(config)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return popen
