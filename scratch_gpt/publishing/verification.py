# SPDX-License-Identifier: Apache-2.0
"""Load a model from the Hub as a stranger would: a program, so that nothing of this package is imported already.

    python -P verification.py CACHE < request.json

Reads {repository, commit, folder, sha256: {file: hash}, own_code}; downloads into the empty folder CACHE; prints one line: what
was found, or (exit status 1) what is wrong.
"""

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any


POSITIONS = 32


def first_output(model_name: str, options: dict[str, Any]) -> Any:
    """What the model says to a fixed text, by the Auto class that its config names: logits, or the last hidden states."""
    import torch
    import transformers

    config = transformers.AutoConfig.from_pretrained(model_name, **options)
    (architecture,) = config.architectures
    auto_map = getattr(config, "auto_map", None) or {}
    auto_class = next(
        (name for name, place in auto_map.items() if place.endswith(f".{architecture}")), architecture
    )
    model = getattr(transformers, auto_class).from_pretrained(model_name, **options).eval()
    transformers.AutoTokenizer.from_pretrained(model_name, **options)
    ids = torch.arange(POSITIONS)[None] % config.vocab_size
    inputs = {"input_ids": ids}
    if config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids
    with torch.inference_mode():
        return model(**inputs)[0]


def check(request: dict[str, Any], cache: str) -> str:
    """One line on what was found; raise ValueError if something differs."""
    os.environ.update(HF_HUB_CACHE=f"{cache}/hub", HF_MODULES_CACHE=f"{cache}/modules")
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    import huggingface_hub
    import torch

    repository, commit = request["repository"], request["commit"]
    snapshot = Path(huggingface_hub.snapshot_download(repository, revision=commit, cache_dir=f"{cache}/hub"))
    for name, expected in request["sha256"].items():
        if not (snapshot / name).is_file():
            raise ValueError(f"{name} is missing there")
        with (snapshot / name).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != expected:
            raise ValueError(f"{name} is not what was sent")
    if not request["own_code"]:
        import scratch_gpt  # noqa: F401  # its classes go before the code from the Hub

    trust = {"trust_remote_code": request["own_code"]}
    there = first_output(repository, {"revision": commit, "cache_dir": f"{cache}/hub", **trust})
    here = first_output(request["folder"], trust)
    if not torch.equal(there, here):
        raise ValueError(f"its outputs differ by up to {(there - here).abs().max():.3g}")
    return f"{len(request['sha256'])} files with the same hashes, and the same {there.numel():,} outputs"


if __name__ == "__main__":
    try:
        print(check(json.load(sys.stdin), sys.argv[1]))  # noqa: T201  # the answer
    except Exception as error:
        print(" ".join(str(error).split()) or type(error).__name__)  # noqa: T201
        raise SystemExit(1) from None
