# SPDX-License-Identifier: Apache-2.0
"""The model card, filled from the files of the run alone.

What the files do not say is called "not known", never guessed.
"""

import html
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from safetensors import SafetensorError, safe_open

from scratch_gpt.errors import UserError
from scratch_gpt.evaluation.comparison import BENCHMARKS, Score, compare, read_results
from scratch_gpt.launching import scripts_folder
from scratch_gpt.tokenization import IM_END
from scratch_gpt.training.provenance import energy, read_provenance
from scratch_gpt.training.telemetry import RunLog


UNKNOWN = "not known"

# What a reader of the card wants to know of a stage's arguments; run.yaml has them all.
SETTINGS = (
    *("sources", "shards", "model_config", "seed"),
    *("max_steps", "num_train_epochs", "per_device_train_batch_size", "gradient_accumulation_steps"),
    *("learning_rate", "lr_scheduler_type", "warmup_steps", "decay_ratio", "weight_decay", "optim"),
    *("max_length", "assistant_only_loss", "center_rewards_coefficient"),
    *("algorithm", "reward_model", "beta", "num_generations", "max_completion_length", "temperature"),
)

# What the manifest counts for each source.
CONSUMED = ("weight_asked", "weight_consumed", "documents", "tokens", "epochs", "bad_rows")

# A kind of question is a known failure below this share of the maximum; the card names so many, the worst ones.
WEAK, WEAKEST = 0.5, 8

# Class of the model after its name's beginning -> task of the Hub, what it is called.
HEADS = {
    "ForCausalLM": ("text-generation", "base model"),
    "ForSequenceClassification": ("text-classification", "reward model"),
    "ForTokenClassification": ("token-classification", "tagging model"),
    "ForQuestionAnswering": ("question-answering", "reading model"),
    "ForMaskedLM": ("fill-mask", "encoder"),
    "ForConditionalGeneration": ("text-generation", "encoder-decoder"),
    "": ("feature-extraction", "model without a head"),
}

# The key of run.yaml that names the stage's first input model.
PREVIOUS_MODEL = "model_name_or_path"


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
    """Number of stored weights, tied ones counted once; UserError if a file of theirs is damaged."""
    total = 0
    for file in folder.glob("*.safetensors"):
        try:
            with safe_open(file, framework="np") as weights:
                total += sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118  # not a dict
        except SafetensorError as error:
            raise UserError(f"{file} is damaged ({error}): save or copy it again") from None
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


def _training_text(base: Path, records: list[dict[str, Any]]) -> tuple[list[dict[str, str]], str]:
    """The rows of the table of sources, and one sentence on the size; empty where nothing is known of them."""
    data = next((record["data"] for record in records if "content_hash" in record["data"]), None)
    if data is None:  # a folder from before there were records: the manifest, if the shards are still there
        shards = _find(_read_yaml(base / "run.yaml").get("shards"), base)
        manifest_path = shards / "train" / "manifest.json" if shards else None
        if manifest_path is None or not manifest_path.is_file():
            return [], ""
        data = json.loads(manifest_path.read_text(encoding="utf-8"))
    rows = [
        {
            "name": source["name"],
            "path": source["path"],
            "license": source.get("license") or UNKNOWN,
            "left_out": _number(sum(source["left_out"].values())),
        }
        | {key: _number(source.get(key)) for key in CONSUMED}
        for source in data["sources"]
    ]
    size = (
        f"{_number(data['tokens'])} tokens, {_number(data['bytes'])} bytes, in blocks of "
        f"{_number(data['sequence_length'])} tokens; hash of the content `{data['content_hash']}`, of the tokenizer "
        f"`{data.get('tokenizer_hash', UNKNOWN)}`."
    )
    return rows, size


def _tuning_data(records: list[dict[str, Any]]) -> list[dict[str, str]]:
    """The rows of the table of what the later stages read."""
    return [
        {"stage": record["folder"], "license": source.get("license") or UNKNOWN}
        | {key: source[key] for key in ("name", "path")}
        for record in records
        if "content_hash" not in record["data"]
        for source in record["data"]["sources"]
    ]


def duration(seconds: float | None) -> str:
    """Seconds as a person reads them."""
    if seconds is None:
        return UNKNOWN
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def cost_table(records: list[dict[str, Any]]) -> tuple[list[dict[str, str]], str]:
    """What each stage took, and all together where more than one is known; and the assumption behind the energy."""
    rows = []
    for record in records:
        hardware = record["hardware"]
        rows.append(
            {
                "stage": record["folder"],
                "steps": _number(record["steps"]),
                "tokens": _number(record["tokens"]),
                "flops": UNKNOWN if record["flops"] is None else f"{record['flops']:.2e}",
                "time": duration(record["seconds"]),
                "hardware": f"{hardware['processes']} x {hardware['device']}"
                + ("" if hardware["gpu"] else f", {hardware['threads']} of {hardware['cpus']} cores"),
                "energy": _energy(energy(record)[0]),
            }
        )
    if len(rows) > 1:
        together: dict[str, list[Any]] = {
            "tokens": [record["tokens"] for record in records],
            "flops": [record["flops"] for record in records],
            "seconds": [record["seconds"] for record in records],
            "energy": [energy(record)[0] for record in records],
        }
        sums = {name: None if None in values else sum(values) for name, values in together.items()}
        rows.append(
            {
                "stage": "together",
                "steps": "",
                "tokens": _number(sums["tokens"]),
                "flops": UNKNOWN if sums["flops"] is None else f"{sums['flops']:.2e}",
                "time": duration(sums["seconds"]),
                "hardware": "",
                "energy": _energy(sums["energy"]),
            }
        )
    return rows, "; ".join(dict.fromkeys(energy(record)[1] for record in records))


def _energy(kwh: float | None) -> str:
    if kwh is None:
        return UNKNOWN
    return f"{kwh:.3g} kWh" if kwh >= 1 else f"{1000 * kwh:.2g} Wh"


def known_failures(scores: list[Score], model: str, previous: str | None) -> list[str]:
    """What the benchmarks found the model unable to do: sentences, the worst kinds of questions last."""
    found = []
    for score in scores:
        if not (score.is_share and score.is_headline) or (own := score.values.get(model)) is None:
            continue
        if score.chance is not None and own["ci95"][0] <= score.chance:
            found.append(
                f"{score.metric}: {_interval(own)}, no better than guessing ({_number(score.chance)})"
            )
        before = score.values.get(previous) if previous else None
        if before is not None and own["ci95"][1] < before["ci95"][0] and "repetition" not in score.metric:
            found.append(f"{score.metric}: {_interval(own)}, less than `{previous}` had: {_interval(before)}")
    kinds = [
        (score.values[model]["value"] / score.full, score)
        for score in scores
        if not score.is_headline and score.is_share and model in score.values
    ]
    weakest = sorted((kind for kind in kinds if kind[0] < WEAK), key=lambda kind: kind[0])[:WEAKEST]
    found += [f"{score.metric}: {_interval(score.values[model])}" for _, score in weakest]
    return found


def _eval_results(results: dict[str, dict[str, Any]]) -> list[EvalResult]:
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=benchmark,
            dataset_name=f"scratch-gpt {benchmark}",
            dataset_split="test",
            metric_type=metric,
            metric_name=f"{metric} (95% interval {_number(value['ci95'][0])} to {_number(value['ci95'][1])}, chance "
            f"{_number(value['chance'])})",
            metric_value=round(value["value"], 6),
            metric_args={"ci95": [round(bound, 6) for bound in value["ci95"]], "chance": value["chance"]},
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


def _ends_turns(folder: Path) -> bool:
    """Whether the model's answers end with the end of a turn: from instruction tuning on."""
    path = folder / "tokenizer_config.json"
    return path.is_file() and json.loads(path.read_text(encoding="utf-8")).get("eos_token") == IM_END


def _plain(text: str) -> str:
    """Text of a model, to be shown in Markdown as it is: on one line, without markup."""
    line = " / ".join(filter(str.strip, text.splitlines()))
    return re.sub(r"([\\`*_\[\]|#~$])", r"\\\1", html.escape(line, quote=False))


def _provenance(
    folder: Path, license_name: str, records: list[dict[str, Any]], results: dict[str, dict[str, Any]]
) -> dict[str, str]:
    """License, seeds, commits of the code, versions and dates, as far as known."""
    seeds = {record["folder"]: record["seed"] for record in records}
    seeds = seeds or {folder.name: _read_yaml(folder / "run.yaml").get("seed", UNKNOWN)}
    commits = dict.fromkeys(record["git_commit"] or UNKNOWN for record in records)
    versions = [record["versions"] for record in records] or [
        result["versions"] for result in results.values()
    ]
    software = dict.fromkeys(
        ", ".join(f"{name} {version}" for name, version in of_stage.items()) for of_stage in versions
    )
    return {
        "license": license_name if license_name != "unknown" else UNKNOWN,
        "seed": ", ".join(f"{seed} ({stage})" for stage, seed in seeds.items())
        if len(set(seeds.values())) > 1
        else str(next(iter(seeds.values()))),
        "code": ", ".join(f"git commit {commit}" for commit in commits) or f"git commit {UNKNOWN}",
        "software": "; ".join(software) or UNKNOWN,
        "finished": records[-1]["finished"] if records else UNKNOWN,
    }


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
    architecture = config["architectures"][0]
    auto_class, task, kind = next(
        (f"AutoModel{head}", *of_head) for head, of_head in HEADS.items() if architecture.endswith(head)
    )
    is_chat = kind == "base model" and _ends_turns(folder)
    name = repository.split("/")[-1] if repository else folder.resolve().name
    folders, records = lineage(folder), read_provenance(folder)
    results = {path.name: read_results(path) for path in folders}
    own = results[folder.name]
    reward_model = _find(_read_yaml(folder / "run.yaml").get("reward_model"), folder)
    stages = [_stage(path) for path in [*folders[:-1], *([reward_model] if reward_model else []), folder]]
    road = [record["folder"] for record in records] or [path.name for path in folders]
    sources, text_size = _training_text(folders[0], records)
    costs, energy_assumption = cost_table(records)
    samples_path = folder / "samples.json"
    samples = json.loads(samples_path.read_text(encoding="utf-8")) if samples_path.is_file() else []
    data = ModelCardData(
        library_name="transformers",
        license=license_name,
        pipeline_tag=task,
        tags=["scratch-gpt", *["conversational"] * is_chat, *["reward-model"] * (kind == "reward model")],
        model_name=name,
        eval_results=_eval_results(own) or None,
    )
    compared = compare(results)
    scores = [
        {
            "benchmark": score.benchmark,
            "metric": score.metric,
            "chance": "-" if score.chance is None else _number(score.chance),
            "cells": {
                model: _interval(score.values[model]) if model in score.values else "-" for model in results
            },
        }
        for score in compared
        if score.is_headline
    ]
    return ModelCard.from_template(
        data,
        template_path=str(scripts_folder() / "model_card.md"),
        name=name,
        description=f"A {'chat model' if is_chat else kind} of {_number(count_parameters(folder))} parameters, trained from "
        f"nothing with scratch-gpt in {len(road)} stage{'s' * (len(road) > 1)} of training: {' -> '.join(road)}.",
        picture="report.png" if (folder / "report.png").is_file() else None,
        auto_class=auto_class,
        repository=repository or folder.as_posix(),
        is_chat=is_chat,
        architecture=_architecture(folder, config),
        stages=stages,
        sources=sources,
        text_size=text_size,
        tuning_data=_tuning_data(records),
        costs=costs,
        energy_assumption=energy_assumption,
        models=list(results),
        scores=scores,
        alignment=_alignment(own["rlhf"]["metrics"]) if "rlhf" in own else None,
        samples=[
            {
                "prompt": _plain(sample["prompt"]),
                "answers": {model: _plain(answer) for model, answer in sample["answers"].items()},
            }
            for sample in samples
        ],
        failures=known_failures(compared, folder.name, folders[-2].name if len(folders) > 1 else None),
        provenance=_provenance(folder, license_name, records, own),
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
