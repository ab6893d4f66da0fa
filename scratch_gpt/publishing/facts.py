# SPDX-License-Identifier: Apache-2.0
"""What the files of a run say, as a person reads it; the card and the report show it.

What the files do not say is called "not known", never guessed.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError, safe_open

from scratch_gpt.errors import UserError
from scratch_gpt.evaluation.compare import Comparison, Difference
from scratch_gpt.publishing.labels import UNKNOWN, held_out_measures, inline, number
from scratch_gpt.runs.cost import energy
from scratch_gpt.runs.folders import read_json, read_yaml
from scratch_gpt.runs.log import MONITOR, RunLog
from scratch_gpt.settings.sources import license_of


# What a reader of the card wants to know of a stage's arguments; run.yaml has them all.
CARD_SETTINGS = (
    *("sources", "shards", "model_config", "seed"),
    *("max_steps", "num_train_epochs", "per_device_train_batch_size", "gradient_accumulation_steps"),
    *("learning_rate", "lr_scheduler_type", "warmup_steps", "decay_ratio", "weight_decay", "optim"),
    *("max_length", "assistant_only_loss", "center_rewards_coefficient"),
    *("algorithm", "reward_model", "beta", "num_generations", "max_completion_length", "temperature"),
)

# What the manifest counts for each source.
CONSUMED = ("weight_asked", "weight_consumed", "documents", "tokens", "epochs", "bad_rows")

# A kind of question is a known failure below this share of the maximum; the card names this many, the worst ones.
WEAK, WEAKEST = 0.5, 8

GPT2_NAMES = {
    "n_layer": "num_hidden_layers",
    "n_embd": "hidden_size",
    "n_head": "num_attention_heads",
    "n_positions": "max_position_embeddings",
}

# The key of run.yaml that names the stage's first input model.
PREVIOUS_MODEL = "model_name_or_path"

# Stages that can begin with random weights; where they began from a published model, that is the origin.
FROM_NOTHING = ("pretrain", "seq2seq")

# Columns of what a stage measured on both sides of its training, and the stages that do.
BEFORE, AFTER, CHANGE = "before", "after", "change"
TUNED = ("sft", "dpo", "kto", "distill")


def read_samples(folder: Path) -> list[dict[str, Any]]:
    """What `samples.json` holds: `prompt`, and `answers` by the names of models; empty where there is none."""
    path = folder / "samples.json"
    samples: list[dict[str, Any]] = read_json(path) if path.is_file() else []
    return samples


def find_folder(named: str | None, folder: Path) -> Path | None:
    """The folder that a run.yaml names: as written (relative to the working directory), or beside `folder`."""
    if not named:
        return None
    return next((path for path in (Path(named), folder.parent / Path(named).name) if path.is_dir()), None)


def example_prompt(folders: Sequence[Path], is_chat: bool) -> str:
    """What the example of use asks: of the run's own samples, else of the prompts of its latest stage that names some.

    Args:
        folders: of `lineage`; what a base model continues is no question to a chat model.
        is_chat: whether the model answers in turns.
    """
    if is_chat and (samples := read_samples(folders[-1])):
        return str(samples[0]["prompt"])
    for folder in reversed(folders[1:] if is_chat and len(folders) > 1 else folders):
        if prompts := read_yaml(folder / "run.yaml").get("sample_prompts"):
            return str(prompts[0])
    return "Hello" if is_chat else "The"


def beginning(
    folders: Sequence[Path], records: Sequence[Mapping[str, Any]], origin: dict[str, Any] | None
) -> str:
    """What the model began from, in words; "trained" alone where the files do not say."""
    if origin:
        return f"tuned from {origin['name']}"
    run = read_yaml(folders[0] / "run.yaml")
    from_nothing = (
        records[0]["stage"] in FROM_NOTHING if records else "shards" in run and not run.get(PREVIOUS_MODEL)
    )
    return "trained from nothing" if from_nothing else "trained"


def lineage(folder: Path) -> list[Path]:
    """The model folders that led to `folder`, the first one pretrained, `folder` last."""
    folders = [folder]
    while previous := find_folder(read_yaml(folders[0] / "run.yaml").get(PREVIOUS_MODEL), folders[0]):
        # a copied folder that has the name of the one before it would be found as its own predecessor
        if previous.resolve() in (found.resolve() for found in folders):
            break
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
            message = f"{file} is damaged ({error}): save or copy it again"
            raise UserError("unreadable_file", message, file=file) from None
    return total


def interval(metric: Mapping[str, Any]) -> str:
    """A measure's value with its 95% interval."""
    low, high = metric["ci95"]
    return f"{number(metric['value'])} [{number(low)}, {number(high)}]"


def architecture_facts(folder: Path, config: dict[str, Any]) -> dict[str, str]:
    """The rows of the table of the model's shape."""
    config = {GPT2_NAMES.get(name, name): value for name, value in config.items()}
    return {
        "parameters": number(count_parameters(folder)),
        "layers": number(config.get("num_hidden_layers")),
        "width": number(config.get("hidden_size")),
        "attention heads (key-value heads)": f"{number(config.get('num_attention_heads'))} "
        f"({number(config.get('num_key_value_heads'))})",
        "context": f"{number(config.get('max_position_embeddings'))} tokens",
        "vocabulary": f"{number(config.get('vocab_size'))} tokens",
        "weights stored as": str(config.get("dtype", UNKNOWN)),
    }


def stage_facts(folder: Path) -> dict[str, str]:
    """Name, one-line summary and settings of the stage that wrote `folder`."""
    run = read_yaml(folder / "run.yaml")
    rows = RunLog(folder / "log.jsonl").rows()
    training = [row for row in rows if "loss" in row]
    held_out = [row for row in rows if any(key.startswith("eval_") for key in row)]
    facts = []
    if run.get(PREVIOUS_MODEL):
        facts.append(f"from `{Path(run[PREVIOUS_MODEL]).name}`")
    if training:
        facts.append(f"{number(training[-1]['step'])} steps")
        facts += [f"{number(training[-1]['tokens'])} tokens"] if "tokens" in training[-1] else []
        # of reinforcement the loss has the right gradient, and its value says nothing
        if not any("eval_kl" in row for row in held_out):
            facts.append(f"last training loss {number(training[-1]['loss'])}")
        if "elapsed_seconds" in training[-1]:
            facts.append(f"{training[-1]['elapsed_seconds'] / 60:.1f} minutes")
    if held_out:
        said = held_out_measures(held_out[-1])
        facts += [f"held out: {said}"] if said else []
    found = [
        (key.removeprefix(MONITOR), row["step"]) for row in rows for key in row if key.startswith(MONITOR)
    ]
    for failure in dict.fromkeys(name for name, _ in found):
        first = next(step for name, step in found if name == failure)
        facts.append(f"{failure} from step {number(first)}")
    settings = {key: run[key] for key in CARD_SETTINGS if run.get(key) is not None}
    if length := next((row for row in reversed(rows) if "planned_steps" in row), None):
        # `max_minutes` has set another length; the decay kept its steps
        steps, planned = length["max_steps"], length["planned_steps"]
        settings |= {"max_steps": steps, "decay_ratio": round(run["decay_ratio"] * planned / steps, 4)}
    return {
        "name": folder.name,
        "summary": ", ".join(facts) or UNKNOWN,
        "settings": yaml.safe_dump(settings, sort_keys=False, allow_unicode=True).rstrip()
        if settings
        else f"# {UNKNOWN}",
    }


def training_text(base: Path, records: list[dict[str, Any]]) -> tuple[list[dict[str, str]], str]:
    """The rows of the table of sources, and one sentence on the size; empty where nothing is known of them."""
    data = next((record["data"] for record in records if "content_hash" in record["data"]), None)
    if data is None:  # a folder from before there were records: the manifest, if the shards are still there
        declared = read_yaml(base / "run.yaml").get("shards")
        shards = find_folder(declared, base) if isinstance(declared, str) else None
        manifest_path = shards / "train" / "manifest.json" if shards else None
        if manifest_path is None or not manifest_path.is_file():
            return [], ""
        data = read_json(manifest_path)
    rows = [
        {
            "name": inline(source["name"]),
            "path": inline(source["path"]),
            "license": license_of(source) or UNKNOWN,
            # shards of older versions did not count it
            "left_out": number(sum(source["left_out"].values()) if "left_out" in source else None),
        }
        | {key: number(source.get(key)) for key in CONSUMED}
        # a source without an end, such as the primer, has no number of passes
        | ({"epochs": "-"} if source.get("epochs") is None else {})
        for source in data["sources"]
    ]
    size = (
        f"{number(data['tokens'])} tokens, {number(data['bytes'])} bytes, in blocks of "
        f"{number(data['sequence_length'])} tokens; hash of the content `{data['content_hash']}`, of the tokenizer "
        f"`{data.get('tokenizer_hash', UNKNOWN)}`."
    )
    return rows, size


def tuning_data(records: list[dict[str, Any]]) -> list[dict[str, str]]:
    """The rows of the table of what the later stages read."""
    return [
        {"stage": record["folder"], "license": source.get("license") or UNKNOWN}
        | {key: inline(source[key]) for key in ("name", "path")}
        for record in records
        if "content_hash" not in record["data"]
        for source in record["data"]["sources"]
    ]


def origin_facts(origin: dict[str, Any] | None) -> dict[str, str]:
    """What is known of the published model that this one began from."""
    if origin is None:
        return {}
    return {
        "origin": f"{origin['name']}, revision {origin['revision'] or UNKNOWN}, SHA-256 of its weights "
        f"`{origin['weights_sha256']}`"
    }


def duration(seconds: float | None) -> str:
    """Seconds as a person reads them."""
    if seconds is None:
        return UNKNOWN
    for unit, size in (("years", 365 * 86400), ("days", 86400), ("hours", 3600), ("minutes", 60)):
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
                "steps": number(record["steps"]),
                "tokens": number(record["tokens"]),
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
                "tokens": number(sums["tokens"]),
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


def score_rows(scores: Sequence[Comparison], models: Iterable[str]) -> list[dict[str, Any]]:
    """The rows of the table of whole tasks: benchmark, metric, chance, and `cells` of the models."""
    return [
        {
            "benchmark": score.benchmark,
            "metric": inline(score.title),
            "chance": "-" if score.chance is None else number(score.chance),
            "cells": {
                model: interval(score.values[model]) if model in score.values else "-" for model in models
            },
        }
        for score in scores
        if score.is_headline
    ]


def known_failures(
    scores: list[Comparison],
    model: str,
    previous: str | None = None,
    differences: Mapping[tuple[str, str], Difference] | None = None,
) -> list[str]:
    """What the benchmarks found the model unable to do: sentences, the worst kinds of questions last.

    Args:
        scores: of `compare`.
        model: name of the model that the card is about.
        previous: name of the model before it.
        differences: (benchmark, metric) -> what the model scores more than the previous one on the same items.
    """
    found = []
    for score in scores:
        if not score.is_headline or (own := score.values.get(model)) is None:
            continue
        usual = score.is_share and score.is_more_better and score.chance is not None
        if usual and own["ci95"][0] <= score.chance:
            found.append(
                f"{inline(score.metric)}: {interval(own)}, no better than guessing ({number(score.chance)})"
            )
        difference = (differences or {}).get((score.benchmark, score.metric))
        if difference and previous and previous in score.values and score.is_worse(difference):
            found.append(
                f"{inline(score.metric)}: {interval(own)}, worse than `{previous}` with {interval(score.values[previous])} "
                f"(difference {number(difference.value)}, p = {difference.p_value:.3f}, paired bootstrap on the same items)"
            )
    kinds = [
        (score.values[model]["value"] / score.full, score)
        for score in scores
        if not score.is_headline and score.is_share and model in score.values
    ]
    weakest = sorted((kind for kind in kinds if kind[0] < WEAK), key=lambda kind: kind[0])[:WEAKEST]
    found += [f"{inline(score.metric)}: {interval(score.values[model])}" for _, score in weakest]
    return found


def alignment_table(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Measure -> model -> value with its interval, from metrics called MODEL/MEASURE."""
    rows: dict[str, dict[str, str]] = {}
    for name, metric in metrics.items():
        model, _, measure = name.partition("/")
        rows.setdefault(measure, {})[model] = interval(metric)
    return rows


def tuning_table(results: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Measure -> before, after, change, of the stage that tuned a model; empty where it measured nothing.

    Args:
        results: of `read_results`.
    """
    metrics = {
        # what has no such name is a measure of the tuned model
        name if name.partition("/")[0] in (BEFORE, AFTER, CHANGE) else f"{AFTER}/{name}": metric
        for stage in TUNED
        if stage in results
        for name, metric in results[stage]["metrics"].items()
    }
    return alignment_table(metrics) if any(name.startswith(f"{BEFORE}/") for name in metrics) else {}


def forgotten(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Sentences on the general text, where the stage that tuned a model made it less likely by the paired bootstrap."""
    found = []
    for stage in TUNED:
        metrics = results.get(stage, {}).get("metrics", {})
        for name, change in metrics.items():
            # a single block has no interval
            beyond_chance = change["ci95"][0] > 0 and change.get("n") != 1
            if name.startswith(f"{CHANGE}/general_text") and beyond_chance:
                measure = name.partition("/")[2]
                before, after = (interval(metrics[f"{when}/{measure}"]) for when in (BEFORE, AFTER))
                found.append(f"{measure}: {after}, forgotten in tuning, before which it was {before}")
    return found
