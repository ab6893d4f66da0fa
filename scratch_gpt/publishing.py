# SPDX-License-Identifier: Apache-2.0
"""From a trained folder to the Hub: a model card filled from the files of the run alone, then an upload.

What the files do not say is called "not known", never guessed.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, HfApi, ModelCard, ModelCardData
from safetensors import safe_open

from scratch_gpt.errors import UserError
from scratch_gpt.evaluation.comparison import BENCHMARKS, compare, read_results
from scratch_gpt.launching import scripts_folder
from scratch_gpt.training.telemetry import RunLog


UNKNOWN = "not known"

# What a run leaves in its folder for itself; the rest of the folder is the repository.
NOT_UPLOADED = [
    "checkpoint-*",
    "checkpoint-*/**",
    "**/training_state/**",
    "training_state/**",
    "*.tmp",
    "**/*.tmp",
]

# What a reader of the card wants to know of a stage's arguments; run.yaml has them all.
SETTINGS = (
    *("sources", "shards", "model_config", "seed"),
    *("max_steps", "num_train_epochs", "per_device_train_batch_size", "gradient_accumulation_steps"),
    *("learning_rate", "lr_scheduler_type", "warmup_steps", "decay_ratio", "weight_decay", "optim"),
    *("max_length", "assistant_only_loss", "center_rewards_coefficient"),
    *("algorithm", "reward_model", "beta", "num_generations", "max_completion_length", "temperature"),
)

# The key of run.yaml that names the stage's first input model.
PREVIOUS_MODEL = "model_name_or_path"


@dataclass
class PublishArguments:
    """Settings of `eval/publish.py`."""

    model: str | None = field(default=None, metadata={"help": "Folder of a trained model."})
    license: str = field(
        default="unknown", metadata={"help": "License of the weights, as the Hub spells it."}
    )
    hub_model_id: str | None = field(default=None, metadata={"help": "Upload to this repository: user/name."})
    hub_private_repo: bool = field(
        default=False, metadata={"help": "Create the repository as a private one."}
    )

    def __post_init__(self) -> None:
        if not self.model:
            raise UserError("model is missing: give --model DIR, a folder that a training stage wrote")


def _read_yaml(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _find(named: str | None, folder: Path) -> Path | None:
    """The folder that a run.yaml names: as written (relative to the working directory), or beside `folder`."""
    if not named:
        return None
    return next((path for path in (Path(named), folder.parent / Path(named).name) if path.is_dir()), None)


def lineage(folder: Path) -> list[Path]:
    """The model folders that led to `folder`, the first one pretrained, `folder` last."""
    folders = [folder]
    while previous := _find(_read_yaml(folders[0] / "run.yaml").get(PREVIOUS_MODEL), folders[0]):
        folders.insert(0, previous)
    return folders


def count_parameters(folder: Path) -> int:
    """Number of stored weights: tied ones count once."""
    total = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="np") as weights:
            total += sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118  # not a dict
    return total


def _number(value: Any) -> str:
    """A number as a person reads it; `not known` for None."""
    if value is None:
        return UNKNOWN
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:,.1f}"


def _interval(metric: Mapping[str, Any]) -> str:
    low, high = metric["ci95"]
    return f"{_number(metric['value'])} [{_number(low)}, {_number(high)}]"


def _architecture(folder: Path, config: dict[str, Any]) -> dict[str, str]:
    return {
        "parameters": _number(count_parameters(folder)),
        "layers": _number(config.get("num_hidden_layers")),
        "width": _number(config.get("hidden_size")),
        "attention heads (key-value heads)": f"{_number(config.get('num_attention_heads'))} "
        f"({_number(config.get('num_key_value_heads'))})",
        "context": f"{_number(config.get('max_position_embeddings'))} tokens",
        "vocabulary": f"{_number(config.get('vocab_size'))} tokens",
        "weights stored as": str(config.get("dtype", UNKNOWN)),
    }


def _stage(folder: Path) -> dict[str, str]:
    """Name, one-line summary and settings of the stage that wrote `folder`."""
    run = _read_yaml(folder / "run.yaml")
    rows = RunLog(folder / "log.jsonl").rows()
    training = [row for row in rows if "loss" in row]
    held_out = [row for row in rows if any(key.startswith("eval_") for key in row)]
    facts = []
    if run.get(PREVIOUS_MODEL):
        facts.append(f"from `{Path(run[PREVIOUS_MODEL]).name}`")
    if training:
        facts.append(f"{_number(training[-1]['step'])} steps")
        facts += [f"{_number(training[-1]['tokens'])} tokens"] if "tokens" in training[-1] else []
        facts.append(f"last training loss {_number(training[-1]['loss'])}")
        if "elapsed_seconds" in training[-1]:
            facts.append(f"{training[-1]['elapsed_seconds'] / 60:.1f} minutes")
    if held_out:
        measures = {key: value for key, value in held_out[-1].items() if key.startswith("eval_")}
        facts += [
            f"{key.replace('_', ' ')} {_number(value)}"
            for key, value in measures.items()
            if isinstance(value, float)
        ]
    settings = {key: run[key] for key in SETTINGS if run.get(key) is not None}
    return {
        "name": folder.name,
        "summary": ", ".join(facts) or UNKNOWN,
        "settings": yaml.safe_dump(settings, sort_keys=False, allow_unicode=True).rstrip()
        if settings
        else f"# {UNKNOWN}",
    }


def _training_text(base: Path) -> tuple[list[dict[str, str]], str]:
    """The rows of the table of sources, and one sentence on the size; empty where the shards are gone."""
    shards = _find(_read_yaml(base / "run.yaml").get("shards"), base)
    manifest_path = shards / "train" / "manifest.json" if shards else None
    if manifest_path is None or not manifest_path.is_file():
        return [], ""
    manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
    rows = [
        {"name": source["name"], "left_out": _number(sum(source["left_out"].values()))}
        | {key: _number(value) for key, value in source.items() if key not in ("name", "path", "left_out")}
        for source in manifest["sources"]
    ]
    size = (
        f"{_number(manifest['tokens'])} tokens, {_number(manifest['bytes'])} bytes, in blocks of "
        f"{_number(manifest['sequence_length'])} tokens (content hash `{manifest['content_hash'][:12]}`)."
    )
    return rows, size


def _eval_results(results: dict[str, dict[str, Any]]) -> list[EvalResult]:
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=benchmark,
            dataset_name=f"scratch-gpt {benchmark}",
            metric_type=metric,
            metric_name=metric,
            metric_value=value["value"],
            task_name=result["task"],
        )
        for benchmark, result in results.items()
        for metric, value in result["metrics"].items()
        if benchmark in BENCHMARKS and metric.count("/") <= 1  # not each kind of example
    ]


def _alignment(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Measure -> model -> value with its interval, from metrics called MODEL/MEASURE."""
    rows: dict[str, dict[str, str]] = {}
    for name, metric in metrics.items():
        model, _, measure = name.partition("/")
        rows.setdefault(measure, {})[model] = _interval(metric)
    return rows


def make_card(folder: str | Path, license_name: str = "unknown", repository: str | None = None) -> ModelCard:
    """Fill `model_card.md` for the model in `folder` from its own files and those of the stages before it.

    Args:
        folder: a model folder.
        license_name: of the weights, as the Hub spells licenses.
        repository: what the example of use loads; default: the folder itself.

    Raises:
        UserError: no model in the folder.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise UserError(
            f"no model in {folder} (config.json is missing): give a folder that a training stage wrote"
        )
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    is_causal = config["architectures"][0].endswith("ForCausalLM")
    folders = lineage(folder)
    is_chat = is_causal and len(folders) > 1
    results = {path.name: read_results(path) for path in folders}
    own = results[folder.name]
    reward_model = _find(_read_yaml(folder / "run.yaml").get("reward_model"), folder)
    stages = [_stage(path) for path in [*folders[:-1], *([reward_model] if reward_model else []), folder]]
    sources, text_size = _training_text(folders[0])
    samples_path = folder / "samples.json"
    versions: dict[str, str] = next((result["versions"] for result in own.values()), {})
    eval_results = _eval_results(own)
    data = ModelCardData(
        library_name="transformers",
        license=license_name,
        pipeline_tag="text-generation" if is_causal else "text-classification",
        tags=[
            "scratch-gpt",
            *(["conversational"] if is_chat else []),
            *([] if is_causal else ["reward-model"]),
        ],
        model_name=folder.resolve().name,
        eval_results=eval_results or None,
    )
    scores = [
        {
            "benchmark": score.benchmark,
            "metric": score.metric,
            "chance": "-" if score.chance is None else _number(score.chance),
            "cells": {
                name: _interval(score.values[name]) if name in score.values else "-" for name in results
            },
        }
        for score in compare(results)
        if score.is_headline
    ]
    kind = "chat model" if is_chat else "base model" if is_causal else "reward model"
    return ModelCard.from_template(
        data,
        template_path=str(scripts_folder() / "model_card.md"),
        name=folder.resolve().name,
        description=f"A {kind} of {_number(count_parameters(folder))} parameters, trained from nothing with scratch-gpt in "
        f"{len(folders)} stage{'s' if len(folders) > 1 else ''} of training: {' -> '.join(path.name for path in folders)}.",
        picture="report.png" if (folder / "report.png").is_file() else None,
        auto_class="AutoModelForCausalLM" if is_causal else "AutoModelForSequenceClassification",
        repository=repository or folder.as_posix(),
        is_chat=is_chat,
        architecture=_architecture(folder, config),
        stages=stages,
        sources=sources,
        text_size=text_size,
        models=list(results),
        scores=scores,
        alignment=_alignment(own["rlhf"]["metrics"]) if "rlhf" in own else None,
        samples=json.loads(samples_path.read_text(encoding="utf-8")) if samples_path.is_file() else [],
        provenance={
            "license": license_name if license_name != "unknown" else UNKNOWN,
            "seed": _read_yaml(folder / "run.yaml").get("seed", UNKNOWN),
            "software": ", ".join(f"{name} {version}" for name, version in versions.items()) or UNKNOWN,
        },
    )


def write_card(folder: str | Path, license_name: str = "unknown", repository: str | None = None) -> Path:
    """Write the card as `folder/README.md`, which appears complete or not at all; return its path.

    Raises:
        UserError: no model in the folder.
    """
    path = Path(folder) / "README.md"
    text = str(make_card(folder, license_name, repository))
    temporary = path.with_suffix(".md.tmp")
    temporary.write_text(text.rstrip() + "\n", encoding="utf-8")
    temporary.replace(path)
    return path


def upload(folder: str | Path, repository: str, *, private: bool = False, revision: str | None = None) -> str:
    """Upload the folder, without what the run keeps for itself, and return its address; write a card if it has none.

    With `revision`, into the branch of that name, which is made where it is not there.

    Raises:
        UserError: no model in the folder, no network, no right to write to the repository.
    """
    if not (Path(folder) / "README.md").is_file():
        write_card(folder, repository=repository)
    api = HfApi()
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repository, branch=revision, exist_ok=True)
        return str(
            api.upload_folder(
                repo_id=repository, folder_path=folder, ignore_patterns=NOT_UPLOADED, revision=revision
            )
        )
    # The client lets the errors of its HTTP library through, and that library changes.
    except Exception as error:
        reason = " ".join(str(error).split())
        message = f"not uploaded to {repository}: {reason} (a first upload needs `hf auth login`)"
        raise UserError(message) from error
