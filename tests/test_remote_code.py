# SPDX-License-Identifier: Apache-2.0
"""A folder opens, by every door of transformers, where this package is not installed."""

import json
import os
import runpy
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from packaging.version import Version
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

import scratch_gpt
from scratch_gpt import (
    ScratchGPTConfig,
    ScratchGPTEncoderDecoderConfig,
    ScratchGPTForCausalLM,
    ScratchGPTForConditionalGeneration,
    ScratchGPTForMaskedLM,
    ScratchGPTForSequenceClassification,
    ScratchGPTForTokenClassification,
)
from scratch_gpt.configuration_scratch_gpt import REQUIRED
from scratch_gpt.export.interop import to_stock
from scratch_gpt.publishing import verification
from scratch_gpt.tokenization import save_tokenizer


MODEL_FILES = ["configuration_scratch_gpt.py", "modeling_scratch_gpt.py", "modeling_scratch_gpt_inputs.py"]
ENCODER_DECODER_FILES = sorted([*MODEL_FILES, "modeling_scratch_gpt_encoder_decoder.py"])
MESSAGES = [{"role": "user", "content": "What is a bee?"}]

# Where the package cannot be imported, and nobody is there to be asked for trust. One process for everything: starting
# it takes longer than all that it does.
STRANGER = """
import builtins, json, pathlib, sys
sys.modules["scratch_gpt"] = None
builtins.input = lambda prompt: sys.exit("asked: " + prompt)
import transformers

def opened(folder):
    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=True)
    auto_classes = {"AutoConfig": config}
    for door in sorted(set(config.auto_map) - {"AutoConfig"}):
        auto_classes[door] = getattr(transformers, door).from_pretrained(folder, trust_remote_code=True)
    assert all(type(each).__module__.startswith("transformers_modules.") for each in auto_classes.values()), auto_classes
    return {door: type(each).__name__ for door, each in auto_classes.items()}

messages = json.loads(sys.argv[1])
report = {folder: opened(folder) for folder in ("chat", "reward", "tagger", "encoder", "translator")}
for tokenizer in (
    transformers.AutoTokenizer.from_pretrained("tokenizer"),
    transformers.PreTrainedTokenizerFast.from_pretrained("chat"),
    transformers.AutoTokenizer.from_pretrained("chat", trust_remote_code=True),
):
    report.setdefault("ids", []).append(tokenizer("What is a bee?")["input_ids"])
report["prompt"] = tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
pipeline = transformers.pipeline("text-generation", model="chat", trust_remote_code=True)
report["answer"] = pipeline(messages, max_new_tokens=8, do_sample=False)[0]["generated_text"][-1]["content"]
sys.path.insert(0, ".")
from alone import modeling_scratch_gpt
report["alone"] = modeling_scratch_gpt.__all__
pathlib.Path("report.json").write_text(json.dumps(report))
"""


@pytest.fixture
def folders(chat_folder: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> Path:
    """What the stranger gets: models of three kinds, saved by several heads, a tokenizer, the model files by themselves."""
    save_tokenizer(tiny_tokenizer, chat_folder.parent / "tokenizer")
    config = ScratchGPTConfig.from_pretrained(chat_folder, num_labels=1)
    ScratchGPTForSequenceClassification(config).save_pretrained(chat_folder.parent / "reward")
    config = ScratchGPTConfig(
        vocab_size=100, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, dialect="gpt2"
    )
    ScratchGPTForTokenClassification(config).save_pretrained(chat_folder.parent / "tagger")
    small = {"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    encoder = ScratchGPTForMaskedLM(ScratchGPTConfig(**small, is_causal=False))
    encoder.save_pretrained(chat_folder.parent / "encoder")
    translator = ScratchGPTForConditionalGeneration(ScratchGPTEncoderDecoderConfig(**small))
    translator.save_pretrained(chat_folder.parent / "translator")
    alone = chat_folder.parent / "alone"
    alone.mkdir()
    for name in MODEL_FILES:
        (alone / name).write_text((chat_folder / name).read_text(encoding="utf-8"), encoding="utf-8")
    return chat_folder.parent


def run_stranger(program: str, folder: Path, *arguments: str) -> None:
    """Run a program in `folder` in which the package cannot be imported; it must end well and ask nothing."""
    result = subprocess.run(
        [sys.executable, "-I", "-c", program, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={
            "HF_HOME": str(folder / "home"),
            "HF_HUB_OFFLINE": "1",
            "PATH": os.defpath,
            "OMP_NUM_THREADS": "1",
        },
        stdin=subprocess.DEVNULL,
    )
    assert result.returncode == 0, result.stderr


def test_saved_folder_holds_the_model_files(chat_folder: Path) -> None:
    """The code travels with the weights, unchanged, and no other code."""
    assert sorted(path.name for path in chat_folder.glob("*.py")) == MODEL_FILES
    package = Path(scratch_gpt.__file__).parent
    for name in MODEL_FILES:
        assert (chat_folder / name).read_bytes() == (package / name).read_bytes()


def test_saved_encoder_decoder_holds_its_own_file_too(folders: Path) -> None:
    """Its own imports the others. An encoder needs the others only."""
    assert sorted(path.name for path in (folders / "translator").glob("*.py")) == ENCODER_DECODER_FILES
    assert sorted(path.name for path in (folders / "encoder").glob("*.py")) == MODEL_FILES


def test_a_stranger_opens_every_door(folders: Path) -> None:
    """Config, each head, tokenizer and chat pipeline load as remote code; the model files import without the rest."""
    run_stranger(STRANGER, folders, json.dumps(MESSAGES))
    report = json.loads((folders / "report.json").read_text(encoding="utf-8"))
    auto_classes = {
        "AutoConfig": "ScratchGPTConfig",
        "AutoModel": "ScratchGPTModel",
        "AutoModelForCausalLM": "ScratchGPTForCausalLM",
        "AutoModelForSequenceClassification": "ScratchGPTForSequenceClassification",
        "AutoModelForTokenClassification": "ScratchGPTForTokenClassification",
        "AutoModelForQuestionAnswering": "ScratchGPTForQuestionAnswering",
        "AutoModelForMultipleChoice": "ScratchGPTForMultipleChoice",
    }
    assert report["chat"] == report["reward"] == report["tagger"] == auto_classes
    assert set(auto_classes.values()) - {"ScratchGPTConfig"} <= set(report["alone"])
    del auto_classes["AutoModelForCausalLM"]
    assert report["encoder"] == auto_classes | {"AutoModelForMaskedLM": "ScratchGPTForMaskedLM"}
    assert report["translator"] == {
        "AutoConfig": "ScratchGPTEncoderDecoderConfig",
        "AutoModel": "ScratchGPTEncoderDecoderModel",
        "AutoModelForSeq2SeqLM": "ScratchGPTForConditionalGeneration",
        "AutoModelForSequenceClassification": "ScratchGPTEncoderDecoderForSequenceClassification",
    }

    model = ScratchGPTForCausalLM.from_pretrained(folders / "chat")
    tokenizer = AutoTokenizer.from_pretrained(folders / "chat")
    inputs = tokenizer.apply_chat_template(
        MESSAGES, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    assert report["prompt"] == inputs["input_ids"][0].tolist()
    assert report["ids"] == [tokenizer("What is a bee?")["input_ids"]] * 3
    with torch.no_grad():
        output = model.generate(**inputs, max_new_tokens=8, do_sample=False)
    answer = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert report["answer"] == answer


# Each folder by what publishing looks at: outputs of a forward pass, and greedy tokens, equal with and without cache.
EXAMINER = """
import json, pathlib, runpy, sys
sys.modules["scratch_gpt"] = None
examine = runpy.run_path(sys.argv[1])["examine"]
report = {}
for folder in sys.argv[2:]:
    output, tokens = examine(folder, {"trust_remote_code": True})
    report[folder] = [output.tolist(), tokens]
pathlib.Path("report.json").write_text(json.dumps(report))
"""


@pytest.fixture
def saved_kinds(
    small_model: Callable[..., PreTrainedModel], trained_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> dict[str, PreTrainedModel]:
    """A model of every kind that a stage saves, each in the folder of its name in `tmp_path`."""
    ids = {"vocab_size": 512, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 0}
    models = {
        "qwen3": small_model(**ids, num_key_value_heads=2),
        "llama": small_model(**ids, dialect="llama", tie_word_embeddings=False),
        "gpt2": small_model(**ids, dialect="gpt2"),
        "reward": small_model(ScratchGPTForSequenceClassification, **ids, num_labels=1),
        "encoder": small_model(ScratchGPTForMaskedLM, **ids, dialect="llama", is_causal=False),
    }
    shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "initializer_range": 0.1}
    config = ScratchGPTEncoderDecoderConfig(**ids, **shape, decoder_start_token_id=1)
    models["translator"] = ScratchGPTForConditionalGeneration(config).eval()
    for name, model in models.items():
        model.save_pretrained(tmp_path / name)
        save_tokenizer(trained_tokenizer, tmp_path / name)
    return models


@torch.no_grad()
def greedy(model: PreTrainedModel, ids: torch.Tensor, count: int) -> list[int]:
    """The likeliest tokens but for the end of the text, each from a forward pass over everything before it."""
    decoded = torch.full((1, 1), 1) if model.config.is_encoder_decoder else ids
    for _ in range(count):
        target = {"decoder_input_ids": decoded} if model.config.is_encoder_decoder else {}
        logits = model(ids if target else decoded, **target, use_cache=False).logits[:, -1:]
        logits[..., 0] = -torch.inf
        decoded = torch.cat([decoded, logits.argmax(-1)], -1)
    return decoded[0, -count:].tolist()


def test_every_kind_computes_the_same_without_the_package(saved_kinds, tmp_path: Path) -> None:
    """Outputs and greedy tokens, with cache and without, are those of transformers' own classes, where it has one."""
    run_stranger(EXAMINER, tmp_path, verification.__file__, *saved_kinds)
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    ids = torch.arange(verification.POSITIONS)[None]
    prompt = ids[:, : -verification.NEW_TOKENS]
    for name, model in saved_kinds.items():
        reference = model if name == "translator" else to_stock(model)
        inputs = {"decoder_input_ids": ids} if name == "translator" else {}
        with torch.no_grad():
            expected = reference(ids, **inputs)[0]
        output, tokens = report[name]
        assert (torch.tensor(output) - expected).abs().max() <= 1e-5, name
        assert expected.abs().max() > 0.1
        writes = name not in ("reward", "encoder")
        assert tokens == (greedy(reference, prompt, verification.NEW_TOKENS) if writes else []), name


def test_a_cache_that_keeps_nothing_is_found(base_folder: Path, monkeypatch) -> None:
    """As when `generate` names the cache anew and a forward swallows the name: each step sees one token."""
    verification.examine(str(base_folder), {})
    monkeypatch.setattr("transformers.DynamicLayer.update", lambda self, key, value, *_, **__: (key, value))
    with pytest.raises(ValueError, match="with a cache than without"):
        verification.examine(str(base_folder), {})


def test_the_required_version_is_no_higher_than_the_projects() -> None:
    """What opens a checkpoint is what the package allows, or less."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    (bound,) = (each for each in project["project"]["dependencies"] if each.startswith("transformers"))
    name, version = REQUIRED.split(">=")
    assert name == "transformers"
    assert Version(version) <= Version(bound.split(",")[0].split(">=")[1])


def test_an_older_transformers_is_told_in_one_line(chat_folder: Path, monkeypatch) -> None:
    """The version that is needed and the one that is installed."""
    monkeypatch.setattr("transformers.__version__", "4.57.6")
    monkeypatch.setattr("importlib.metadata.version", lambda name: "4.57.6")
    with pytest.raises(ImportError, match=r"4\.57\.6 is installed") as error:
        runpy.run_path(str(chat_folder / "configuration_scratch_gpt.py"))
    assert REQUIRED in str(error.value)
    assert "\n" not in str(error.value)
