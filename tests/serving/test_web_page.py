# SPDX-License-Identifier: Apache-2.0
"""The page without a browser: what it says of a model, what it draws, and that text in it is text."""

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from scratch_gpt.runs.results import Metric, write_result
from scratch_gpt.serving.chat import StreamingModel
from scratch_gpt.serving.inspection import NextToken


pytest.importorskip("gradio", reason="needs the packages of scratch-gpt[web]")

from scratch_gpt.serving.web import about, drawings  # noqa: E402
from scratch_gpt.serving.web.handlers import Handlers  # noqa: E402
from scratch_gpt.serving.web.server import load_models  # noqa: E402


CARD = "---\nlicense: mit\n---\n\n# Bee\n\n![picture](x.png)\n\nIt **knows** [bees](http://x) and <b>honey</b>.\n\nMore.\n"
HOSTILE = ["<script>", "' onmouseover='x", "&lt;"]


class Reader(HTMLParser):
    """Tags, attributes and text of some HTML."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data) -> None:
        self.texts.append(data)


def test_attention_shows_hostile_text_as_text() -> None:
    """Markup in a token is no markup; each row has a cell for itself and each token before it."""
    page = Reader(drawings.draw_attention(HOSTILE, torch.eye(3)))
    assert set(page.tags) == {"div", "table", "tr", "th", "td", "span"}
    assert page.attributes == {"class", "scope", "style", "title", "role", "tabindex", "aria-label"}
    assert "".join(page.texts) == "".join(HOSTILE) * 2
    assert page.tags.count("td") == 1 + 2 + 3


def test_tokens_and_bars_show_hostile_text_as_text() -> None:
    """Their only tags and attributes are ours; id, bytes and both shares stand in words."""
    page = Reader(drawings.draw_tokens("abc", [(7, label, b"\xe4a") for label in HOSTILE]))
    assert (set(page.tags), page.attributes) == ({"p", "ol", "li", "b", "span", "small"}, {"class"})
    assert page.texts[1:] == [text for label in HOSTILE for text in (label, "7", "E4 61")]
    page = Reader(drawings.draw_next_tokens([NextToken(label, 0.25, 0.5) for label in HOSTILE]))
    assert (set(page.tags), page.attributes) == (
        {"table", "tr", "th", "td", "div"},
        {"class", "scope", "style"},
    )
    assert page.texts[3:] == [text for label in HOSTILE for text in (label, "50.0%", "25.0%")]


def test_the_page_introduces_a_model_by_its_card_and_its_scores(chat_folder: Path) -> None:
    """The card's first words as text, the questions answered right, one score a task with what guessing gets."""
    (chat_folder / "README.md").write_text(CARD)
    metrics = {
        "facts/exact_match": Metric(0.5, (0.4, 0.6), chance=0.25),
        "facts/f1": Metric(0.75, (0.6, 0.8), chance=0.5),
        "facts/continues_with_question": Metric(0.0, (0.0, 0.1)),
    }
    write_result(chat_folder / "results/qa.json", "qa", "chat", 4, metrics, {}, 0, {"facts": ["What is a bee?"]})
    model = StreamingModel.load(str(chat_folder))
    found = about.About.of(model)
    assert (found.questions, found.are_right) == (["What is a bee?"], True)
    assert found.beginnings == [*about.BEGINNINGS]
    page = Reader(about.introduction([model], [found]))
    assert "It knows bees and <b>honey</b>." in "".join(page.texts)
    assert page.tags == ["h1", "p", "b", "span"]
    scores = Reader(about.benchmark_scores([model])).texts
    assert scores == ["measure", "chat", "guessing", "facts: exact answers", "50%", "25%"]


def test_a_folder_that_says_nothing_is_introduced_all_the_same(chat_folder: Path, base_folder: Path) -> None:
    """By its configuration; damaged results and prompts keep nobody from talking."""
    model = StreamingModel.load(str(base_folder))
    found = about.About.of(model)
    assert (found.card, found.are_right) == ("", False)
    assert "2 layers, context 128 tokens" in found.shape
    assert (found.questions, found.beginnings) == ([*about.QUESTIONS], [*about.BEGINNINGS])
    (chat_folder / "results").mkdir()
    (chat_folder / "results/qa.json").write_text("{")
    (chat_folder / "samples.json").write_text("{")
    model = StreamingModel.load(str(chat_folder))
    assert about.About.of(model).questions == [*about.QUESTIONS]
    assert about.benchmark_scores([model]) == ""


def test_the_prompts_of_the_run_are_proposed(chat_folder: Path, base_folder: Path) -> None:
    """Questions of its samples, beginnings of the pretraining that it came from; that model stands beside it."""
    (base_folder / "run.yaml").write_text("sample_prompts: [Once there was]")
    (chat_folder / "run.yaml").write_text(f"model_name_or_path: {base_folder}")
    (chat_folder / "samples.json").write_text(json.dumps([{"prompt": "Why?", "answers": {}}]))
    models = load_models([str(chat_folder)])
    assert [model.name for model in models] == ["chat", "base"]
    found = about.About.of(models[0])
    assert (found.questions, found.beginnings) == (["Why?"], ["Once there was"])
    (base_folder / "model.safetensors").unlink()
    assert [model.name for model in load_models([str(chat_folder)])] == ["chat"]


def test_what_cannot_be_drawn_is_said_in_its_place(chat_folder: Path) -> None:
    """An empty text, one that is too long, a layer that is not there: a line, not a blank."""
    model = StreamingModel.load(str(chat_folder))
    handlers = Handlers([model])
    for drawn in (
        handlers.tokens("", "chat"),
        handlers.next_tokens("7 " * 500, "chat", 1.0, 0, 1.0),
        handlers.attention("7 " * 100, "chat", 1, "1"),
        handlers.attention("7", "chat", 9, "1"),
        handlers.tokens("7" * 30_000, "chat"),
    ):
        assert drawn.startswith("<p class='note'>") and len(drawn) > 40


def test_one_model_at_two_temperatures(chat_folder: Path) -> None:
    """Side by side, temperature 0 gives the same text twice; so does one more token behind a text."""
    model = StreamingModel.load(str(chat_folder))
    handlers = Handlers([model])
    *_, (left, right) = handlers.compare("Hello", "chat", 0.0, "chat", 0.0, 50, 1.0, 8)
    assert left == right != ""
    *_, text = handlers.add_token("Hello", "chat", 0.0, 50, 1.0)
    *_, longer = handlers.complete("Hello", "chat", 0.0, 50, 1.0, 8)
    assert longer.startswith(text)
