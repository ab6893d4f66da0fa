# SPDX-License-Identifier: Apache-2.0
"""What the page says of a model before anybody asks it: from its card, its configuration and its results."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from scratch_gpt.errors import UserError
from scratch_gpt.evaluation.compare import compare, main_scores
from scratch_gpt.publishing.facts import lineage, read_samples
from scratch_gpt.publishing.labels import measure_label, number
from scratch_gpt.runs.folders import read_yaml
from scratch_gpt.runs.results import read_results
from scratch_gpt.serving.chat import StreamingModel
from scratch_gpt.serving.web.drawings import draw_scores


# What is proposed where the folder has no prompts of its own.
QUESTIONS = ("Hello", "What can you do?")
BEGINNINGS = ("The capital of France is", "Once upon a time")
# Letters of more than one byte, to be looked at.
SCRIPTS = "Stra\u00dfe, \u4f60\u597d, \U0001f41d"
NUM_EXAMPLES = 5
MOST_CHARACTERS = 400  # of a card's first paragraph
CARD_HEAD = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")


@dataclass(frozen=True)
class About:
    """What is known of a model.

    Args:
        card: the first paragraph of its card; "" without one.
        shape: its size, in words.
        questions: to ask it.
        are_right: whether it answered the questions right in its benchmarks.
        beginnings: of texts, to be continued.
    """

    card: str
    shape: str
    questions: list[str]
    are_right: bool
    beginnings: list[str]

    @classmethod
    def of(cls, model: StreamingModel) -> "About":
        """What the model's folder and configuration say."""
        config = model.model.config
        card, parameters = _first_paragraph(model.folder), number(model.model.num_parameters())
        facts = [
            f"{number(config.num_hidden_layers)} layers",
            f"context {number(model.context)} tokens",
            f"vocabulary {number(config.vocab_size)} tokens",
        ]
        if parameters not in card:
            facts.insert(0, f"{parameters} parameters")
        prompts, beginnings = _prompts(model.folder)
        return cls(
            card,
            ", ".join(facts),
            (model.questions or prompts or [*QUESTIONS])[:NUM_EXAMPLES],
            bool(model.questions),
            (beginnings or [*BEGINNINGS])[:NUM_EXAMPLES],
        )


def _prompts(folder: Path | None) -> tuple[list[str], list[str]]:
    """The questions that the run's own samples asked, and the beginnings that its pretraining continued."""
    if folder is None:
        return [], []
    try:
        first, *_ = lineage(folder)
        run = read_yaml(first / "run.yaml")
        samples = read_samples(folder)
    except UserError:  # only proposals: a damaged file keeps nobody from talking
        return [], []
    beginnings = [] if run.get("model_name_or_path") else run.get("sample_prompts") or []
    return [str(sample["prompt"]) for sample in samples], [str(text) for text in beginnings]


def _first_paragraph(folder: Path | None) -> str:
    """The first paragraph of plain words below the title of the card in `folder`; "" where there is none."""
    path = folder / "README.md" if folder else None
    if path is None or not path.is_file():
        return ""
    card = CARD_HEAD.sub("", path.read_text(encoding="utf-8", errors="replace"))
    paragraphs = [" ".join(block.split()) for block in card.split("\n\n")]
    plain = [text for text in paragraphs if text and text[0] not in "#!<[|`-*>"]
    if not plain:
        return ""
    words = LINK.sub(r"\1", plain[0]).replace("**", "").replace("`", "")
    if len(words) <= MOST_CHARACTERS:
        return words
    sentences, end, _ = words[:MOST_CHARACTERS].rpartition(". ")
    return f"{sentences}." if end else f"{words[:MOST_CHARACTERS].rstrip()} ..."


def introduction(models: Sequence[StreamingModel], abouts: Sequence[About]) -> str:
    """The head of the page, as HTML: the models' names, and a paragraph on each."""
    paragraphs = []
    for model, about in zip(models, abouts, strict=True):
        kind = "A chat model." if model.is_chat else "A base model, which continues a text."
        text = about.card or kind
        paragraphs.append(
            f"<p><b>{escape(model.name)}</b>: {escape(text)} <span class='soft'>{escape(about.shape.capitalize())}.</span></p>"
        )
    names = " and ".join(escape(model.name) for model in models)
    return f"<h1>{names}</h1>{''.join(paragraphs)}"


def benchmark_scores(models: Sequence[StreamingModel]) -> str:
    """The main score of each task in the models' results, as an HTML table; "" where there are none."""
    try:
        results = {model.name: read_results(model.folder) for model in models if model.folder}
    except UserError:
        return ""
    names = [model.name for model in models]
    rows = [
        (
            measure_label(score.metric),
            [
                f"{score.values[name]['value'] / score.full:.0%}" if name in score.values else "-"
                for name in names
            ],
            f"{score.chance / score.full:.0%}",
        )
        for score in main_scores(compare(results))
        if score.chance is not None
    ]
    return draw_scores(names, rows) if rows else ""
