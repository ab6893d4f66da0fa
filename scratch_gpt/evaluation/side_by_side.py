# SPDX-License-Identifier: Apache-2.0
"""`scratch-gpt compare`: the results of several models in one table and one picture, each against the first."""

import sys
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from scratch_gpt.data.folders import written_file
from scratch_gpt.errors import UserError
from scratch_gpt.evaluation.comparison import BENCHMARKS, COLORS, Score, compare, read_results
from scratch_gpt.evaluation.significance import Difference, item_difference, read_items


PANELS_A_ROW = 4

# (benchmark, metric, model) -> how the model differs from the first one.
Differences = dict[tuple[str, str, str], Difference]


def compare_folders(
    folders: Sequence[str], picture: str | None = None, all_kinds: bool = False, seed: int = 0
) -> tuple[list[Score], Differences]:
    """Line up the result files of model folders, test each against the first, and draw them where a picture is asked.

    Raises:
        UserError: fewer than two folders, or one twice; a folder without results; no number that two of them have.
    """
    if len(folders) < 2 or len(set(folders)) < len(folders):
        message = f"compare takes two or more different folders, got {' '.join(folders) or 'none'}"
        raise UserError("too_few_folders", message, folders=folders)
    results = {folder: read_results(folder) for folder in folders}
    for folder, found in results.items():
        if not found:
            message = (
                f"no results in {folder}/results: run a benchmark first, as scratch-gpt qa --model {folder}"
            )
            raise UserError("no_results", message, folder=folder)
    benchmarks = dict.fromkeys((*BENCHMARKS, *(name for found in results.values() for name in found)))
    scores = [
        score
        for score in compare(results, list(benchmarks))
        if len(score.values) > 1 and (all_kinds or score.is_headline)
    ]
    if not scores:
        message = "no number that two of the folders have: run the same benchmark on each"
        raise UserError("no_common_metric", message)
    first, *others = folders
    items = {folder: read_items(folder) for folder in folders}
    differences = {}
    for score in scores:
        place = (score.benchmark, score.metric)
        for folder in others:
            found_difference = item_difference(items[folder].get(place), items[first].get(place), seed)
            if found_difference is not None:
                differences[(*place, folder)] = found_difference
    if picture is not None:
        draw_comparison(scores, folders, Path(picture))
    return scores, differences


def print_comparison(scores: Sequence[Score], differences: Differences) -> None:
    """One row a number, one column a model; what stands apart from the first model's on the same items has a star."""
    models = list(dict.fromkeys(model for score in scores for model in score.values))
    table = Table("benchmark", "metric", *models, "chance", title="Each model against the first")
    for score in scores:
        cells = []
        for model in models:
            difference = differences.get((score.benchmark, score.metric, model))
            cells.append(_cell(score, model, difference))
        chance = "-" if score.chance is None else f"{score.chance:.3f}"
        table.add_row(score.benchmark, score.metric, *cells, chance)
    console = Console(
        width=None if sys.stdout.isatty() else 60 + 50 * len(models), highlight=False, markup=False
    )
    console.print(table)
    tested = len(differences)
    pairs = len(scores) * (len(models) - 1)
    console.print(
        f"* differs from {models[0]} on the same items (paired bootstrap, p < 0.05). Tests: {tested}; where nothing "
        f"differs, about {0.05 * tested:.0f} of them get a star by chance.",
        soft_wrap=True,
    )
    if tested < pairs:
        console.print(
            f"Not tested: {pairs - tested}, whose items are not stored or not the same. Intervals that do not overlap "
            "differ; of others that says nothing.",
            soft_wrap=True,
        )


def _cell(score: Score, model: str, difference: Difference | None) -> str:
    if model not in score.values:
        return "-"
    low, high = score.values[model]["ci95"]
    text = f"{score.values[model]['value']:.3f} [{low:.3f}, {high:.3f}]"
    if difference is None:
        return text
    star = "*" if difference.is_significant else ""
    return f"{text} {difference.value:+.3f}{star} (p={difference.p_value:.3f})"


def draw_comparison(scores: Sequence[Score], models: Sequence[str], path: Path) -> None:
    """One panel a number: each model's value with its interval, and a dotted line at the chance level.

    Every panel has its own scale, so that numbers of all kinds stand in one picture.
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
    with written_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
