# SPDX-License-Identifier: Apache-2.0
"""The commands of docs/how-to/encoders.md, in the order of the page, on tiny settings."""

import importlib.util
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import torch

from scratch_gpt import cli
from scratch_gpt.data.shards.arguments import ShardsArguments
from scratch_gpt.data.shards.writing import write_shards
from scratch_gpt.settings.parsing import parse
from scratch_gpt.training.posttrain.seq2seq import Seq2SeqArguments
from scratch_gpt.training.pretrain.arguments import PretrainArguments


ROOT = Path(__file__).parents[2]
ARGUMENTS = {"pretrain": PretrainArguments, "seq2seq": Seq2SeqArguments}
TINY = {
    "pretrain": "--max_steps 2 --num_threads 1 --mixed_precision no --eval_steps 2 --max_eval_blocks 4",
    "seq2seq": "--max_steps 2 --num_threads 1 --eval_strategy no",
    "translation": "--limit 4 --max_new_tokens 4",
    "qa": "--limit 2 --max_new_tokens 4",
    "masked": "--max_blocks 2 --pseudo_blocks 1",
    "architectures": "--seconds 0.2 --seeds 0 --num_threads 1 --vocab_size 512 --max_new_tokens 4",
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_commands_run_as_printed(trained_tokenizer, tmp_path, monkeypatch) -> None:
    """Each command of the page, with tiny settings behind it; those on files of the user's alone are left out."""
    for folder in ("train/configs", "eval"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    trained_tokenizer.save_pretrained("runs/demo/tokenizer")
    write_shards(
        ShardsArguments(
            sources=[{"name": "primer", "path": "primer"}],
            tokenizer="runs/demo/tokenizer",
            output_dir="runs/demo/shards",
            sequence_length=64,
            max_tokens=30_000,
            validation_fraction=0.05,
        )
    )
    page = (ROOT / "docs" / "how-to" / "encoders.md").read_text(encoding="utf-8").replace("\\\n", " ")
    commands = [
        line
        for block in re.findall(r"^```\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
        for line in block.splitlines()
    ]
    ran = []
    for command in commands:
        words = shlex.split(command)
        files = {**cli.STAGES, **cli.BENCHMARKS}
        script = ROOT / (words[2] if words[0] == "accelerate" else files[words[1]][0])
        words = words[3 if words[0] == "accelerate" else 2 :]
        if "runs/encoder" in command or "train/configs/encoder" in command:
            continue
        if script.stem == "architectures" and "--sources" not in words:
            continue
        spec = importlib.util.spec_from_file_location(f"page_{script.stem}", script)
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        arguments_class = ARGUMENTS.get(script.stem) or next(
            getattr(module, name) for name in vars(module) if name.lower() == f"{script.stem}arguments"
        )
        module.main(parse(arguments_class, [*words, *TINY[script.stem].split()]))
        ran.append(script.stem)
    torch.set_num_threads(1)
    assert ran == [
        *("pretrain", "pretrain", "masked", "pretrain", "masked"),
        *("seq2seq", "translation", "qa", "architectures"),
    ]
