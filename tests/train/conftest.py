# SPDX-License-Identifier: Apache-2.0
"""Fixture: a stage, run in this process as its command line would."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scratch_gpt.data.shards.arguments import ShardsArguments, TokenizerArguments
from scratch_gpt.settings.parsing import parse
from scratch_gpt.training.posttrain import arguments as posttraining_arguments
from scratch_gpt.training.posttrain.seq2seq import Seq2SeqArguments
from scratch_gpt.training.pretrain.arguments import PretrainArguments
from scratch_gpt.training.rl.arguments import RLHFArguments


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
