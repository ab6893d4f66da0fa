# SPDX-License-Identifier: Apache-2.0
"""One HTML page of a whole run, from the log and result files of its stages; nothing is loaded, nothing is run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from scratch_gpt.errors import UserError
from scratch_gpt.evaluation.compare import Comparison, compare, main_scores
from scratch_gpt.publishing.facts import (
    alignment_table,
    cost_table,
    lineage,
    read_samples,
    score_rows,
    stage_facts,
    training_text,
    tuning_table,
)
from scratch_gpt.publishing.labels import measure_label
from scratch_gpt.report.figures import Curve, Picture, draw_curves, draw_scores, write_pictures
from scratch_gpt.report.overview import STAGES, draw_report
from scratch_gpt.runs.folders import atomic_write
from scratch_gpt.runs.log import RunLog
from scratch_gpt.runs.provenance import read_provenance
from scratch_gpt.runs.results import read_results


BITS_PER_BYTE = "eval_bits_per_byte"
# A measure of the log -> its title and unit, beside the loss, which all have.
MEASURES = {
    "accuracy": ("pairs ranked right", "share"),
    "rewards/accuracies": ("pairs ranked right", "share"),
    "reward": ("reward, which is optimized", "reward"),
}
# Only drawn for those who look for a fault: folded at the end of the page.
DIAGNOSTICS = {
    "margin": ("margin between the sides", "reward"),
    "rewards/margins": ("margin between the sides", "reward"),
    "mean_token_accuracy": ("tokens predicted right", "share"),
    "completions/mean_length": ("length of the answers", "tokens"),
    "entropy": ("entropy of the next token", "nats"),
    "tokens_per_second": ("throughput", "tokens a second"),
    "learning_rate": ("learning rate", ""),
    "grad_norm": ("gradient norm, before clipping", ""),
}
DATA_COLUMNS = {
    "name": "source",
    "path": "from",
    "license": "license",
    "weight_asked": "weight asked",
    "weight_consumed": "weight consumed",
    "documents": "documents",
    "tokens": "tokens",
    "epochs": "times read",
    "bad_rows": "bad rows",
    "left_out": "left out by rules",
}
COST_COLUMNS = {
    "stage": "stage",
    "steps": "steps",
    "tokens": "tokens",
    "flops": "FLOPs",
    "time": "time in training steps",
    "energy": "energy",
    "hardware": "hardware",
}
SAMPLES_SHOWN = 60  # rows of samples.jsonl, the last ones
MOST_CHARACTERS = 600  # of one sample


@dataclass(frozen=True)
class Stage:
    """A model folder of the run and what its log says."""

    folder: Path
    rows: list[dict[str, Any]]

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    def curve(self, key: str, label: str = "training", over_tokens: bool = True) -> Curve:
        """The rows that have `key`, over tokens where they are known, else over steps."""
        found = [row for row in self.rows if isinstance(row.get(key), int | float)]
        steps = np.array([row["step"] for row in found], dtype=float)
        known = [(0, 0), *((row["step"], row["tokens"]) for row in self.rows if "tokens" in row)]
        if len(known) > 1 and over_tokens:
            steps = np.interp(steps, [step for step, _ in known], [tokens for _, tokens in known])
        return Curve(label, steps.tolist(), [row[key] for row in found], key.startswith("eval_"))


def find_stages(run_dir: Path) -> list[Stage]:
    """The model folders with a log in the run's folder (or that folder itself), in the order in which they were made."""
    logs = [run_dir / "log.jsonl"] if (run_dir / "log.jsonl").is_file() else run_dir.glob("*/log.jsonl")
    stages = [Stage(log.parent, RunLog(log).rows()) for log in logs]
    return sorted(
        stages, key=lambda s: (len(lineage(s.folder)), (s.folder / "log.jsonl").stat().st_mtime, s.name)
    )


def _stage_pictures(stage: Stage) -> tuple[list[Picture], list[Picture]]:
    """The curves of a stage, and its diagnostics; pretraining is drawn over tokens, reinforcement over steps."""
    reinforced = any("eval_kl" in row for row in stage.rows)
    x_label = "step" if reinforced or not any("tokens" in row for row in stage.rows) else "tokens"

    loss_title, loss_unit = "loss", "nats a token"
    if reinforced:
        loss_title, loss_unit = "loss: its gradient counts, not its value", ""
    elif any({"margin", "rewards/margins"} & row.keys() for row in stage.rows):
        loss_unit = "nats a pair"

    def draw(name: str, title: str, keys: dict[str, str], unit: str) -> Picture | None:
        curves = [stage.curve(key, label, over_tokens=x_label == "tokens") for key, label in keys.items()]
        return draw_curves(f"{stage.name}-{name}", title, curves, x_label, unit)

    def keys_with(part: str) -> dict[str, str]:
        names = dict.fromkeys(
            key for row in stage.rows for key in row if key.startswith("eval_") and part in key
        )
        return {key: measure_label(key) for key in names}

    sources = {
        key: key.removeprefix(BITS_PER_BYTE).lstrip("_") or "all held-out text"
        for key in keys_with("bits_per_byte")
    }

    def draw_all(measures: Mapping[str, tuple[str, str]]) -> list[Picture | None]:
        return [
            draw(key.replace("/", "-"), title, {key: "training", f"eval_{key}": "held out"}, unit)
            for key, (title, unit) in measures.items()
        ]

    loss = draw("loss", loss_title, {"loss": "training", "eval_loss": "held out"}, loss_unit)
    pictures = [
        None if reinforced else loss,
        draw("bits-per-byte", "bits per byte on held-out text, by source", sources, "bits per byte"),
        draw("gold", "gold score, which no stage sees", keys_with("gold"), "score") if reinforced else None,
        *draw_all(MEASURES),
        draw("kl", "KL from the model before", {"eval_kl": "held out"}, "nats an answer"),
    ]
    diagnostics = [
        loss if reinforced else None,
        # TRL's means: of tokens in rlhf, of whole answers in kto
        draw(
            "training-kl",
            "KL from the model before",
            {"kl": "training"},
            f"nats {'a token' if reinforced else 'an answer'}",
        ),
        *draw_all(DIAGNOSTICS),
    ]
    return (
        [picture for picture in pictures if picture is not None],
        [picture for picture in diagnostics if picture is not None],
    )


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + " \u2026"


def _samples_over_time(stage: Stage) -> list[dict[str, Any]]:
    """Step -> texts, as the stage wrote them on its way."""
    steps: dict[int, list[str]] = {}
    for row in RunLog(stage.folder / "samples.jsonl").rows()[-SAMPLES_SHOWN:]:
        steps.setdefault(row["step"], []).append(_cut(str(row["text"])))
    return [{"step": step, "texts": texts} for step, texts in steps.items()]


@dataclass(frozen=True)
class Table:
    """Rows of text under a head."""

    head: list[str]
    rows: list[list[str]]


def _columns(rows: Sequence[Mapping[str, str]], columns: Mapping[str, str]) -> Table | None:
    """The columns (key of a row -> head) of some rows; None without rows."""
    return Table(list(columns.values()), [[row[key] for key in columns] for row in rows]) if rows else None


def _score_table(scores: Sequence[Comparison], models: Sequence[str]) -> Table | None:
    labels = [
        measure_label(score.metric) + (f" ({score.note})" if score.note else "")
        for score in scores
        if score.is_headline
    ]
    rows = [
        [label, *row["cells"].values(), row["chance"]]
        for label, row in zip(labels, score_rows(scores, models), strict=True)
    ]
    return Table(["measure", *models, "chance"], rows) if rows else None


def _measure_table(measures: Mapping[str, Mapping[str, str]]) -> Table:
    """A row for each measure -> column -> value."""
    models = list(dict.fromkeys(model for values in measures.values() for model in values))
    return Table(
        ["measure", *models],
        [
            [measure_label(measure), *(values.get(model, "-") for model in models)]
            for measure, values in measures.items()
        ],
    )


def _score_pictures(scores: Sequence[Comparison], models: Sequence[str]) -> list[Picture]:
    bits = [score for score in scores if score.is_headline and "bits_per_byte" in score.metric]
    title = "main score of each task, 95% intervals; dotted: guessing"
    pictures = [
        draw_scores("benchmarks", title, main_scores(scores), models, share=True),
        draw_scores(
            "benchmark-bits-per-byte",
            "bits per byte of held-out text, less is better",
            bits,
            models,
            share=False,
        ),
    ]
    return [picture for picture in pictures if picture is not None]


def _read_samples(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """The last `samples.json`: the same questions to several models."""
    found = [samples for folder in folders if (samples := read_samples(folder))]
    return [
        {
            "prompt": _cut(sample["prompt"]),
            "answers": {name: _cut(text) for name, text in sample["answers"].items()},
        }
        for sample in (found[-1] if found else ())
    ]


def write_report(run_dir: str | Path) -> list[Path]:
    """Write `report.html`, `report.png` and `report/*.png` into the folder of a run; return the files and the last folder.

    `report.png` shows the stages of the pipeline; a run without any of them gets none. Each file appears complete or not at all. What the run does not have is left out of the page, which says so.

    Raises:
        UserError: no such folder, no stage with a log in it, or a damaged file of the run.
    """
    run_dir = Path(run_dir)
    stages = find_stages(run_dir.absolute())  # "." has no name
    if not stages:
        message = (
            f"no run in {run_dir} (no log.jsonl there or one folder below): give what a training stage wrote"
        )
        raise UserError("no_run", message, folder=run_dir)
    models = [stage.folder for stage in stages if (stage.folder / "results").is_dir()]
    results = {folder.name: read_results(folder) for folder in models}
    scores = compare(results)
    compared = [name for name in results if any(name in score.values for score in scores)]
    records = []
    for stage in stages:
        records += [record for record in read_provenance(stage.folder) if record not in records]
    costs, energy_assumption = cost_table(records)
    sources, text_size = training_text(stages[0].folder, records)
    tunings = {
        name: _measure_table(table) for name, of_model in results.items() if (table := tuning_table(of_model))
    }
    alignments = {
        name: _measure_table(alignment_table(of_model["rlhf"]["metrics"]))
        for name, of_model in results.items()
        if "rlhf" in of_model
    }
    pictures = {stage.name: _stage_pictures(stage) for stage in stages}
    score_pictures = _score_pictures(scores, compared)
    over_time = {stage.name: rows for stage in stages if (rows := _samples_over_time(stage))}
    samples = _read_samples([stage.folder for stage in stages])
    missing = {
        "benchmarks (no results/*.json of qa, translation or generation)": not scores,
        "a comparison before and after tuning (no results/*.json of sft, dpo, kto or distill)": not tunings,
        "a comparison before and after reinforcement (no results/rlhf.json)": not alignments,
        "samples over time (no samples.jsonl)": not over_time,
        "the same questions to several models (no samples.json)": not samples,
        "the data (neither provenance.json nor the shards' manifest)": not sources,
        "the cost (no provenance.json)": not costs,
    }
    template = jinja2.Environment(
        loader=jinja2.PackageLoader("scratch_gpt", "report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    ).get_template("page.html.jinja")
    page = template.render(
        title=run_dir.resolve().name,
        pipeline=[stage.name for stage in stages],
        stages=[
            stage_facts(stage.folder)
            | dict(zip(("pictures", "diagnostics"), pictures[stage.name], strict=True))
            for stage in stages
        ],
        score_pictures=score_pictures,
        score_table=_score_table(scores, compared),
        tunings=tunings,
        alignments=alignments,
        samples=samples,
        over_time=over_time,
        data_table=_columns(sources, DATA_COLUMNS),
        text_size=text_size,
        cost_table=_columns(costs, COST_COLUMNS),
        energy_assumption=energy_assumption,
        missing=[what for what, absent in missing.items() if absent],
    )
    write_pictures(
        [*(each for parts in pictures.values() for part in parts for each in part), *score_pictures],
        run_dir / "report",
    )
    path = run_dir / "report.html"
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="replace")
    of_the_road = any((run_dir / stage).is_dir() for stage in STAGES)
    return [path, *([draw_report(run_dir)] if of_the_road else []), run_dir / "report"]
