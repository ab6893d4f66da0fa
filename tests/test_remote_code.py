# SPDX-License-Identifier: Apache-2.0
"""A folder opens, by every door of transformers, where this package is not installed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

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


MODEL_FILES = ["configuration_scratch_gpt.py", "modeling_scratch_gpt.py", "modeling_scratch_gpt_inputs.py"]
ENCODER_DECODER_FILES = sorted([*MODEL_FILES, "modeling_scratch_gpt_encoder_decoder.py"])
MESSAGES = [{"role": "user", "content": "What is a bee?"}]

# Where the package cannot be imported, and nobody is there to be asked for trust. One process for everything: starting
# it takes longer than all that it does.
STRANGER = """
import json, pathlib, sys
sys.modules["scratch_gpt"] = None
import transformers

def opened(folder):
    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=True)
    doors = {"AutoConfig": config}
    for door in sorted(set(config.auto_map) - {"AutoConfig"}):
        doors[door] = getattr(transformers, door).from_pretrained(folder, trust_remote_code=True)
    assert all(type(each).__module__.startswith("transformers_modules.") for each in doors.values()), doors
    return {door: type(each).__name__ for door, each in doors.items()}

messages = json.loads(sys.argv[1])
report = {folder: opened(folder) for folder in ("chat", "reward", "tagger", "encoder", "translator")}
tokenizer = transformers.AutoTokenizer.from_pretrained("chat", trust_remote_code=True)
report["prompt"] = tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
pipeline = transformers.pipeline("text-generation", model="chat", trust_remote_code=True)
report["answer"] = pipeline(messages, max_new_tokens=8, do_sample=False)[0]["generated_text"][-1]["content"]
sys.path.insert(0, ".")
from alone import modeling_scratch_gpt
report["alone"] = modeling_scratch_gpt.__all__
pathlib.Path("report.json").write_text(json.dumps(report))
"""


@pytest.fixture
def folders(chat_folder: Path) -> Path:
    """What the stranger gets: models of three kinds, saved by several heads, and the model files by themselves."""
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
    result = subprocess.run(
        [sys.executable, "-I", "-c", STRANGER, json.dumps(MESSAGES)],
        capture_output=True,
        text=True,
        cwd=folders,
        env={
            "HF_HOME": str(folders / "home"),
            "HF_HUB_OFFLINE": "1",
            "PATH": os.defpath,
            "OMP_NUM_THREADS": "1",
        },
        stdin=subprocess.DEVNULL,
    )
    assert result.returncode == 0, result.stderr
    report = json.loads((folders / "report.json").read_text(encoding="utf-8"))
    doors = {
        "AutoConfig": "ScratchGPTConfig",
        "AutoModel": "ScratchGPTModel",
        "AutoModelForCausalLM": "ScratchGPTForCausalLM",
        "AutoModelForSequenceClassification": "ScratchGPTForSequenceClassification",
        "AutoModelForTokenClassification": "ScratchGPTForTokenClassification",
        "AutoModelForQuestionAnswering": "ScratchGPTForQuestionAnswering",
        "AutoModelForMultipleChoice": "ScratchGPTForMultipleChoice",
    }
    assert report["chat"] == report["reward"] == report["tagger"] == doors
    assert set(doors.values()) - {"ScratchGPTConfig"} <= set(report["alone"])
    del doors["AutoModelForCausalLM"]
    assert report["encoder"] == doors | {"AutoModelForMaskedLM": "ScratchGPTForMaskedLM"}
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
    with torch.no_grad():
        output = model.generate(**inputs, max_new_tokens=8, do_sample=False)
    answer = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert report["answer"] == answer
