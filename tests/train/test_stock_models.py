# SPDX-License-Identifier: Apache-2.0
"""Folders with the layouts of published models go through every stage as they are, without an import."""

import gc
import hashlib
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, BloomConfig, BloomForCausalLM

from scratch_gpt.export.folders import export_folder, import_folder
from scratch_gpt.inference.loading import load_model
from scratch_gpt.inference.turns import end_of_turn, is_chat, plain_template
from scratch_gpt.publishing import PublishArguments, run_publish
from scratch_gpt.publishing.card import make_card
from scratch_gpt.report.page import write_report
from scratch_gpt.runs.log import RunLog
from scratch_gpt.runs.provenance import read_origin
from scratch_gpt.serving.chat import ChatSession, StreamingModel
from scratch_gpt.settings.parsing import parse
from scratch_gpt.tokenization import IM_END
from scratch_gpt.training.posttrain.posttraining import check_packing
from stock_folders import LAYOUTS, stock_tokenizer, write_stock_folder
from wording import shows, user_error


ROOT = Path(__file__).parents[2]
FAST = ("llama3.2", "gpt2")  # the others, and all stages of all, are slow
ONE_STEP: dict[str, Any] = {"max_steps": 1, "logging_steps": 1, "held_out_fraction": 0.2}
BENCHMARKS = {
    "qa": "QAArguments",
    "instructions": "InstructionArguments",
    "translation": "TranslationArguments",
    "generation": "GenerationArguments",
    "alignment": "AlignmentArguments",
}
# Gradio leaves event loops of its threads unclosed, and sets an option that pandas 3 calls old.
looks = pytest.mark.filterwarnings(
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore:'future.no_silent_downcasting' is deprecated",
)


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


@layouts(*FAST)
def test_sft_takes_the_folder(
    layout: str,
    run: Callable[..., None],
    questions: list[dict[str, str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The generation config is kept but for the stop tokens, the vocabulary grows where ours is needed, the origin is known."""
    stock, chat = write_stock_folder(layout, tmp_path / "stock"), tmp_path / "chat"
    before = AutoModelForCausalLM.from_pretrained(stock)
    run("sft", model_name_or_path=str(stock), sources=questions, output_dir=str(chat), **ONE_STEP)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(chat), load_model(chat)[1]
    assert is_chat(tokenizer) and end_of_turn(tokenizer) == tokenizer.eos_token_id
    said, kept = before.generation_config.to_diff_dict(), model.generation_config.to_diff_dict()
    assert {*_listed(before), tokenizer.eos_token_id} == {*_listed(model)}
    assert _listed(model)[0] == tokenizer.eos_token_id
    for name in LAYOUTS[layout].generation:
        assert kept[name] == said[name]
    told = capsys.readouterr().out
    if LAYOUTS[layout].template is None:
        assert shows(told, "no chat template", IM_END)
        assert model.config.vocab_size == before.config.vocab_size + 2 == len(tokenizer)
        assert kept["temperature"] == 0.3
    else:
        assert model.config.vocab_size == before.config.vocab_size
        assert shows(told, "max_length 2048", "learning_rate 0.001")
    origin = read_origin(chat)
    assert origin == read_origin(stock) and origin["name"] == "stock"
    card = str(make_card(chat))
    assert "base_model:" not in card  # a folder's own name is none of the Hub's
    assert (
        "stock, revision not known" in card
        and origin["weights_sha256"] in card
        and "from nothing" not in card
    )


@pytest.mark.parametrize("stage", ["sft", "dpo"])
def test_nothing_learned_is_no_change(
    stage: str, run: Callable[..., None], questions: Any, pairs: Any, tmp_path: Path
) -> None:
    """Of weights in bfloat16, as most are published: before and after are measured in one precision."""
    stock, output = write_stock_folder("llama3.2", tmp_path / "stock"), tmp_path / "out"
    AutoModelForCausalLM.from_pretrained(stock, dtype=torch.bfloat16).save_pretrained(stock)
    sources = questions if stage == "sft" else pairs
    still = {**ONE_STEP, "learning_rate": 1e-30}
    run(stage, model_name_or_path=str(stock), sources=sources, output_dir=str(output), **still)
    metrics = json.loads((output / "results" / f"{stage}.json").read_text())["metrics"]
    if stage == "dpo":
        assert metrics["chosen_log_ratio"]["value"] == metrics["rejected_log_ratio"]["value"] == 0
    names = [name.partition("/")[2] for name in metrics if name.startswith("before/")]
    assert names
    for name in names:
        assert metrics[f"before/{name}"]["value"] == metrics[f"after/{name}"]["value"]


@looks
@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_stage_takes_the_folder(
    layout: str,
    run: Callable[..., None],
    questions: list[dict[str, str]],
    pairs: list[dict[str, str]],
    tmp_path: Path,
) -> None:
    """sft, dpo, kto, reward and rlhf take one step each; what they write chats, answers requests, is measured and published."""
    stock, chat = str(write_stock_folder(layout, tmp_path / "stock")), str(tmp_path / "chat")
    run("sft", model_name_or_path=stock, sources=questions, output_dir=chat, **ONE_STEP)
    reward = str(tmp_path / "reward")
    start = {"model_name_or_path": stock if LAYOUTS[layout].template else chat}
    run("dpo", sources=pairs, output_dir=str(tmp_path / "dpo"), **start, **ONE_STEP)
    run("kto", sources=pairs, output_dir=str(tmp_path / "kto"), **start, **ONE_STEP)
    run("reward", sources=pairs, output_dir=reward, **start, **ONE_STEP)
    run(
        "rlhf",
        sources=questions,
        reward_model=reward,
        output_dir=str(tmp_path / "rlhf"),
        per_device_train_batch_size=2,
        num_generations=2,
        max_completion_length=3,
        mask_truncated_completions="false",  # an untrained model hardly ever finishes
        max_eval_prompts=2,
        **start,
        **ONE_STEP,
    )
    for stage in ("chat", "dpo", "kto", "rlhf"):
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
    look(aligned)
    phrases = [{"de": f"Hier {n}.", "en": f"It is {n}."} for n in range(4)]
    translated = write_rows(tmp_path / "phrases.jsonl", phrases)[0]
    benchmark("qa", aligned, questions)
    benchmark("instructions", aligned, questions, "--held_out_fraction", "0.2")
    benchmark("translation", aligned, [{**translated, "columns": {"source": "de", "target": "en"}}])
    benchmark("generation", aligned, [{**questions[0], "text_column": "answer"}])
    benchmark("alignment", aligned, questions, "--held_out_fraction", "0.2", "--reward_model", reward)
    write_report(tmp_path)
    run_publish(PublishArguments(model=str(aligned), hub_model_id="user/name", dry_run=True))
    assert "trained from nothing" not in (aligned / "README.md").read_text(encoding="utf-8")


@looks
@layouts(*(name for name in LAYOUTS if LAYOUTS[name].template))
def test_a_published_chat_model_is_used_as_it_is(
    layout: str, questions: list[dict[str, str]], tmp_path: Path
) -> None:
    """Untuned, it chats, answers requests and is asked in chat form; its answers end where its publisher says."""
    folder = write_stock_folder(layout, tmp_path / "stock")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    converse(folder)
    look(folder)
    benchmark("qa", folder, questions)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_a_stock_folder_has_the_losses_of_the_native_one(
    run: Callable[..., None], base_folder: Path, questions: list[dict[str, str]], tmp_path: Path
) -> None:
    """A base model of this project and the same weights as a Qwen3 folder: every sft loss agrees to 1e-4."""
    export_folder(base_folder, tmp_path / "stock", "qwen3")
    losses = []
    for folder in (base_folder, tmp_path / "stock"):
        output = tmp_path / f"{folder.name}-chat"
        settings = {**ONE_STEP, "max_steps": 6, "warmup_steps": 1, "eval_strategy": "steps", "eval_steps": 6}
        settings["bf16"] = False  # whose rounding is larger than 1e-4
        run("sft", model_name_or_path=str(folder), sources=questions, output_dir=str(output), **settings)
        rows = RunLog(output / "log.jsonl").rows()
        losses.append([row.get("loss", row.get("eval_loss")) for row in rows])
    assert len(losses[0]) == 7 and losses[0][0] > losses[0][-1]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    assert type(AutoModelForCausalLM.from_pretrained(output)).__name__ == "Qwen3ForCausalLM"
    assert read_origin(output) is None  # pretrained here, whatever its form


def test_padding_is_added_where_nothing_else_can_pad(
    run: Callable[..., None], questions: list[dict[str, str]], pairs: list[dict[str, str]], tmp_path: Path
) -> None:
    """DialoGPT ends turns with the one special token it has: sft adds another for padding, dpo asks for that."""
    stock = write_stock_folder("gpt2", tmp_path / "dialogpt")
    template = "{% for message in messages %}{{ message.content }}{{ eos_token }}{% endfor %}"
    (stock / "chat_template.jinja").write_text(template)
    assert is_chat(load_model(stock)[1])
    settings = {"model_name_or_path": str(stock), **ONE_STEP}
    with user_error("padding_ends_turns", "scratch-gpt sft", folder=stock):
        run("dpo", sources=pairs, output_dir=str(tmp_path / "dpo"), **settings)
    run("sft", sources=questions, output_dir=str(tmp_path / "chat"), **settings)
    model, tokenizer = load_model(tmp_path / "chat")
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|endoftext|>", "<|pad|>")
    assert model.config.pad_token_id == tokenizer.pad_token_id == model.config.vocab_size - 1
    assert "".join(plain_template(tokenizer).split()) == "".join(template.split())


def test_adapters_cannot_learn_new_tokens(
    run: Callable[..., None], questions: list[dict[str, str]], tmp_path: Path
) -> None:
    """GPT-2 gets two tokens with our template: LoRA would leave their embeddings as they were drawn."""
    stock, output = str(write_stock_folder("gpt2", tmp_path / "gpt2")), tmp_path / "out"
    settings = {"model_name_or_path": stock, "output_dir": str(output), "sources": questions, **ONE_STEP}
    with user_error("tokens_not_learned", "use_peft: false"):
        run("sft", use_peft="true", **settings)
    assert not output.exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("stage", ["sft", "dpo", "reward"])
def test_four_bits_are_those_of_the_training_alone(
    stage: str,
    run: Callable[..., None],
    questions: list[dict[str, str]],
    pairs: list[dict[str, str]],
    tmp_path: Path,
) -> None:
    """QLoRA leaves whole weights: those without an adapter as they were, to the bit, the others changed."""
    pytest.importorskip("bitsandbytes")
    stock, output = write_stock_folder("qwen3", tmp_path / "stock"), tmp_path / "out"
    settings = {"use_peft": "true", "load_in_4bit": "true", "learning_rate": 1e-2, **ONE_STEP, "max_steps": 2}
    sources = questions if stage == "sft" else pairs
    run(stage, model_name_or_path=str(stock), output_dir=str(output), sources=sources, **settings)
    assert "quantization_config" not in json.loads((output / "config.json").read_text())
    before, after = (load_file(folder / "model.safetensors") for folder in (stock, output))
    for name, weight in before.items():
        assert after[name].dtype == weight.dtype
        assert torch.equal(after[name], weight) != ("_proj" in name), name


def test_the_origin_is_known_after_an_import(tmp_path: Path) -> None:
    """Name and revision from the Hub's cache, the revision of a download into a folder, a hash of the weights."""
    cached = tmp_path / "models--Qwen--Qwen3-0.6B" / "snapshots" / "c1899de"
    write_stock_folder("qwen3", cached)
    import_folder(cached, tmp_path / "ours")
    origin = read_origin(tmp_path / "ours")
    digest = hashlib.sha256(hashlib.sha256((cached / "model.safetensors").read_bytes()).digest()).hexdigest()
    assert origin == {"name": "Qwen/Qwen3-0.6B", "revision": "c1899de", "weights_sha256": digest}
    downloaded = cached.rename(tmp_path / "qwen")
    metadata = downloaded / ".cache" / "huggingface" / "download"
    metadata.mkdir(parents=True)
    (metadata / "config.json.metadata").write_text("c1899de\netag\n1.0\n")
    assert read_origin(downloaded) == {"name": "qwen", "revision": "c1899de", "weights_sha256": digest}


def test_packing_is_refused_where_rows_would_mix(base_folder: Path, tmp_path: Path) -> None:
    """BLOOM's attention takes no positions, so packed rows would see each other."""
    config = BloomConfig(vocab_size=64, hidden_size=32, n_layer=1, n_head=2)
    with user_error("packed_rows_mix", model="BloomForCausalLM"):
        check_packing(BloomForCausalLM(config).eval())
    for folder in (base_folder, write_stock_folder("gpt2", tmp_path / "gpt2")):
        check_packing(load_model(folder)[0])


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


def look(folder: Path) -> None:
    """What the buttons of the web page do, without a browser."""
    pytest.importorskip("gradio", reason="needs the packages of scratch-gpt[web]")
    from scratch_gpt.serving.web.handlers import MEAN_OF_HEADS, Handlers
    from scratch_gpt.serving.web.page import make_page

    model = StreamingModel.load(str(folder))
    make_page([model]).close()
    page, settings = Handlers([model]), (0.5, 50, 0.9, 4)
    *_, (_, shown, messages) = page.chat("Hi", [], model.name, "", *settings)
    assert [message["role"] for message in messages] == ["user", "assistant"] and len(shown) == 2
    *_, text = page.complete("The cat", model.name, *settings)
    assert text.startswith("The cat")
    assert page.next_tokens("The cat", model.name, *settings[:3]).count("%</td>") == 20
    assert "<small>54" in page.tokens("The cat", model.name)  # "T", or "The"
    assert page.attention("The cat", model.name, 2, MEAN_OF_HEADS).count("<tr>") > 2
    gc.collect()  # what gradio leaves is found here, and not in a test that takes warnings for errors


def _listed(model: Any) -> list[int]:
    stops = model.generation_config.eos_token_id
    return stops if isinstance(stops, list) else [stops]
