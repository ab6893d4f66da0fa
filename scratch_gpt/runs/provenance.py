# SPDX-License-Identifier: Apache-2.0
"""`provenance.json`: where a model comes from, written by each stage when it is known and carried to the next.

The file of a model holds one record for each stage that led to it, pretraining first, so that a card can be filled from
the model's own folder, wherever it was copied to. Of a model that was pretrained elsewhere it holds the `origin`.
"""

import hashlib
import json
import platform
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import torch
import transformers
import trl
from accelerate import PartialState

import scratch_gpt
from scratch_gpt.configuration_scratch_gpt import ScratchGPTConfig
from scratch_gpt.runs.cost import training_flops_per_token
from scratch_gpt.runs.folders import atomic_write
from scratch_gpt.runs.log import RunLog
from scratch_gpt.runs.manifests import combine_manifests
from scratch_gpt.settings.hardware import available_cpus, gpu_name
from scratch_gpt.settings.parsing import scripts_folder
from scratch_gpt.settings.sources import license_of


FILE = "provenance.json"

# Passes over a token beside the forward and backward one of training, in units of those two (which cost three forward
# passes): the reference model's of DPO, and both models' on the mismatched answers of KTO; generation, reference and reward model of RLHF; generation and a teacher of the same
# size of distillation. An estimate.
EXTRA_PASSES = {"dpo": 1 / 3, "kto": 1, "rlhf": 3 / 3, "distill": 2 / 3}


def _processor() -> str:
    """The CPU's name."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def hardware_record() -> dict[str, Any]:
    """What the run runs on: `device`, `processes`, `cpus`, `threads` of one process, `memory_gib` of the machine."""
    return {
        "device": gpu_name() or _processor(),
        "gpu": gpu_name() is not None,
        "processes": PartialState().num_processes,
        "cpus": available_cpus(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
    }


def git_commit() -> str | None:
    """The commit of the checkout that this package runs from, `+changes` where files differ; None if it is installed."""
    root = scripts_folder()
    if not (root / ".git").exists():
        return None
    try:
        git = ["git", "-C", str(root)]
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        changes = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ("+changes" if changes.stdout.strip() else "")


def _data(arguments: Any) -> dict[str, Any]:
    """What the stage read: of pretraining the manifest's sources with what was consumed, else the declared ones."""
    shards = getattr(arguments, "shards", None)
    # a list of entries; several may name one folder
    folders = [str(Path(entry["path"])) for entry in shards] if isinstance(shards, list) else [str(shards)]
    files = {folder: Path(folder) / "train" / "manifest.json" for folder in folders}
    if all(file.is_file() for file in files.values()):
        manifest = combine_manifests(
            {folder: json.loads(file.read_text(encoding="utf-8")) for folder, file in files.items()}
        )
        keys = ("tokens", "bytes", "documents", "sequence_length", "content_hash", "tokenizer_hash", "seed")
        several = {"content_hashes": manifest["content_hashes"]} if "content_hashes" in manifest else {}
        return {"sources": manifest["sources"]} | {key: manifest.get(key) for key in keys} | several
    declared = getattr(arguments, "sources", None) or []
    sources = [{key: entry.get(key) for key in ("name", "path", "weight")} for entry in declared]
    return {
        "sources": [
            {
                **{key: value for key, value in source.items() if value is not None},
                "license": license_of(entry),
            }
            for source, entry in zip(sources, declared, strict=True)
        ]
    }


def make_record(arguments: Any, config: Any, log: RunLog) -> dict[str, Any]:
    """What is known of a stage at its end.

    Args:
        arguments: of the stage; its class is called after it.
        config: of the model.
        log: of the run, which knows steps, tokens and time.
    """
    names = (each.__name__ for each in type(arguments).__mro__)  # a plan is a subclass
    stage = next(name for name in names if name.endswith("Arguments")).removesuffix("Arguments").lower()
    data = _data(arguments)
    last: dict[str, Any] = next((row for row in reversed(log.rows()) if "tokens" in row), {})
    flops = None
    if isinstance(config, ScratchGPTConfig) and "tokens" in last:
        per_token = training_flops_per_token(config, data.get("sequence_length") or 0)
        flops = round(last["tokens"] * sum(per_token.values()) * (1 + EXTRA_PASSES.get(stage, 0)))
    return {
        "stage": stage,
        "folder": Path(str(arguments.output_dir)).name,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": arguments.seed,
        "steps": last.get("step"),
        "tokens": last.get("tokens"),
        "flops": flops,
        "seconds": last.get("elapsed_seconds"),
        "hardware": hardware_record(),
        "data": data,
        "git_commit": git_commit(),
        "versions": {
            "python": platform.python_version(),
            "scratch_gpt": scratch_gpt.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "trl": trl.__version__,
        },
    }


def make_origin(folder: str | Path) -> dict[str, Any]:
    """What is known of a published model: its `name`, the `revision` (None where it is not known) and a hash of the weights.

    Name and revision are in the path of the Hub's cache; a download into a folder of its own leaves the revision alone.
    """
    path = Path(folder).resolve()
    name, revision = path.name, None
    if path.parent.name == "snapshots" and path.parents[1].name.startswith("models--"):
        name, revision = path.parents[1].name.removeprefix("models--").replace("--", "/"), path.name
    metadata = path / ".cache" / "huggingface" / "download" / "config.json.metadata"
    if metadata.is_file():
        revision = metadata.read_text(encoding="utf-8").split("\n")[0]
    digest = hashlib.sha256()
    for file in sorted(path.glob("*.safetensors")):
        with file.open("rb") as weights:
            digest.update(hashlib.file_digest(weights, "sha256").digest())
    return {"name": name, "revision": revision, "weights_sha256": digest.hexdigest()}


def read_origin(folder: str | Path | None) -> dict[str, Any] | None:
    """The published model that the one in `folder` began from; None if it was pretrained here, as far as is known.

    A folder of transformers' own classes that no stage has written is such a model itself.
    """
    path = Path(str(folder))
    if (path / FILE).is_file():
        origin: dict[str, Any] | None = json.loads((path / FILE).read_text(encoding="utf-8")).get("origin")
        return origin
    config = path / "config.json"
    kind = json.loads(config.read_text(encoding="utf-8"))["model_type"] if config.is_file() else "scratch_gpt"
    return None if kind.startswith("scratch_gpt") else make_origin(path)


def copy_provenance(source: str | Path, folder: str | Path) -> None:
    """Write into `folder` the provenance of the model in `source`, which has only changed its form."""
    _write(folder, read_origin(source), read_provenance(source))


def read_provenance(folder: str | Path | None) -> list[dict[str, Any]]:
    """The records of the stages that led to the model in `folder`, its own last; empty where nothing is known."""
    path = Path(str(folder)) / FILE
    if not path.is_file():
        return []
    stages: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["stages"]
    return stages


def write_provenance(
    arguments: Any, config: Any, folder: str | Path, log: RunLog, previous: Iterable[str | None] = ()
) -> None:
    """Write `folder/provenance.json`: the records of the models that went in, each stage once, then this stage's own.

    Args:
        arguments, config, log: see `make_record`.
        folder: the model's.
        previous: folders of the models that went in.
    """
    previous = [model for model in previous if model]
    origin = read_origin(previous[0]) if previous else None
    stages: list[dict[str, Any]] = []
    for model in previous:
        stages += [record for record in read_provenance(model) if record not in stages]
    stages.append(make_record(arguments, config, log))
    _write(folder, origin, stages)


def _write(folder: str | Path, origin: dict[str, Any] | None, stages: list[dict[str, Any]]) -> None:
    content = ({"origin": origin} if origin else {}) | {"stages": stages}
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    with atomic_write(Path(folder) / FILE) as temporary:
        temporary.write_text(text, encoding="utf-8")
