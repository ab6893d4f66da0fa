# SPDX-License-Identifier: Apache-2.0
"""What the page says of a model, from its card, its results and its prompts."""

import json
import re
from pathlib import Path

import pytest

from scratch_gpt.runs.results import Metric, write_result
from scratch_gpt.serving.chat import StreamingModel


pytest.importorskip("gradio", reason="needs the packages of scratch-gpt[web]")

from scratch_gpt.serving.web import about
from scratch_gpt.serving.web.server import load_models


CARD = "---\nlicense: mit\n---\n\n# Bee\n\n![picture](x.png)\n\nIt **knows** [bees](http://x) and <b>honey</b>.\n\nMore.\n"


def test_the_page_introduces_a_model_by_its_card_and_its_scores(chat_folder: Path) -> None:
    """The card's first words as text, the questions answered right, one score a task with what guessing gets."""
    (chat_folder / "README.md").write_text(CARD)
    metrics = {
        "facts/exact_match": Metric(0.5, (0.4, 0.6), chance=0.25),
        "facts/f1": Metric(0.75, (0.6, 0.8), chance=0.5),
        "facts/continues_with_question": Metric(0.0, (0.0, 0.1)),
    }
    write_result(
        chat_folder / "results/qa.json", "qa", "chat", 4, metrics, {}, 0, {"facts": ["What is a bee?"]}
    )
    model = StreamingModel.load(str(chat_folder))
    found = about.About.of(model)
    assert (found.questions, found.are_right) == (["What is a bee?"], True)
    assert found.beginnings == [*about.BEGINNINGS]
    page = about.introduction([model], [found])
    assert "<b>chat</b>: It knows bees and &lt;b&gt;honey&lt;/b&gt;. <" in page
    scores = re.findall(">([^<>]+)<", about.benchmark_scores([model]))
    assert scores == ["measure", "chat", "guessing", "facts: exact answers", "50%", "25%"]


def test_a_long_first_paragraph_is_cut(chat_folder: Path) -> None:
    """Behind a sentence, or, where none ends in English, behind letters."""
    for paragraph, shown in (("水" * 500, "水" * 400 + " ..."), ("A bee. " + "x" * 500, "A bee.")):
        (chat_folder / "README.md").write_text(f"# Bee\n\n{paragraph}\n", encoding="utf-8")
        assert about.About.of(StreamingModel.load(str(chat_folder))).card == shown


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
    """Questions of its samples, beginnings of the pretraining that it came from; that model is shown beside it."""
    (base_folder / "run.yaml").write_text("sample_prompts: [Once there was]")
    (chat_folder / "run.yaml").write_text(f"model_name_or_path: {base_folder}")
    (chat_folder / "samples.json").write_text(json.dumps([{"prompt": "Why?", "answers": {}}]))
    models = load_models([str(chat_folder)])
    assert [model.name for model in models] == ["chat", "base"]
    found = about.About.of(models[0])
    assert (found.questions, found.beginnings) == (["Why?"], ["Once there was"])
    (base_folder / "model.safetensors").unlink()
    assert [model.name for model in load_models([str(chat_folder)])] == ["chat"]
