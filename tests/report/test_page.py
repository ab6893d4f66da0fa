# SPDX-License-Identifier: Apache-2.0
"""The page of a run: complete in itself, true to the files, harmless whatever a model wrote."""

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from scratch_gpt.report.page import Stage, find_stages, write_report
from wording import shows, user_error


HOSTILE = "<script>alert(1)</script> <img src=x onerror=alert(2)> {{ 7*7 }} $\\frac{1}$ \u0645\u0631\u062d\u0628\u0627 \u4f60\u597d \U0001f600"


def write_lines(path: Path, rows: list[dict]) -> None:
    """A .jsonl file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """Pretraining and reinforcement, with everything that a report can show, in hostile words."""
    training = {"learning_rate": 0.01, "grad_norm": 0.5, "tokens_per_second": 100.0}
    write_lines(
        tmp_path / "base/log.jsonl",
        [
            *(
                {"step": n, "tokens": 64 * n, "loss": 4 / n, "elapsed_seconds": n, **training}
                for n in range(1, 9)
            ),
            {"step": 8, "eval_loss": 1.0, "eval_bits_per_byte": 1.5, f"eval_bits_per_byte_{HOSTILE}": 1.25},
        ],
    )
    write_lines(
        tmp_path / "base/samples.jsonl", [{"step": 4, "text": HOSTILE}, {"step": 8, "text": "The end"}]
    )
    (tmp_path / "base/run.yaml").write_text("seed: 3\n")
    write_lines(
        tmp_path / "aligned/log.jsonl",
        [
            {"step": n, "tokens": n, "loss": 0.0, "reward": n, "kl": 0.1 * n, "elapsed_seconds": n}
            for n in range(3)
        ]
        + [{"step": 2, "eval_gold": 0.75, "eval_kl": 2.0}],
    )
    (tmp_path / "aligned/run.yaml").write_text("model_name_or_path: elsewhere/base\n")
    metric = {"value": 0.5, "ci95": [0.4, 0.6], "chance": 0.25}
    for name, values in (
        ("qa", ("facts/exact_match", "unanswerable/continues_with_question")),
        ("dpo", ("before/loss", "after/loss")),
        ("rlhf", ("sft/gold", "aligned/gold")),
    ):
        result = {
            "task": name,
            "n": 4,
            "metrics": dict.fromkeys(values, metric),
            "settings": {},
            "versions": {},
        }
        (tmp_path / "aligned/results").mkdir(exist_ok=True)
        (tmp_path / f"aligned/results/{name}.json").write_text(json.dumps(result))
    samples = [{"prompt": HOSTILE, "answers": {"aligned": HOSTILE}}]
    (tmp_path / "aligned/samples.json").write_text(json.dumps(samples))
    return tmp_path


class Page(HTMLParser):
    """Tags and attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_page_and_pictures_are_written(run_dir: Path) -> None:
    """One page, the overview, and a PNG for each figure; nothing half-written stays."""
    page, overview, pictures = write_report(run_dir)
    assert (page.name, overview.name) == ("report.html", "report.png")
    names = {path.name for path in pictures.iterdir()}
    assert {
        "base-loss.png",
        "base-bits-per-byte.png",
        "aligned-kl.png",
        "aligned-training-kl.png",
        "aligned-gold.png",
        "benchmarks.png",
    } <= names
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures.iterdir())
    assert not list(run_dir.rglob("*.tmp"))
    assert page.stat().st_size < 3_000_000


def test_numbers_are_those_of_the_files(run_dir: Path) -> None:
    """Scores with intervals and chance, before and after, steps and tokens; what is absent is said."""
    text = write_report(run_dir)[0].read_text(encoding="utf-8")
    assert "<td>facts: exact answers</td><td>0.5 [0.4, 0.6]</td><td>0.25</td>" in text
    assert "<td>loss</td><td>0.5 [0.4, 0.6]</td><td>0.5 [0.4, 0.6]</td>" in text
    assert "<td>gold score</td><td>0.5 [0.4, 0.6]</td><td>0.5 [0.4, 0.6]</td>" in text
    assert shows(text, "8 steps", "512 tokens")
    assert text.count("<figcaption>loss</figcaption>") == 1  # of reinforcement the value says nothing
    assert text.count("<figcaption>loss: ") == 1
    missing = text[text.index("Not in this run") :]
    order = "What was trained|How good|The same questions|Samples over time|base: curves|More curves"
    places = [text.index(f"<h2>{title}") for title in order.split("|")]
    assert places == sorted(places)
    diagnostics = text[text.index("<h2>More curves") :]
    assert (
        text.count("gradient norm, before clipping")
        == diagnostics.count("gradient norm, before clipping")
        > 0
    )
    assert shows(missing, "the cost (", "provenance.json", "the data (")
    assert "samples over time" not in missing


def test_page_needs_no_network_and_runs_no_script(run_dir: Path) -> None:
    """Every address is inside the page; hostile text is text; a policy forbids the rest."""
    text = write_report(run_dir)[0].read_text(encoding="utf-8")
    tags = Page(text).tags
    assert {tag for tag, _ in tags}.isdisjoint({"script", "iframe", "object", "embed", "form"})
    addresses = [
        value for _, attributes in tags for name, value in attributes.items() if name in ("src", "href")
    ]
    assert all(value.startswith(("data:", "#")) for value in addresses)
    assert not [name for _, attributes in tags for name in attributes if name.startswith("on")]
    assert "default-src 'none'" in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "{{ 7*7 }}" in text


def test_held_out_points_stand_at_their_tokens() -> None:
    """A row without tokens is placed by its step: step 8 of 64 tokens a step is at 512."""
    rows = [
        {"step": 4, "tokens": 256, "loss": 1.0},
        {"step": 8, "tokens": 512, "loss": 0.5},
        {"step": 6, "eval_loss": 2.0},
    ]
    assert Stage(Path("base"), rows).curve("eval_loss").x == [384.0]
    assert Stage(Path("base"), rows).curve("eval_loss", over_tokens=False).x == [6.0]


def test_one_models_folder_is_a_run_of_one_stage(run_dir: Path) -> None:
    """Stages come in the order in which they were made."""
    assert [stage.name for stage in find_stages(run_dir)] == ["base", "aligned"]
    assert [stage.name for stage in find_stages(run_dir / "base")] == ["base"]
    (run_dir / "base" / "report.png").write_bytes(b"the run's, for the card")
    page, pictures = write_report(run_dir / "base")
    assert (page.name, pictures.name) == ("report.html", "report")
    assert (run_dir / "base" / "report.png").read_bytes() == b"the run's, for the card"


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    """One line, nothing written."""
    with user_error("no_run", "log.jsonl", folder=tmp_path):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_browser_shows_it_without_an_error(browser, run_dir: Path) -> None:
    """Opened from disk at a phone's width: no message on the console, no long way down, scores beside their names."""
    size = {"width": 390, "height": 900, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get_log("browser")  # of the page before
    browser.get(write_report(run_dir)[0].as_uri())
    assert browser.title == f"{run_dir.name} - scratch-gpt report"
    fits, drawn, pictures, height = browser.execute_script(
        "const images = [...document.images];"
        "return [document.documentElement.scrollWidth <= innerWidth,"
        " images.every(image => image.complete && image.naturalWidth > 0), images.length,"
        " document.documentElement.scrollHeight]"
    )
    beside = browser.execute_script(
        "document.querySelectorAll('details').forEach(details => details.open = true);"
        "return [...document.querySelectorAll('#benchmarks tr > :nth-child(2)')]"
        ".every(cell => cell.getBoundingClientRect().right <= innerWidth)"
    )
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert fits and drawn and pictures > 9
    assert beside
    assert height < 4500  # the demo's, of twice as many stages, has 6,000
    assert browser.get_log("browser") == []
