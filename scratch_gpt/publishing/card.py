# SPDX-License-Identifier: Apache-2.0
"""The model card, filled from the files of the run alone."""

import html
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers import GenerationConfig

from scratch_gpt.configuration_scratch_gpt import REQUIRED
from scratch_gpt.evaluation.compare import BENCHMARKS, compare, headline_differences
from scratch_gpt.inference.loading import check_folder, load_tokenizer_beside
from scratch_gpt.inference.turns import is_chat, prepare_turns
from scratch_gpt.publishing.eval_results import write_eval_results
from scratch_gpt.publishing.facts import (
    alignment_table,
    architecture_facts,
    beginning,
    cost_table,
    count_parameters,
    example_prompt,
    find_folder,
    forgotten,
    known_failures,
    lineage,
    origin_facts,
    read_samples,
    score_rows,
    stage_facts,
    training_text,
    tuning_data,
    tuning_table,
)
from scratch_gpt.publishing.labels import UNKNOWN, number
from scratch_gpt.publishing.licenses import check_license
from scratch_gpt.publishing.metadata import Metadata, base_model_fields, hub_datasets
from scratch_gpt.runs.folders import atomic_write, read_json, read_yaml
from scratch_gpt.runs.provenance import read_origin, read_provenance
from scratch_gpt.runs.results import read_results
from scratch_gpt.settings.parsing import scripts_folder


NOTHING_SAID = Metadata()

# How the name of the model's class ends -> task of the Hub, what such a model is called.
HEADS = {
    "ForCausalLM": ("text-generation", "base model"),
    "ForSequenceClassification": ("text-classification", "reward model"),
    "ForTokenClassification": ("token-classification", "tagging model"),
    "ForQuestionAnswering": ("question-answering", "reading model"),
    "ForMaskedLM": ("fill-mask", "encoder"),
    "ForConditionalGeneration": ("text-generation", "encoder-decoder"),
    "": ("feature-extraction", "model without a head"),
}


def _eval_results(results: dict[str, dict[str, Any]]) -> list[EvalResult]:
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=benchmark,
            dataset_name=f"scratch-gpt {benchmark}",
            dataset_split="test",
            metric_type=metric,
            metric_name=f"{metric} (95% interval {number(value['ci95'][0])} to {number(value['ci95'][1])}, chance "
            f"{number(value['chance'])})",
            metric_value=round(value["value"], 6),
            metric_args={"ci95": [round(bound, 6) for bound in value["ci95"]], "chance": value["chance"]},
            task_name=result["task"],
        )
        for benchmark, result in results.items()
        for metric, value in result["metrics"].items()
        if benchmark in BENCHMARKS and metric.count("/") <= 1  # not each kind of example
    ]


def _ends_turns(folder: Path) -> bool:
    """Whether the model's answers end with the end of a turn: from instruction tuning on."""
    tokenizer = load_tokenizer_beside(folder)
    if tokenizer is None:
        return False
    settings = folder / "generation_config.json"
    prepare_turns(tokenizer, GenerationConfig.from_pretrained(folder) if settings.is_file() else None)
    return is_chat(tokenizer)


def _plain(text: str) -> str:
    """Text of a model, to be shown in Markdown as it is: on one line, without markup."""
    line = " / ".join(filter(str.strip, text.splitlines()))
    return re.sub(r"([\\`*_\[\]|#~$])", r"\\\1", html.escape(line, quote=False))


def _distinct_names(folders: Sequence[Path]) -> list[str]:
    """The folders' names, with their parents' where two are alike."""
    names = [folder.name for folder in folders]
    return [
        f"{folder.parent.name}/{folder.name}" if names.count(folder.name) > 1 else folder.name
        for folder in folders
    ]


def _provenance(
    folder: Path, license: str, records: list[dict[str, Any]], results: dict[str, dict[str, Any]]
) -> dict[str, str]:
    """License, seeds, commits of the code, versions and dates, as far as known."""
    seeds = {record["folder"]: record["seed"] for record in records}
    seeds = seeds or {folder.name: read_yaml(folder / "run.yaml").get("seed", UNKNOWN)}
    commits = dict.fromkeys(record["git_commit"] or UNKNOWN for record in records)
    versions = [record["versions"] for record in records] or [
        result["versions"] for result in results.values()
    ]
    software = dict.fromkeys(
        ", ".join(f"{name} {version}" for name, version in of_stage.items()) for of_stage in versions
    )
    return {
        "license": license if license != "unknown" else UNKNOWN,
        "seed": ", ".join(f"{seed} ({stage})" for stage, seed in seeds.items())
        if len(set(seeds.values())) > 1
        else str(next(iter(seeds.values()))),
        "code": ", ".join(f"git commit {commit}" for commit in commits) or f"git commit {UNKNOWN}",
        "software": "; ".join(software) or UNKNOWN,
        "finished": records[-1]["finished"] if records else UNKNOWN,
    }


def make_card(
    folder: str | Path,
    license: str = "unknown",
    repository: str | None = None,
    license_name: str | None = None,
    metadata: Metadata = NOTHING_SAID,
) -> ModelCard:
    """Fill `model_card.md` for the model in `folder` from its own files and those of the stages before it.

    Args:
        folder: a model folder.
        license: of the weights, by the Hub's identifier.
        repository: what the example of use loads; default: the folder itself.
        license_name: of a license that the Hub has no identifier for.
        metadata: what the user says of the model.

    Raises:
        UserError: no model in the folder, or a damaged file of the run; no license of the Hub's.
    """
    check_license(license, license_name)
    written, folder = Path(folder), Path(folder).absolute()  # "." has no name
    check_folder(folder)
    config = read_json(folder / "config.json")
    architecture = config["architectures"][0].replace("LMHeadModel", "ForCausalLM")  # GPT-2's older name
    head = next(name for name in HEADS if architecture.endswith(name))
    task, kind = HEADS[head]
    auto_map = config.get("auto_map", {})
    auto_class = next(
        (name for name, place in auto_map.items() if place.endswith(f".{architecture}")), f"AutoModel{head}"
    )
    is_chat = kind == "base model" and _ends_turns(folder)
    name = repository.split("/")[-1] if repository else folder.name
    folders, records = lineage(folder), read_provenance(folder)
    names = _distinct_names(folders)
    results = {label: read_results(path) for label, path in zip(names, folders, strict=True)}
    own = results[names[-1]]
    reward_model = find_folder(read_yaml(folder / "run.yaml").get("reward_model"), folder)
    stages = [
        stage_facts(path) for path in [*folders[:-1], *([reward_model] if reward_model else []), folder]
    ]
    stage_names = [record["folder"] for record in records] or [path.name for path in folders]
    origin = read_origin(folder)
    sources, text_size = training_text(folders[0], records)
    costs, energy_assumption = cost_table(records)
    data = ModelCardData(
        library_name="transformers",
        license=license,
        license_name=license_name,
        pipeline_tag=task,
        language=list(metadata.language) or None,
        datasets=list(dict.fromkeys([*hub_datasets(records), *metadata.datasets])) or None,
        **base_model_fields(metadata, origin, records),
        tags=["scratch-gpt", *["conversational"] * is_chat, *["reward-model"] * (kind == "reward model")],
        model_name=name,
        eval_results=_eval_results(own) or None,
    )
    compared = compare(results)
    measured = compare(results, list(dict.fromkeys(each for found in results.values() for each in found)))
    differences = headline_differences(folder, folders[-2]) if len(folders) > 1 else {}
    return ModelCard.from_template(
        data,
        template_path=str(scripts_folder() / "model_card.md"),
        name=name,
        description=f"A {'chat model' if is_chat else kind} of {number(count_parameters(folder))} parameters, {beginning(folders, records, origin)} with "
        f"scratch-gpt in {len(stage_names)} stage{'s' * (len(stage_names) > 1)} of training: {' -> '.join(stage_names)}.",
        picture="report.png" if (folder / "report.png").is_file() else None,
        auto_class=auto_class,
        repository=repository or written.as_posix(),
        requires=REQUIRED if auto_map else None,  # without: a class of transformers' own
        is_chat=is_chat,
        prompt=json.dumps(example_prompt(folders, is_chat), ensure_ascii=False),  # a literal of Python too
        architecture=architecture_facts(folder, config),
        stages=stages,
        sources=sources,
        text_size=text_size,
        tuning_data=tuning_data(records),
        costs=costs,
        energy_assumption=energy_assumption,
        models=list(results),
        origin=origin,
        scores=score_rows(compared, results),
        tuning=tuning_table(own),
        alignment=alignment_table(own["rlhf"]["metrics"]) if "rlhf" in own else None,
        verdict=own.get("rlhf", {}).get("settings", {}).get("verdict"),
        samples=[
            {
                "prompt": _plain(sample["prompt"]),
                "answers": {model: _plain(answer) for model, answer in sample["answers"].items()},
            }
            for sample in read_samples(folder)
        ],
        failures=forgotten(own)
        + known_failures(measured, names[-1], names[-2] if len(names) > 1 else None, differences),
        is_measured=any(names[-1] in score.values for score in compared),
        tested=len(differences),
        provenance=_provenance(folder, license_name or license, records, own) | origin_facts(origin),
    )


def write_card(
    folder: str | Path,
    license: str = "unknown",
    repository: str | None = None,
    license_name: str | None = None,
    metadata: Metadata = NOTHING_SAID,
) -> Path:
    """Write the card as `folder/README.md`, which appears complete or not at all, and `.eval_results/`; return the card's path.

    Raises:
        UserError: see `make_card`.
    """
    path = Path(folder) / "README.md"
    text = str(make_card(folder, license, repository, license_name, metadata))
    write_eval_results(path.parent, read_results(path.parent))
    with atomic_write(path) as temporary:
        temporary.write_text(text.rstrip() + "\n", encoding="utf-8")
    return path
