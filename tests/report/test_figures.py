# SPDX-License-Identifier: Apache-2.0
"""The figures: the points of the log, bars as long as the scores, labels that nothing breaks."""

import base64
import warnings
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.text import Text

from scratch_gpt.evaluation.compare import Comparison
from scratch_gpt.report.figures import (
    MOST_POINTS,
    Curve,
    draw_calibration,
    draw_curves,
    draw_learning_curve,
    draw_scores,
    label_of,
)
from scratch_gpt.runs.results import Metric


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("wiki", "wiki"),
        ("$\\frac{1}$", r"\$\frac{1}\$"),
        ("_hidden\nby an underscore", "hidden by an underscore"),
        ("x" * 60, "x" * 39 + "\u2026"),
    ],
)
def test_any_text_can_be_a_label(text: str, label: str) -> None:
    """No formula, no line break, nothing too long; matplotlib leaves out what begins with an underscore."""
    assert label_of(text) == label


def test_all_points_are_drawn_unless_they_are_too_many(monkeypatch) -> None:
    """A long log is thinned evenly, its first and last points stay; a short one is drawn as it is."""
    drawn = []
    plot = Axes.plot

    def keep(self, x, y, **options):
        drawn.append((list(x), list(y)))
        return plot(self, x, y, **options)

    monkeypatch.setattr(Axes, "plot", keep)
    draw_curves(
        "a",
        "a",
        [Curve("training", range(100_000), range(100_000)), Curve("held out", [1, 2], [3, 4], True)],
        "step",
    )
    (long, _), (short, values) = drawn
    assert (len(long), long[0], long[-1]) == (MOST_POINTS, 0, 99_999)
    assert (short, values) == ([1, 2], [3, 4])


def test_nothing_logged_is_no_picture() -> None:
    """The page leaves it out."""
    assert draw_curves("a", "a", [Curve("training", [], [])], "step") is None
    assert draw_scores("a", "a", [], ["base"], share=True) is None


def test_bars_are_as_long_as_the_scores(monkeypatch) -> None:
    """BLEU of 80 of 100 and accuracy 0.5, their intervals, and chance."""
    bars, lines, chance = [], [], []
    monkeypatch.setattr(Axes, "barh", lambda self, place, width, *_, **__: bars.append(width))
    monkeypatch.setattr(Axes, "hlines", lambda self, place, low, high, **__: lines.append((low, high)))
    monkeypatch.setattr(Axes, "vlines", lambda self, value, *_, **__: chance.append(value))
    scores = [
        Comparison(
            "translation", "translation/bleu", {"chat": {"value": 80.0, "ci95": [70.0, 90.0], "chance": 10.0}}
        ),
        Comparison("qa", "facts/accuracy", {"base": {"value": 0.5, "ci95": [0.4, 0.6], "chance": None}}),
    ]
    draw_scores("a", "a", scores, ["base", "chat"], share=True)
    assert bars == pytest.approx([0.8, 0.5])
    assert lines == [pytest.approx((0.7, 0.9)), pytest.approx((0.4, 0.6))]
    assert chance == pytest.approx([0.1])


def test_a_picture_is_well_formed_and_the_same_each_time() -> None:
    """Labels of other scripts stay text in the SVG, and need no glyph of matplotlib's font; no date, no random id."""
    curves = [
        Curve("\u4f60\u597d <b>", [1, 2], [1, 2], True),
        Curve("\u0645\u0631\u062d\u0628\u0627", [1, 2], [2, 1], True),
    ]
    first, second = (draw_curves("a", "a", curves, "step") for _ in range(2))
    assert first is not None and second is not None
    assert first.svg == second.svg
    root = ElementTree.fromstring(base64.b64decode(first.data_uri.partition(",")[2]))
    assert "\u4f60\u597d <b>" in "".join(root.itertext())


def test_letters_that_a_font_lacks_are_taken_from_the_next(tmp_path: Path, monkeypatch) -> None:
    """matplotlib's font comes first, then installed ones; what none of them has is no warning in any figure."""
    families = []
    monkeypatch.setattr(Text, "set_fontfamily", lambda self, names: families.append((self.get_text(), names)))
    metric = Metric(0.5, (0.4, 0.6), chance=0.5, n=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_learning_curve({50: metric, 200: metric}, "\u4f60\u597d \u0939\u093f", tmp_path / "y.png")
    names = dict(families)["\u4f60\u597d \u0939\u093f"]
    assert (names[0], names[-1]) == ("DejaVu Sans", "sans-serif")
    assert set(names[:-1]) <= set(font_manager.get_font_names())


def test_calibration_and_learning_curves_are_pictures(tmp_path: Path) -> None:
    """Both are drawn into folders that are not there yet."""
    share = Metric(0.5, (0.4, 0.6), chance=0.5, n=3)
    draw_calibration([(0.7, share), (1.0, Metric(1.0, (1.0, 1.0), n=1))], share, 4, tmp_path / "a" / "x.png")
    draw_learning_curve({50: share, 200: share}, "title", tmp_path / "b" / "y.png")
    for file in (tmp_path / "a" / "x.png", tmp_path / "b" / "y.png"):
        assert file.read_bytes().startswith(b"\x89PNG")
