# SPDX-License-Identifier: Apache-2.0
"""Folders with the layouts of published models go through every stage as they are, without an import."""

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from scratch_gpt.inference.turns import plain_template
from scratch_gpt.publishing import PublishArguments, run_publish
from scratch_gpt.report.page import write_report
from scratch_gpt.runs.log import RunLog
from scratch_gpt.serving.chat import ChatSession, StreamingModel
from scratch_gpt.settings.parsing import parse
from stock_folders import LAYOUTS, stock_tokenizer, write_stock_folder


ROOT = Path(__file__).parents[2]
FAST = ("llama3.2", "gpt2")
ONE_STEP: dict[str, Any] = {"max_steps": 1, "logging_steps": 1, "held_out_fraction": 0.2}
BENCHMARKS = {
    "qa": "QAArguments",
    "translation": "TranslationArguments",
    "generation": "GenerationArguments",
    "alignment": "AlignmentArguments",
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


def benchmark(name: str, folder: Path, sources: list[dict[str, Any]], *more: str) -> None:
    """A benchmark of `eval/` on two items."""
    spec = importlib.util.spec_from_file_location(f"stock_{name}", ROOT / "eval" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    words = ["--sources", json.dumps(sources), "--limit", "2", "--max_new_tokens", "3"]
    module.main(parse(getattr(module, BENCHMARKS[name]), ["--model", str(folder), *words, *more]))


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
    reward = str(tmp_path / "reward")
    start = {"model_name_or_path": stock if LAYOUTS[layout].template else chat}
    run("dpo", sources=pairs, output_dir=str(tmp_path / "dpo"), **start, **ONE_STEP)
    run("reward", sources=pairs, output_dir=reward, **start, **ONE_STEP)
    run(
        "rlhf",
        sources=questions,
        reward_model=reward,
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
    aligned = tmp_path / "rlhf"
    converse(aligned)
    phrases = [{"de": f"Es ist {n}.", "en": f"It is {n}."} for n in range(4)]
    translated = write_rows(tmp_path / "phrases.jsonl", phrases)[0]
    benchmark("qa", aligned, questions)
    benchmark("translation", aligned, [{**translated, "columns": {"source": "de", "target": "en"}}])
    benchmark("generation", aligned, [{**questions[0], "text_column": "answer"}])
    benchmark("alignment", aligned, questions, "--held_out_fraction", "0.2", "--reward_model", reward)
    write_report(tmp_path)
    run_publish(PublishArguments(model=str(aligned), hub_model_id="user/name", dry_run=True))
    assert "trained from nothing" not in (aligned / "README.md").read_text(encoding="utf-8")


@layouts(*(name for name in LAYOUTS if LAYOUTS[name].template))
def test_a_published_chat_model_is_used_as_it_is(
    layout: str, questions: list[dict[str, str]], tmp_path: Path
) -> None:
    """Untuned, it chats, answers requests and is asked in chat form; its answers end where its publisher says."""
    folder = write_stock_folder(layout, tmp_path / "stock")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    converse(folder)
    benchmark("qa", folder, questions)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def converse(folder: Path) -> None:
    """Chat in a terminal's way and through the server."""
    session = ChatSession(StreamingModel.load(str(folder)))
    "".join(session.ask("Who are you?"))
    assert session.speaker.num_said
    pytest.importorskip("fastapi", reason="needs the packages of scratch-gpt[serve]")
    from starlette.testclient import TestClient

    from scratch_gpt.serving.api_server import make_app

    with TestClient(make_app(folder)) as client:
        body = {
            "model": folder.name,
            "messages": [{"role": "user", "content": "Hi"}],
            "max_completion_tokens": 4,
        }
        answer = client.post("/v1/chat/completions", json=body).json()
    assert answer["usage"]["completion_tokens"] > 0


def _listed(model: Any) -> list[int]:
    stops = model.generation_config.eos_token_id
    return stops if isinstance(stops, list) else [stops]
