# SPDX-License-Identifier: Apache-2.0
"""What more rows would bring: held-out accuracy over the number of rows trained on."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml
from matplotlib.figure import Figure

from scratch_gpt.data.folders import read_yaml, written_file
from scratch_gpt.errors import UserError
from scratch_gpt.evaluation.comparison import COLORS, read_result
from scratch_gpt.evaluation.runner import Metric


# Settings of a stage that are not those of its YAML in a learning curve's runs.
OWN = ("max_train_samples", "seed", "output_dir", "resume_from_checkpoint")


def keep_settings(stage: str, config: str | Path, folder: str | Path) -> None:
    """Keep the YAML's settings as `folder/STAGE.yaml`, before the first run that is made with them.

    Raises:
        UserError: the folder holds runs of other settings, which would be points of another curve; a damaged YAML.
    """
    settings = {name: value for name, value in read_yaml(config).items() if name not in OWN}
    path = Path(folder) / f"{stage}.yaml"
    has_runs = any(Path(folder).glob("*-seed*"))  # without one, these settings come after a mistake in others
    if has_runs and path.is_file():
        kept = read_yaml(path)
        changed = sorted(
            name for name in {*kept, *settings} if kept.get(name, path) != settings.get(name, path)
        )
        if changed:
            message = f"{folder} holds runs with another {', '.join(changed)} than {config}: give another --output_dir"
            raise UserError("settings_changed", message, settings=list(changed))
    elif has_runs:
        message = f"{folder} holds runs, but not their {path.name}: give another --output_dir"
        raise UserError("unknown_runs", message, folder=folder)
    with written_file(path) as temporary:
        temporary.write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")


def read_curve(results: Iterable[Sequence[Path]], metric: str = "accuracy") -> dict[int, Metric]:
    """Rows trained on -> the metric's mean over the result files of as many seeds.

    The rows are those that the results say, the mean where a seed had fewer. The interval is the mean of the seeds' own
    intervals (the held-out rows are few), widened to hold each seed's value (training is random too).

    Raises:
        UserError: a result file that is damaged or lacks the metric.
    """
    curve = {}
    for files in results:
        found, rows = [], []
        for file in files:
            result = read_result(file)
            metrics = result["metrics"]
            if metric not in metrics:
                message = f"{file} has no metric {metric!r}; it has {', '.join(metrics)}"
                raise UserError("unknown_metric", message, metric=metric)
            found.append(metrics[metric])
            rows.append(result["settings"]["training_pairs"])
        values = [entry["value"] for entry in found]
        low, high = np.mean([entry["ci95"] for entry in found], axis=0).tolist()
        interval = (min(low, *values), max(high, *values))
        curve[round(float(np.mean(rows)))] = Metric(float(np.mean(values)), interval, found[0]["chance"])
    return curve


def plot_curve(curve: Mapping[int, Metric], title: str, path: str | Path) -> None:
    """Draw the curve with its intervals over a logarithmic axis, and chance where it is known, as PNG."""
    rows, metrics = list(curve), list(curve.values())
    figure = Figure(figsize=(5.5, 4), layout="constrained")
    axes = figure.subplots()
    values = np.array([metric.value for metric in metrics])
    low, high = np.array([metric.ci95 for metric in metrics]).T
    axes.errorbar(rows, values, [values - low, high - values], color=COLORS[0], marker="o", capsize=3)
    if metrics[0].chance is not None:
        axes.axhline(metrics[0].chance, color="#777777", linestyle=":", label="chance")
        axes.legend(frameon=False)
    axes.set_xscale("log", base=2)
    axes.set_xticks(rows, [f"{count:,}" for count in rows])
    axes.minorticks_off()
    axes.set(xlabel="rows trained on", ylabel="held-out accuracy")
    axes.set_title(title, loc="left", fontsize=11)
    with written_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
