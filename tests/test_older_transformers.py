# SPDX-License-Identifier: Apache-2.0
"""Exported folders and tokenizers under versions of transformers that are older than the project needs."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from scratch_gpt import ScratchGPTForCausalLM, ScratchGPTForSequenceClassification
from scratch_gpt.configuration_scratch_gpt import REQUIRED
from scratch_gpt.export.folders import export_folder
from scratch_gpt.tokenization import IM_END, save_tokenizer


# Qwen3's class came with 4.51; 4.57 is the last line before 5.
OLDER = ("4.51.3", "4.57.6")
TEXT = "What is <|im_start|> a bee?\n Two  spaces, 123 <|mask|>."
CHAT = [
    {"role": "user", "content": "Hi <|im_end|>"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "And you?"},
]
ROPE = {"rope_theta": 500000.0}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
KINDS: dict[str, tuple[type[PreTrainedModel], dict[str, Any]]] = {
    "qwen3": (ScratchGPTForCausalLM, {"rope_parameters": ROPE | {"rope_type": "default"}}),
    "llama": (
        ScratchGPTForCausalLM,
        {"dialect": "llama", "tie_word_embeddings": False, "rope_parameters": ROPE | LLAMA3},
    ),
    "yarn": (ScratchGPTForCausalLM, {"rope_parameters": ROPE | YARN}),
    "gpt2": (ScratchGPTForCausalLM, {"dialect": "gpt2"}),
    "reward": (
        ScratchGPTForSequenceClassification,
        {"num_labels": 1, "rope_parameters": ROPE | {"rope_type": "default"}},
    ),
}

# It stays with what 4.51 has. `python -P`: only packages of the environment are importable.
READER = """
import json, sys
sys.modules["scratch_gpt"] = None
import torch, transformers

text, chat, length, new_tokens = json.loads(sys.argv[1])
report = {"version": transformers.__version__}
for folder in sys.argv[2:]:
    tokenizer = transformers.AutoTokenizer.from_pretrained("export/" + folder)
    ids = tokenizer(text).input_ids
    found = {
        "ids": ids,
        "decoded": tokenizer.decode(ids, skip_special_tokens=True),
        "prompt": tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True),
        "special": [tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.mask_token_id],
    }
    is_reward = folder == "reward"
    kind = "AutoModelForSequenceClassification" if is_reward else "AutoModelForCausalLM"
    model = getattr(transformers, kind).from_pretrained("export/" + folder).eval()
    inputs = torch.arange(4, 4 + length)[None]
    with torch.no_grad():
        found["logits"] = model(inputs, attention_mask=torch.ones_like(inputs)).logits.tolist()
        for use_cache in (True, False) if not is_reward else ():
            settings = dict(min_new_tokens=new_tokens, max_new_tokens=new_tokens, do_sample=False, use_cache=use_cache)
            output = model.generate(inputs, attention_mask=torch.ones_like(inputs), **settings)
            found["cached" if use_cache else "uncached"] = output[0].tolist()
    report[folder] = found
report["own_ids"] = transformers.AutoTokenizer.from_pretrained("own/qwen3", trust_remote_code=True)(text).input_ids
try:
    transformers.AutoModelForCausalLM.from_pretrained("own/qwen3", trust_remote_code=True)
except ImportError as error:
    report["refused"] = str(error)
json.dump(report, open("report.json", "w"))
"""


@pytest.fixture(
    scope="module", params=[None, *(pytest.param(version, marks=pytest.mark.slow) for version in OLDER)]
)
def packages(request, tmp_path_factory) -> Path | None:
    """A folder with an older transformers and what it needs, to go before the installed packages; None: these alone."""
    if request.param is None:
        return None
    folder = tmp_path_factory.mktemp("packages")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--retries", "1", "--timeout", "30"]
    done = subprocess.run(
        [*command, "--target", str(folder), f"transformers=={request.param}"], capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.skip(
            f"transformers {request.param} cannot be installed: {done.stderr.strip().splitlines()[-1]}"
        )
    return folder


def test_exports_open_with_equal_logits(
    packages: Path | None,
    small_model: Callable[..., PreTrainedModel],
    tiny_tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
) -> None:
    """Same token ids, chat rendering, logits and greedy text, with cache and without; our own code says what it needs."""
    tiny_tokenizer.eos_token = IM_END
    special = [tiny_tokenizer.eos_token_id, tiny_tokenizer.pad_token_id, tiny_tokenizer.mask_token_id]
    length, new_tokens = 80, 16
    inputs = torch.arange(4, 4 + length)[None]
    expected: dict[str, Any] = {}
    for name, (head, settings) in KINDS.items():
        ids = {"vocab_size": len(tiny_tokenizer), "eos_token_id": special[0], "pad_token_id": special[1]}
        model = small_model(head, **ids, **settings)
        model.save_pretrained(tmp_path / "own" / name)
        save_tokenizer(tiny_tokenizer, tmp_path / "own" / name)
        assert export_folder(tmp_path / "own" / name, tmp_path / "export" / name) == []
        with torch.no_grad():
            expected[name] = {"logits": model(inputs).logits}
        if model.can_generate():
            expected[name]["greedy"] = model.generate(
                inputs, min_new_tokens=new_tokens, max_new_tokens=new_tokens, do_sample=False, use_cache=False
            )[0].tolist()

    environment = {
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_OFFLINE": "1",
        "PATH": os.defpath,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(packages or ""),
    }
    arguments = json.dumps([TEXT, CHAT, length, new_tokens])
    done = subprocess.run(
        [sys.executable, "-P", "-c", READER, arguments, *KINDS],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    for name in KINDS:
        found = report[name]
        assert found["ids"] == report["own_ids"] == tiny_tokenizer(TEXT).input_ids
        assert found["decoded"] == tiny_tokenizer.decode(found["ids"], skip_special_tokens=True)
        assert found["prompt"] == tiny_tokenizer.apply_chat_template(
            CHAT, tokenize=False, add_generation_prompt=True
        )
        assert found["special"] == special
        assert (torch.tensor(found["logits"]) - expected[name]["logits"]).abs().max() <= 1e-5, name
        if "greedy" in expected[name]:
            assert found["cached"] == found["uncached"] == expected[name]["greedy"], name
    assert ("refused" in report) == (packages is not None)
    if packages is not None:
        assert REQUIRED in report["refused"]
        assert f"{report['version']} is installed" in report["refused"]
        assert "\n" not in report["refused"]
