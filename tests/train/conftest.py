# SPDX-License-Identifier: Apache-2.0
"""Fixtures: a stage, run in this process as its command line would, and the stages after pretraining on a tiny model."""

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from scratch_gpt.data.shards.arguments import ShardsArguments, TokenizerArguments
from scratch_gpt.settings.parsing import parse
from scratch_gpt.training.posttrain import arguments as posttraining_arguments
from scratch_gpt.training.posttrain.seq2seq import Seq2SeqArguments
from scratch_gpt.training.pretrain.arguments import PretrainArguments
from scratch_gpt.training.rl.arguments import RLHFArguments
from stage_rows import write_rows


ARGUMENTS = {
    "tokenizer": TokenizerArguments,
    "shards": ShardsArguments,
    "pretrain": PretrainArguments,
    "sft": posttraining_arguments.SFTArguments,
    "seq2seq": Seq2SeqArguments,
    "reward": posttraining_arguments.RewardArguments,
    "dpo": posttraining_arguments.DPOArguments,
    "kto": posttraining_arguments.KTOArguments,
    "distill": posttraining_arguments.DistillArguments,
    "rlhf": RLHFArguments,
}


@pytest.fixture
def run() -> Callable[..., None]:
    """`run(stage, **settings)` calls the main of `train/STAGE.py`, which is no package, with the settings as options."""

    def run(stage: str, **settings: Any) -> None:
        path = Path(__file__).parents[2] / "train" / f"{stage}.py"
        spec = importlib.util.spec_from_file_location(f"stage_{stage}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        words = [
            word
            for name, value in settings.items()
            for word in (f"--{name}", value if isinstance(value, str) else json.dumps(value))
        ]
        module.main(parse(ARGUMENTS[stage], words))

    return run


SMALL: dict[str, Any] = {"logging_steps": 1, "warmup_steps": 1, "held_out_fraction": 0.2}


@pytest.fixture
def instruction_source(tmp_path: Path) -> list[dict[str, str]]:
    """40 short questions with answers, in a file."""
    rows = [{"question": f"What is {n} plus one?", "answer": f"It is {n + 1}."} for n in range(40)]
    return write_rows(tmp_path / "instructions.jsonl", rows)


@pytest.fixture
def preference_source(tmp_path: Path) -> list[dict[str, str]]:
    """40 pairs of two kinds, in a file."""
    rows = [
        {
            "prompt": f"What is {n} plus one?",
            "chosen": f"It is {n + 1}.",
            "rejected": "Go away.",
            "kind": ("rude", "wrong")[n % 2],
        }
        for n in range(40)
    ]
    source = write_rows(tmp_path / "preferences.jsonl", rows)
    return [{**source[0], "columns": {"kind": "kind"}}]


@pytest.fixture
def reward_folder(chat_folder: Path, tmp_path: Path) -> Path:
    """A reward model with the chat model's tokenizer, not trained."""
    folder = tmp_path / "reward"
    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_pretrained(chat_folder, num_labels=1)
    torch.nn.init.normal_(model.score.weight, std=1.0)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(chat_folder).save_pretrained(folder)
    return folder


@pytest.fixture
def sft(
    run: Callable[..., None], base_folder: Path, instruction_source: list[dict[str, str]]
) -> Callable[..., None]:
    settings = {
        "model_name_or_path": str(base_folder),
        "sources": instruction_source,
        "per_device_train_batch_size": 8,
        "max_eval_prompts": 0,
    }
    return lambda **more: run("sft", **{**settings, **SMALL, "eval_strategy": "epoch", **more})


def on_pairs(
    stage: str, run: Callable[..., None], folder: Path, source: list[dict[str, str]], **own: Any
) -> Callable[..., None]:
    """A stage that learns from preference pairs."""
    settings = {"model_name_or_path": str(folder), "sources": source, "per_device_train_batch_size": 8}
    return lambda **more: run(stage, **{**settings, **own, **SMALL, "eval_strategy": "epoch", **more})


@pytest.fixture
def reward(
    run: Callable[..., None], chat_folder: Path, preference_source: list[dict[str, str]]
) -> Callable[..., None]:
    return on_pairs("reward", run, chat_folder, preference_source)


@pytest.fixture
def dpo(
    run: Callable[..., None], chat_folder: Path, preference_source: list[dict[str, str]]
) -> Callable[..., None]:
    return on_pairs("dpo", run, chat_folder, preference_source, learning_rate=1e-3, max_eval_prompts=0)


@pytest.fixture
def kto(
    run: Callable[..., None], chat_folder: Path, preference_source: list[dict[str, str]]
) -> Callable[..., None]:
    return on_pairs("kto", run, chat_folder, preference_source, learning_rate=1e-3, max_eval_prompts=0)


@pytest.fixture
def teacher_folder(chat_folder: Path, tmp_path: Path) -> Path:
    """A chat model with the student's tokenizer and weights, which are a little off."""
    folder = tmp_path / "teacher"
    shutil.copytree(chat_folder, folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.02)
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def distill(
    run: Callable[..., None],
    chat_folder: Path,
    teacher_folder: Path,
    instruction_source: list[dict[str, str]],
) -> Callable[..., None]:
    settings = {
        "model_name_or_path": str(chat_folder),
        "teacher_model_name_or_path": str(teacher_folder),
        "sources": instruction_source,
        "per_device_train_batch_size": 8,
        "max_completion_length": 6,
        "max_eval_prompts": 6,
        "learning_rate": 3e-3,
        "eval_strategy": "no",
    }
    return lambda **more: run("distill", **{**settings, **SMALL, **more})


@pytest.fixture
def rlhf(run: Callable[..., None], chat_folder: Path, reward_folder: Path) -> Callable[..., None]:
    settings = {
        "model_name_or_path": str(chat_folder),
        "reward_model": str(reward_folder),
        "sources": [{"name": "primer", "path": "primer"}],
        "per_device_train_batch_size": 8,
        "num_generations": 4,
        "max_completion_length": 6,
        "max_eval_prompts": 6,
        "mask_truncated_completions": "false",  # an untrained model hardly ever finishes
        "eval_steps": 2,
    }
    return lambda **more: run("rlhf", **{**settings, **SMALL, **more})
