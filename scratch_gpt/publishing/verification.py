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
NEW_TOKENS = 16


def examine(model_name: str, options: dict[str, Any]) -> tuple[Any, list[int]]:
    """What the model in a folder or repository says to fixed token ids, by the Auto class that its config names.

    Returns:
        Logits or last hidden states of one forward pass, and the greedy continuation, [] for a model that writes none.

    Raises:
        ValueError: the continuation depends on the cache, which `generate` hands to the model anew in each version.
    """
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
        output = model(**inputs)[0]
    if not model.can_generate():
        return output, []
    model.float()  # in half precision two tokens may be equally likely, and rounding decides
    prompt = ids[:, : POSITIONS - NEW_TOKENS]
    cached, uncached = (
        model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            min_new_tokens=NEW_TOKENS,
            max_new_tokens=NEW_TOKENS,
            use_cache=use_cache,
            return_dict_in_generate=True,
            output_logits=True,
        )
        for use_cache in (True, False)
    )
    with_cache, without = torch.cat(cached.logits), torch.cat(uncached.logits)
    # The tokens alone would hide a fault in a model that repeats one token whatever it reads.
    is_close = (with_cache - without).abs().max() <= 0.01 * without.std()
    if not (is_close and torch.equal(cached.sequences, uncached.sequences)):
        raise ValueError(
            f"with transformers {transformers.__version__} it writes something else with a cache than without"
        )
    return output, cached.sequences[0, -NEW_TOKENS:].tolist()


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
    if request["own_code"]:
        sys.modules["scratch_gpt"] = None  # type: ignore[assignment]  # as on a machine without the package
    else:
        import scratch_gpt  # noqa: F401  # its classes go before the code from the Hub

    trust = {"trust_remote_code": request["own_code"]}
    there, written = examine(repository, {"revision": commit, "cache_dir": f"{cache}/hub", **trust})
    here, expected_tokens = examine(request["folder"], trust)
    if not torch.equal(there, here):
        raise ValueError(f"its outputs differ by up to {(there - here).abs().max():.3g}")
    if written != expected_tokens:
        raise ValueError(f"it writes {written} there, and {expected_tokens} here")
    found = f"{len(request['sha256'])} files with the same hashes, the same {there.numel():,} outputs"
    return found + (f" and {len(written)} greedy tokens, with and without cache" if written else "")


if __name__ == "__main__":
    try:
        print(check(json.load(sys.stdin), sys.argv[1]))  # noqa: T201  # the answer
    except Exception as error:
        print(" ".join(str(error).split()) or type(error).__name__)  # noqa: T201
        raise SystemExit(1) from None
