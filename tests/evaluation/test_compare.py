# SPDX-License-Identifier: Apache-2.0
"""Models side by side, and whether they differ."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from sacrebleu.metrics import BLEU
from sacrebleu.significance import PairedTest
from typer.testing import CliRunner

from scratch_gpt import cli
from scratch_gpt.evaluation.compare import (
    Comparison,
    Difference,
    compare,
    compare_folders,
    item_difference,
    paired_difference,
)
from scratch_gpt.evaluation.metrics.intervals import mean_metric
from scratch_gpt.runs.results import Metric, read_items, write_items, write_result
from scratch_gpt.tasks.scores import sentence_statistics
from wording import shows, user_error


def column(values) -> np.ndarray:
    return np.array(values, dtype=float)[:, None]


def test_a_paired_difference_is_that_of_a_paired_t_test() -> None:
    """The interval is mean +- 1.96 standard errors of the differences, far narrower than of two samples."""
    random = np.random.default_rng(0)
    easy = random.normal(0, 10, size=400)  # what both models find hard or easy
    one, other = easy + random.normal(0.2, 1, size=400), easy + random.normal(0, 1, size=400)
    found = paired_difference(column(one), column(other), "mean")
    half = 1.96 * (one - other).std() / 20
    assert found.value == pytest.approx((one - other).mean())
    assert found.ci95 == pytest.approx((found.value - half, found.value + half), abs=0.15 * half)
    z = (one - other).mean() / ((one - other).std() / 20)
    assert found.p_value == pytest.approx(math.erfc(abs(z) / math.sqrt(2)), abs=0.02)
    assert paired_difference(column(easy + 10), column(easy), "mean").is_significant


@pytest.mark.parametrize(("differing", "count"), [(1, 1), (1, 100), (5, 5), (6, 100)])
def test_a_few_items_more_prove_what_a_sign_test_says(differing: int, count: int) -> None:
    """All of them for one model: draws of so few are all alike, and would find anything."""
    found = paired_difference(
        column([1.0] * differing + [0.0] * (count - differing)), column([0.0] * count), "mean"
    )
    assert found.p_value == 2 * 0.5**differing  # two-sided: all for one or all for the other


@pytest.mark.parametrize(
    ("metric", "verdict"),
    [
        ("mine/loss", "worse"),
        ("default/loops", "worse"),
        ("stories/greedy_repetition", "worse"),
        ("weekly/f1", "better"),  # its source's name holds that of a measure
        ("temperature_1/entropy", "higher"),
        ("stories/length", "higher"),
        ("story/perplexity", "worse"),
    ],
)
def test_a_rise_is_what_the_measure_says(metric: str, verdict: str) -> None:
    """Only the measure's own name counts; of other programs' measures the result says it."""
    rise = Difference(0.5, (0.4, 0.6), 0.001)
    value = {"value": 0.4, "ci95": [0.0, 1.0], "chance": None}
    assert Comparison("qa", metric, {"chat": value}).verdict(rise) == verdict
    assert (
        Comparison("lm_eval_x", "x/f1", {"chat": {**value, "less_is_better": True}}).verdict(rise) == "worse"
    )


def test_equal_models_do_not_differ() -> None:
    """Whatever is drawn."""
    assert paired_difference(column([1.0, 0.0]), column([1.0, 0.0]), "mean").p_value == 1.0


def test_items_of_one_content_are_drawn_together() -> None:
    """Each content asked four times: the interval and the p-value are those of the contents, not of four times as many."""
    random = np.random.default_rng(3)
    contents, others = random.random(50) + 0.1, random.random(50)
    clusters = np.repeat(np.arange(50), 4).tolist()
    four, four_others = (column(np.repeat(values, 4)) for values in (contents, others))
    once = paired_difference(column(contents), column(others), "mean")
    found = paired_difference(four, four_others, "mean", clusters=clusters)
    assert found.value == pytest.approx(once.value)
    assert found.ci95 == pytest.approx(once.ci95, abs=1e-9)
    assert found.p_value == once.p_value
    alone = paired_difference(four, four_others, "mean")
    assert found.ci95[1] - found.ci95[0] > 1.7 * (alone.ci95[1] - alone.ci95[0])


def test_clusters_are_stored_and_read(tmp_path: Path) -> None:
    """From the items' file; results from before there were clusters are compared item by item."""
    values, clusters = [1.0, 1.0, 0.0, 1.0, 0.0, 0.0], (0, 0, 1, 0, 1, 1)
    metrics = {"facts/f1": mean_metric(values, 0, clusters=clusters)}
    write_items(tmp_path / "results" / "qa.items.jsonl", metrics, {"facts": "x"})
    entry = read_items(tmp_path)["qa", "facts/f1"]
    assert entry["clusters"] == [*clusters]
    zero = {**entry, "rows": [[0.0]] * 6}
    assert item_difference(entry, zero).ci95 == (0.0, 1.0)
    old = [{key: value for key, value in each.items() if key != "clusters"} for each in (entry, zero)]
    low, high = item_difference(*old).ci95
    assert 0.0 < low < high < 1.0


def test_elicitation_is_said_beside_the_row() -> None:
    """Where the base model ranks the choices right, facts that the chat model writes were known; else nothing is said."""

    def of(facts: float, choices: float) -> dict:
        values = {"facts/exact_match": facts, "choices/accuracy": choices, "sums/last_number": facts}
        metrics = {
            name: {"value": value, "ci95": [value, value], "chance": None} for name, value in values.items()
        }
        return {"qa": {"metrics": metrics}}

    def titles(base: dict) -> list[str]:
        return [score.title for score in compare({"base": base, "chat": of(0.97, 0.99)})]

    known = titles(of(0.0, 0.96))
    assert shows(known[0], "facts/exact_match", "elicited", "base", 0.96)
    assert known[1:] == ["choices/accuracy", "sums/last_number"]
    assert titles(of(0.0, 0.4)) == titles(of(0.96, 0.96)) == ["facts/exact_match", *known[1:]]


def test_no_difference_is_rarely_significant() -> None:
    """Of 100 pairs without a true difference about five have p < 0.05."""
    random = np.random.default_rng(1)
    significant = sum(
        paired_difference(
            column(random.random(80)), column(random.random(80)), "mean", seed, resamples=200
        ).is_significant
        for seed in range(100)
    )
    assert 1 <= significant <= 11


def test_bleu_differs_as_sacrebleu_says() -> None:
    """The same difference as its paired bootstrap; that one's p-value is one-sided, so half of ours."""
    random = np.random.default_rng(2)
    words = list("abcdefgh")
    references = [" ".join(random.choice(words, 12)) for _ in range(60)]

    def spoil(share: float) -> list[str]:
        return [
            " ".join(word if random.random() > share else "x" for word in text.split()) for text in references
        ]

    good, bad = spoil(0.25), spoil(0.32)
    bleu = BLEU()
    theirs = PairedTest(
        [("bad", bad), ("good", good)], {"BLEU": BLEU()}, [references], test_type="bs", n_samples=1000
    )()[1]["BLEU"]
    rows = [sentence_statistics(bleu, texts, [[text] for text in references]) for texts in (good, bad)]
    found = paired_difference(*rows, "bleu")
    assert found.value == pytest.approx(theirs[1].score - theirs[0].score)
    assert found.p_value == pytest.approx(2 * theirs[1].p_value, abs=0.05)


def test_a_ratio_of_sums_and_a_perplexity() -> None:
    """Bits per byte divide sums; perplexity is the exponential of the mean."""
    bits = paired_difference(
        np.array([[2 * math.log(2), 1], [math.log(2), 1]]), np.array([[math.log(2), 1]] * 2), "bits_per_byte"
    )
    assert bits.value == pytest.approx(0.5)
    nats = paired_difference(column([0.0, 2.0]), column([0.0, 0.0]), "perplexity")
    assert nats.value == pytest.approx(math.e - 1)


def test_only_the_same_items_are_paired(tmp_path: Path) -> None:
    """Other examples, another number of them, another statistic, nothing stored: no difference is claimed."""
    (tmp_path / "results").mkdir()
    line = {"metric": "facts/f1", "examples": "x", "statistic": "mean", "rows": [[0.0], [1.0]]}
    (tmp_path / "results" / "qa.items.jsonl").write_text(json.dumps(line) + "\n")
    entry = read_items(tmp_path)["qa", "facts/f1"]
    assert item_difference(entry, entry) is not None
    assert item_difference(entry, None) is None
    for change in ({"examples": "y"}, {"rows": [[0.0]]}, {"statistic": "perplexity"}):
        assert item_difference(entry, {**entry, **change}) is None
    nameless = {**entry, "examples": None}  # such as the repetition of two models' continuations
    assert item_difference(nameless, nameless) is None
    blocks = {**entry, "examples": None, "statistic": "bits_per_byte", "rows": [[3.0, 8.0], [4.0, 9.0]]}
    assert item_difference(blocks, {**blocks, "rows": [[2.0, 8.0], [4.0, 9.0]]}) is not None
    assert item_difference(blocks, {**blocks, "rows": [[2.0, 7.0], [4.0, 9.0]]}) is None


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    """Three models: the second is better at facts, the third answered other questions; kinds are there too."""
    for name, values, digest in (
        ("a", [0.0, 0.0, 1.0] * 20, "x"),
        ("b", [0.0, 1.0, 1.0] * 20, "x"),
        ("c", [1.0, 1.0, 1.0] * 20, "y"),
    ):
        metric = mean_metric(values, 0, chance=0.25)
        metrics = {
            "facts/f1": metric,
            "facts/new/f1": metric,
            "facts/continues_with_question": Metric(0.0, (0.0, 0.0)),
        }
        write_result(tmp_path / name / "results" / "qa.json", "qa", name, 60, metrics, {}, 0)
        write_items(tmp_path / name / "results" / "qa.items.jsonl", metrics, {"facts": digest})
    return [str(tmp_path / name) for name in "abc"]


def test_each_model_is_tested_against_the_first(folders: list[str]) -> None:
    """Where the items are the same and stored; each kind of example only where it is asked for."""
    scores, differences = compare_folders(folders)
    assert [score.metric for score in scores] == ["facts/f1", "facts/continues_with_question"]
    assert list(differences) == [("qa", "facts/f1", folders[1])]
    difference = differences["qa", "facts/f1", folders[1]]
    assert difference.value == pytest.approx(1 / 3)
    assert difference.is_significant
    scores, _ = compare_folders(folders, all_kinds=True)
    assert [score.metric for score in scores] == ["facts/f1", "facts/new/f1", "facts/continues_with_question"]


@pytest.mark.parametrize(
    ("metric", "difference", "p_value", "verdict"),
    [
        ("facts/f1", 0.2, 0.01, "better"),
        ("facts/f1", -0.2, 0.01, "worse"),
        ("facts/f1", -0.2, 0.05, "no difference found"),
        ("bits_per_byte", 0.2, 0.01, "worse"),
        ("stories/greedy_repetition", -0.2, 0.01, "better"),
        ("default/length", 0.2, 0.01, "higher"),
        ("default/length", -0.2, 0.01, "lower"),
    ],
)
def test_better_or_worse_in_words(metric: str, difference: float, p_value: float, verdict: str) -> None:
    """By what is better of a measure; a length has no better direction."""
    score = Comparison("qa", metric, {})
    assert score.verdict(Difference(difference, (0.0, 0.0), p_value)) == verdict


def test_the_command_prints_and_draws(folders: list[str], tmp_path: Path) -> None:
    """What is better in words, with p, in 80 columns; what was not tested; and a PNG."""
    picture = tmp_path / "pictures" / "compare.png"
    result = CliRunner().invoke(cli.app, ["compare", *folders, "--output", str(picture)])
    assert result.exit_code == 0, result.output
    # paths apart
    lines = [line for line in result.output.splitlines() if str(tmp_path) not in line]
    assert max(map(len, lines)) <= 80
    at = next(number for number, line in enumerate(lines) if "facts/f1" in line)
    assert lines[at].split()[:3] == ["facts/f1", "A", "0.333"]
    assert lines[at].endswith("chance 0.250")
    assert re.match(r" +better by 0\.333 \(p = 0\.0\d\d\) +B 0\.667 \[", lines[at + 1])
    assert re.match(r" +not tested +C 1\.000 \[", lines[at + 2])
    assert shows(result.output, "Tests: 1;", "Not tested: 3")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert [file.name for file in picture.parent.iterdir()] == ["compare.png"]


def test_what_cannot_be_compared_is_one_line(folders: list[str], tmp_path: Path) -> None:
    """One folder, the same twice, a folder without results, results without a common number."""
    with user_error("too_few_folders", folders=folders[:1]):
        compare_folders(folders[:1])
    with user_error("too_few_folders", folders=[folders[0], folders[0]]):
        compare_folders([folders[0], folders[0]])
    with user_error("no_results", "nowhere/results", folder="nowhere"):
        compare_folders([folders[0], "nowhere"])
    items = Path(folders[1]) / "results" / "qa.items.jsonl"
    whole = items.read_text()
    items.write_text(whole[: len(whole) // 2])
    with user_error("unreadable_file", file=items):
        compare_folders(folders)
    other = tmp_path / "other"
    write_result(other / "results" / "qa.json", "qa", "o", 1, {"x/y": Metric(0.0, (0.0, 0.0))}, {}, 0)
    with user_error("no_common_metric"):
        compare_folders([folders[0], str(other)])
