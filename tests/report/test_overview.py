# SPDX-License-Identifier: Apache-2.0
"""The picture of a run: drawn from whatever is there, with the numbers of the files."""

import json
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from scratch_gpt.evaluation.compare import compare
from scratch_gpt.report import overview as report
from scratch_gpt.runs.results import read_results


def write_log(path: Path, rows: list[dict]) -> None:
    """Write a log.jsonl."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_result(folder: Path, benchmark: str, **values: float) -> None:
    """Write a result file whose intervals are the value plus and minus a tenth."""
    metrics = {
        name.replace("__", "/"): {"value": value, "ci95": [value * 0.9, value * 1.1], "chance": 0.25}
        for name, value in values.items()
    }
    (folder / "results").mkdir(parents=True, exist_ok=True)
    content = {"task": benchmark, "model": folder.name, "n": 4, "metrics": metrics, "settings": {}, "seed": 0}
    (folder / "results" / f"{benchmark}.json").write_text(json.dumps({**content, "versions": {"torch": "2"}}))


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run with one log and two results."""
    write_log(
        tmp_path / "base/log.jsonl",
        [{"step": 1, "loss": 4.0}, {"step": 2, "eval_loss": 3.0, "eval_bits_per_byte": 1.5}],
    )
    write_result(tmp_path / "base", "translation", translation__bleu=5.0)
    write_result(tmp_path / "chat", "translation", translation__bleu=80.0)
    return tmp_path


@pytest.fixture
def figure(monkeypatch) -> list[Figure]:
    """The figures that were saved."""
    saved: list[Figure] = []
    savefig = Figure.savefig

    def keep(self, *args, **kwargs) -> None:
        saved.append(self)
        savefig(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return saved


def test_report_is_a_picture(run_dir: Path) -> None:
    """A PNG appears under its name, and no temporary file stays behind."""
    path = report.draw_report(run_dir)
    assert path == run_dir / "report.png"
    assert path.read_bytes().startswith(b"\x89PNG")
    assert not list(run_dir.glob("*.tmp"))


def test_training_loss_is_exchanged_into_bits_per_byte(run_dir: Path, figure: list[Figure]) -> None:
    """A loss of 4 is 2 bits per byte where a held-out loss of 3 is 1.5."""
    report.draw_report(run_dir)
    curves = {line.get_label(): line.get_ydata().tolist() for line in figure[0].axes[0].lines}
    assert curves == {"training": [2.0], "held out": [1.5]}


def test_bars_have_the_height_of_the_scores(run_dir: Path, figure: list[Figure]) -> None:
    """BLEU of 5 and 80 are bars of 0.05 and 0.8."""
    report.draw_report(run_dir)
    assert [bar.get_height() for bar in figure[0].axes[6].patches] == pytest.approx([0.05, 0.8])


def test_scores_are_one_a_task_in_words(run_dir: Path, figure: list[Figure]) -> None:
    """A bar for the first measure of a task, and below it what a reader calls it, not its key."""
    write_result(run_dir / "chat", "qa", facts__exact_match=0.5, facts__f1=0.6, facts__capital__f1=0.4)
    report.draw_report(run_dir)
    labels = [label.get_text() for label in figure[0].axes[6].get_xticklabels()]
    assert labels == ["facts:\nexact answers", "translation:\nBLEU"]


def test_empty_run_says_so(tmp_path: Path, figure: list[Figure]) -> None:
    """Panels without data say that nothing was logged."""
    report.draw_report(tmp_path)
    assert all("nothing logged" in [text.get_text() for text in axes.texts] for axes in figure[0].axes[:6])


def test_compare_lines_models_up(run_dir: Path) -> None:
    """One row per measure, with each model's value, also where a model lacks the measure."""
    write_result(run_dir / "chat", "qa", facts__exact_match=0.5, facts__capital__exact_match=0.4)
    write_result(run_dir / "chat", "rlhf", gold=0.5)
    scores = compare({model: read_results(run_dir / model) for model in ("base", "chat")})
    assert [(score.benchmark, score.metric, list(score.values)) for score in scores] == [
        ("qa", "facts/exact_match", ["chat"]),
        ("qa", "facts/capital/exact_match", ["chat"]),
        ("translation", "translation/bleu", ["base", "chat"]),
    ]
    assert [score.is_headline for score in scores] == [True, False, True]
    assert scores[2].values["chat"]["value"] == 80.0
    assert scores[2].full == 100.0
