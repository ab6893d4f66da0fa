# SPDX-License-Identifier: Apache-2.0
"""One picture of a whole run: losses, rewards and scores, drawn from the log and result files of its stages."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from scratch_gpt.evaluation.compare import Comparison, compare, main_scores
from scratch_gpt.publishing.labels import measure_label
from scratch_gpt.report.figures import COLORS, save_figure
from scratch_gpt.runs.folders import atomic_write
from scratch_gpt.runs.log import RunLog
from scratch_gpt.runs.results import read_results


BLUE, ORANGE, GREEN, PURPLE, *_, GREY = COLORS

# The stages with a log, in the order of the pipeline.
STAGES = ("base", "chat", "reward", "aligned")
# The models that talk.
MODELS = ("base", "chat", "aligned")
MODEL_COLORS = dict(zip(MODELS, (GREY, BLUE, ORANGE), strict=True))


def _series(rows: list[dict[str, Any]], key: str) -> tuple[list[int], list[float]]:
    points = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
    return [step for step, _ in points], [value for _, value in points]


def _plot(axes: Axes, rows: list[dict[str, Any]], curves: Mapping[str, tuple[str, str]], title: str) -> None:
    """Draw each curve (key of the log -> label, color) that the log has."""
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    axes.set_xlabel("step")
    for key, (label, color) in curves.items():
        steps, values = _series(rows, key)
        if steps:
            # A held-out measure is taken seldom: its points are shown.
            axes.plot(
                steps,
                values,
                color=color,
                label=label,
                marker="o" if key.startswith("eval_") else None,
                markersize=4,
            )
    if axes.lines:
        axes.legend(frameon=False, fontsize=9)
    else:
        axes.text(0.5, 0.5, "nothing logged", transform=axes.transAxes, ha="center", color=GREY)


def _in_bits_per_byte(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Pretraining rows with `bits_per_byte`: the training loss by the exchange rate of the held-out text."""
    rates = [row["eval_bits_per_byte"] / row["eval_loss"] for row in rows if "eval_bits_per_byte" in row]
    if not rates:
        return rows
    return [{**row, "bits_per_byte": row["loss"] * rates[-1]} if "loss" in row else row for row in rows]


def _plot_scores(axes: Axes, scores: list[Comparison]) -> None:
    """Bars with 95% intervals, one group a measure; a dotted line where guessing would be."""
    axes.set_title(
        "main score of each task (share of the maximum, 95% intervals; dotted: guessing)",
        loc="left",
        fontsize=11,
        fontweight="bold",
    )
    width = 0.8 / len(MODELS)
    for place, score in enumerate(scores):
        for offset, model in enumerate(MODELS):
            if model in score.values:
                value = score.values[model]["value"] / score.full
                low, high = (bound / score.full for bound in score.values[model]["ci95"])
                x = place + (offset - (len(MODELS) - 1) / 2) * width
                axes.bar(x, value, width * 0.92, color=MODEL_COLORS[model])
                axes.vlines(x, low, high, color="black", linewidth=1)
        if score.chance is not None:
            axes.hlines(
                score.chance / score.full,
                place - 0.45,
                place + 0.45,
                color="black",
                linestyles="dotted",
                linewidth=1.2,
            )
    labels = [measure_label(score.metric).replace(": ", ":\n") for score in scores]
    axes.set_xticks(range(len(scores)), labels, fontsize=9)
    axes.set_ylim(0, 1.05)
    if scores:
        handles = [Patch(color=color, label=model) for model, color in MODEL_COLORS.items()]
        axes.legend(
            handles=handles, frameon=False, ncols=len(MODELS), loc="upper right", bbox_to_anchor=(1, 1.16)
        )


def draw_report(run_dir: str | Path) -> Path:
    """Draw `run_dir/report.png` from `base/`, `chat/`, `reward/` and `aligned/`, as far as they exist."""
    run_dir = Path(run_dir)
    rows = {stage: RunLog(run_dir / stage / "log.jsonl").rows() for stage in STAGES}
    figure = Figure(figsize=(15, 12), layout="constrained")
    grid = figure.add_gridspec(3, 3, height_ratios=[1, 1, 1.15])
    panels = [figure.add_subplot(grid[row, column]) for row in range(2) for column in range(3)]
    pretraining, sft, reward, rewards, gold, kl = panels
    curves: dict[str, tuple[str, str]] = {
        "bits_per_byte": ("training", GREY),
        "eval_bits_per_byte": ("held out", BLUE),
    }
    _plot(pretraining, _in_bits_per_byte(rows["base"]), curves, "pretraining: bits per byte")
    curves = {"loss": ("training", GREY), "eval_loss": ("held out", BLUE)}
    _plot(sft, rows["chat"], curves, "supervised fine-tuning: loss per token")
    curves = {"accuracy": ("training", GREY), "eval_accuracy": ("held out", BLUE)}
    _plot(reward, rows["reward"], curves, "reward model: pairs ranked right")
    _plot(rewards, rows["aligned"], {"reward": ("reward", ORANGE)}, "alignment: the reward model's score")
    names = sorted({key for row in rows["aligned"] for key in row if "gold" in key})
    curves = {name: (measure_label(name), color) for name, color in zip(names, (GREEN, GREY, PURPLE, BLUE))}
    _plot(gold, rows["aligned"], curves, "alignment: gold score of development prompts")
    _plot(kl, rows["aligned"], {"kl": ("KL", PURPLE)}, "alignment: KL from the chat model (nats a token)")
    results = {model: read_results(run_dir / model) for model in MODELS}
    _plot_scores(figure.add_subplot(grid[2, :]), main_scores(compare(results)))
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e5e5e5")
        axes.set_axisbelow(True)
    path = run_dir / "report.png"
    with atomic_write(path) as temporary:
        save_figure(figure, temporary, format="png", dpi=110)
    return path
