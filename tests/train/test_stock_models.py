# SPDX-License-Identifier: Apache-2.0
"""Folders with the layouts of published models go through every stage as they are, without an import."""

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from scratch_gpt.inference.turns import plain_template
from scratch_gpt.publishing import PublishArguments, run_publish
from scratch_gpt.runs.log import RunLog
from scratch_gpt.serving.chat import ChatSession, StreamingModel
from scratch_gpt.settings.parsing import parse
from scratch_gpt.tokenization import IM_END
from stock_folders import LAYOUTS, stock_tokenizer, write_stock_folder


ROOT = Path(__file__).parents[2]
FAST = ("llama3.2", "gpt2")
ONE_STEP: dict[str, Any] = {"max_steps": 1, "logging_steps": 1, "held_out_fraction": 0.2}
BENCHMARKS = {
    "qa": ("QAArguments", ["--tasks", "facts", "choices"]),
    "translation": ("TranslationArguments", []),
    "generation": ("GenerationArguments", []),
    "alignment": ("AlignmentArguments", []),
}


def layouts(*chosen: str) -> Any:
    """Parametrize over layouts; all but the fast ones are slow."""
    names = chosen or tuple(LAYOUTS)
    return pytest.mark.parametrize(
        "layout", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in names]
    )


def write_rows(path: Path, rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return [{"name": "mine", "path": str(path)}]


@pytest.fixture
def questions(tmp_path: Path) -> list[dict[str, str]]:
    rows = [{"question": f"What is {n} plus one?", "answer": f"It is {n + 1}."} for n in range(20)]
    return write_rows(tmp_path / "questions.jsonl", rows)


@pytest.fixture
def pairs(tmp_path: Path) -> list[dict[str, str]]:
    rows = [
        {"prompt": f"What is {n} plus one?", "chosen": f"It is {n + 1}.", "rejected": "Go away."}
        for n in range(20)
    ]
    return write_rows(tmp_path / "pairs.jsonl", rows)


def benchmark(name: str, folder: Path, *more: str) -> None:
    """A benchmark of `eval/` on a few items."""
    arguments, words = BENCHMARKS[name]
    spec = importlib.util.spec_from_file_location(f"stock_{name}", ROOT / "eval" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    limits = ["--limit", "2", "--max_new_tokens", "3"]
    module.main(parse(getattr(module, arguments), ["--model", str(folder), *words, *limits, *more]))


@layouts()
def test_every_stage_takes_the_folder(
    layout: str,
    run: Callable[..., None],
    questions: list[dict[str, str]],
    pairs: list[dict[str, str]],
    tmp_path: Path,
) -> None:
    """sft, dpo, reward and rlhf take one step each; what they write chats, answers requests, is measured and published."""
    stock, chat = str(write_stock_folder(layout, tmp_path / "stock")), str(tmp_path / "chat")
    run("sft", model_name_or_path=stock, sources=questions, output_dir=chat, **ONE_STEP)
    start = {"model_name_or_path": stock if LAYOUTS[layout].template else chat}
    run("dpo", sources=pairs, output_dir=str(tmp_path / "dpo"), **start, **ONE_STEP)
    run("reward", sources=pairs, output_dir=str(tmp_path / "reward"), **start, **ONE_STEP)
    run(
        "rlhf",
        sources=questions,
        reward_model=str(tmp_path / "reward"),
        output_dir=str(tmp_path / "rlhf"),
        per_device_train_batch_size=2,
        num_generations=2,
        max_completion_length=3,
        max_eval_prompts=2,
        **start,
        **ONE_STEP,
    )
    for stage in ("chat", "dpo", "rlhf"):
        model = AutoModelForCausalLM.from_pretrained(tmp_path / stage)
        assert type(model).__name__ == LAYOUTS[layout].architecture
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / stage)
        assert tokenizer.pad_token_id == model.config.pad_token_id != tokenizer.eos_token_id
        assert tokenizer.eos_token_id in [model.generation_config.eos_token_id, *_listed(model)]
        if LAYOUTS[layout].template:
            assert plain_template(tokenizer).strip() == stock_tokenizer(layout).chat_template.strip()
        assert RunLog(tmp_path / stage / "log.jsonl").rows()
    session = ChatSession(StreamingModel.load(str(tmp_path / "rlhf")))
    "".join(session.ask("Who are you?"))
    assert session.speaker.num_said


def _listed(model: Any) -> list[int]:
    stops = model.generation_config.eos_token_id
    return stops if isinstance(stops, list) else [stops]
