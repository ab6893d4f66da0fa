# SPDX-License-Identifier: Apache-2.0
"""All that is drawn of one measure: the small figures of a report, comparisons, calibration, learning curves."""

import base64
import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.text import Text
from matplotlib.ticker import EngFormatter

from scratch_gpt.evaluation.compare import Comparison
from scratch_gpt.publishing.labels import measure_label
from scratch_gpt.runs.folders import atomic_write
from scratch_gpt.runs.results import Metric


# Categorical colours that also readers with a colour vision deficiency tell apart (Okabe and Ito 2008).
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#777777")
GREY = "#999999"
WIDTH, HEIGHT = 4.2, 2.5  # inches: a phone shows an inch on 85 pixels, where letters of 8 points can be read
MOST_POINTS = 800  # of a curve; more cannot be seen
PANELS_A_ROW = 4
# Families of Linux, macOS and Windows that have the letters which matplotlib's own lacks: of East Asia, India, Thailand.
FONTS = [
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
    "PingFang SC",
    "Hiragino Sans",
    "Apple SD Gothic Neo",
    "Microsoft YaHei",
    "Yu Gothic",
    "Malgun Gothic",
    "Noto Sans Devanagari",
    "Lohit Devanagari",
    "Kohinoor Devanagari",
    "Nirmala UI",
    "Noto Sans Bengali",
    "Noto Sans Tamil",
    "Noto Sans Telugu",
    "Noto Sans Thai",
    "Thonburi",
    "Leelawadee UI",
    "Arial Unicode MS",
    "Unifont",
]
STYLE: dict[str, Any] = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e8e8e8",
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "svg.fonttype": "none",  # text stays text: the browser has the fonts of all scripts
    "svg.hashsalt": "scratch-gpt",  # the same run gives the same file
}


@dataclass(frozen=True)
class Picture:
    """A drawn figure: `name` for its file, what it shows, and its two forms."""

    name: str
    title: str
    svg: str
    png: bytes

    @property
    def data_uri(self) -> str:
        """The picture as an address that needs no file; inside an image no script runs."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg.encode()).decode()


@dataclass(frozen=True)
class Curve:
    """Points of one measure; a held-out one is taken seldom, so its points are marked."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    held_out: bool = False


def label_of(text: str) -> str:
    """Any text as a label: short, on one line, and not read as a formula or as "hidden" by matplotlib."""
    line = " ".join(str(text).split())
    return (line if len(line) <= 40 else line[:39] + "\u2026").replace("$", r"\$").lstrip("_")


@cache
def _font_families() -> list[str]:
    """matplotlib's own font, behind it those of the system, and at last any that a browser has."""
    installed = set(font_manager.get_font_names())
    return ["DejaVu Sans", *(font for font in FONTS if font in installed), "sans-serif"]


def save_figure(figure: Figure, file: str | Path | IO[Any], **settings: Any) -> None:
    """Write a figure; letters that no font has become boxes, without a warning."""
    for text in figure.findobj(Text):
        if not text.get_text().isascii():
            text.set_fontfamily(_font_families())
    with warnings.catch_warnings():
        # in an .svg the browser has them
        warnings.filterwarnings("ignore", "Glyph .* missing from|Matplotlib currently does not", UserWarning)
        figure.savefig(file, **settings)


def _finish(figure: Figure, name: str, title: str) -> Picture:
    svg, png = io.StringIO(), io.BytesIO()
    save_figure(figure, svg, format="svg", metadata={"Date": None})
    save_figure(figure, png, format="png", dpi=150)
    return Picture(name, title, svg.getvalue(), png.getvalue())


def _thin(values: Sequence[float]) -> np.ndarray:
    array = np.asarray(values, dtype=float)
    return array[np.unique(np.linspace(0, len(array) - 1, min(len(array), MOST_POINTS)).astype(int))]


def draw_curves(
    name: str, title: str, curves: Sequence[Curve], x_label: str, y_label: str = ""
) -> Picture | None:
    """A line chart; None where no curve has a point."""
    curves = [curve for curve in curves if len(curve.y)]
    if not curves:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        axes = figure.add_subplot()
        held_out = 0
        for curve in curves:
            color = COLORS[held_out % len(COLORS)] if curve.held_out or len(curves) == 1 else GREY
            held_out += curve.held_out
            axes.plot(
                _thin(curve.x),
                _thin(curve.y),
                color=color,
                linewidth=1.6 if curve.held_out or len(curves) == 1 else 1,
                label=label_of(curve.label),
                marker="o" if len(curve.y) < 30 and (curve.held_out or len(curve.y) == 1) else None,
                markersize=3,
            )
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))  # 2.5M
        if len(curves) > 1:
            axes.legend(frameon=False, fontsize=7, ncols=2 if len(curves) > 4 else 1)
        return _finish(figure, name, title)


def draw_scores(
    name: str, title: str, scores: Sequence[Comparison], models: Sequence[str], share: bool
) -> Picture | None:
    """Bars from left to right, one group a measure, with 95% intervals; dotted: what guessing gets."""
    if not scores:
        return None
    colors = {
        model: COLORS[(number - 1) % len(COLORS)] if number else GREY for number, model in enumerate(models)
    }
    bar = 0.8 / len(models)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.7 + 0.15 * len(scores) * (len(models) + 1)), layout="constrained")
        axes = figure.add_subplot()
        for place, score in enumerate(scores):
            full = score.full if share else 1.0
            for number, model in enumerate(models):
                if model in score.values:
                    _draw_bar(
                        axes,
                        place + (number - (len(models) - 1) / 2) * bar,
                        bar,
                        score.values[model],
                        full,
                        colors[model],
                    )
            if share and score.chance is not None:  # what uniform bytes cost is far off the scale
                axes.vlines(
                    score.chance / full, place - 0.45, place + 0.45, color="black", linestyles="dotted"
                )
        axes.set_yticks(range(len(scores)), [label_of(measure_label(score.metric)) for score in scores])
        axes.set_ylim(len(scores) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        if share:
            axes.set_xlim(0, 1.02)
            axes.set_xlabel("share of the maximum")
        handles = [Patch(color=color, label=label_of(model)) for model, color in colors.items()]
        figure.legend(
            handles=handles, frameon=False, ncols=len(models), loc="outside upper right", fontsize=7
        )
        return _finish(figure, name, title)


def _draw_bar(
    axes: Axes, place: float, height: float, metric: Mapping[str, Any], full: float, color: str
) -> None:
    low, high = (bound / full for bound in metric["ci95"])
    axes.barh(place, metric["value"] / full, height * 0.9, color=color)
    axes.hlines(place, low, high, color="black", linewidth=0.9)


def write_pictures(pictures: Sequence[Picture], folder: Path) -> None:
    """Write each picture as a PNG."""
    for picture in pictures:
        with atomic_write(folder / f"{picture.name}.png") as temporary:
            temporary.write_bytes(picture.png)


def draw_comparison(scores: Sequence[Comparison], models: Sequence[str], path: str | Path) -> None:
    """One panel a number: each model's value with its interval, and a dotted line at the chance level.

    Every panel has its own scale, so that numbers of all kinds fit into one picture.
    """
    columns = min(PANELS_A_ROW, len(scores))
    rows = -(-len(scores) // columns)
    figure = Figure(figsize=(3.6 * columns, 0.8 + rows * (1.0 + 0.3 * len(models))), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, score in zip(grid.flat, scores, strict=False):
        for place, model in enumerate(models):
            if model in score.values:
                value, (low, high) = score.values[model]["value"], score.values[model]["ci95"]
                color = COLORS[place % len(COLORS)]
                axes.hlines(-place, low, high, color=color, linewidth=2)
                axes.plot(value, -place, "o", color=color, label=model)
        if score.chance is not None and score.is_share:  # what uniform bytes cost is far off any scale
            axes.axvline(score.chance, color="#777777", linestyle="dotted")
        axes.set_title(score.metric, fontsize=9, loc="left")
        axes.set_yticks([])
        axes.set_ylim(-len(models) + 0.5, 0.5)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right", "left"]].set_visible(False)
    for axes in list(grid.flat)[len(scores) :]:
        axes.set_visible(False)
    handles = {
        label: handle
        for axes in grid.flat
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(), handles.keys(), loc="outside upper left", ncols=len(models), frameon=False
    )
    with atomic_write(path) as temporary:
        save_figure(figure, temporary, format="png", dpi=120)


def draw_calibration(
    bins: Sequence[tuple[float, Metric]], error: Metric, num_pairs: int, path: str | Path
) -> None:
    """Draw the share ranked right over the predicted probability, with 95% intervals, as PNG.

    Args:
        bins: of `calibration_bins`.
        error: the calibration error of all pairs.
    """
    figure = Figure(figsize=(5, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0.5, 1], [0.5, 1], color="#777777", linestyle=":", label="calibrated")
    for x, share in bins:
        y, (low, high) = share.value, share.ci95
        axes.errorbar(x, y, [[max(y - low, 0)], [max(high - y, 0)]], color=COLORS[0], marker="o", capsize=3)
        axes.annotate(f"{share.n:,}", (x, y), xytext=(6, -12), textcoords="offset points", fontsize=8)
    axes.set_title(
        f"{num_pairs:,} held-out pairs, calibration error {error.value:.3f}", loc="left", fontsize=11
    )
    axes.set(xlabel="predicted probability of the better-scored answer", ylabel="share ranked right")
    axes.set(xlim=(0.48, 1.02), ylim=(-0.02, 1.04))
    axes.legend(frameon=False)
    with atomic_write(path) as temporary:
        save_figure(figure, temporary, format="png", dpi=120)


def draw_learning_curve(curve: Mapping[int, Metric], title: str, path: str | Path) -> None:
    """Draw the curve with its intervals over a logarithmic axis, and chance where it is known, as PNG."""
    rows, metrics = list(curve), list(curve.values())
    figure = Figure(figsize=(5.5, 4), layout="constrained")
    axes = figure.subplots()
    values = np.array([metric.value for metric in metrics])
    low, high = np.array([metric.ci95 for metric in metrics]).T
    # lists: of arrays with one element matplotlib 3.10 asks numpy 2.3 for a scalar, which warns
    errors = [(values - low).tolist(), (high - values).tolist()]
    axes.errorbar(rows, values, errors, color=COLORS[0], marker="o", capsize=3)
    if metrics[0].chance is not None:
        axes.axhline(metrics[0].chance, color="#777777", linestyle=":", label="chance")
        axes.legend(frameon=False)
    axes.set_xscale("log", base=2)
    axes.set_xticks(rows, [f"{count:,}" for count in rows])
    axes.minorticks_off()
    axes.set(xlabel="rows trained on", ylabel="held-out accuracy")
    axes.set_title(title, loc="left", fontsize=11)
    with atomic_write(path) as temporary:
        save_figure(figure, temporary, format="png", dpi=120)
