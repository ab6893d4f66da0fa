# SPDX-License-Identifier: Apache-2.0
"""What the buttons do, without a browser."""

from pathlib import Path

import pytest

from scratch_gpt.serving.chat import StreamingModel


pytest.importorskip("gradio", reason="needs the packages of scratch-gpt[web]")

from scratch_gpt.serving.web.handlers import NO_TEXT, Handlers


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


def test_an_answer_without_text_is_said(chat_folder: Path, monkeypatch) -> None:
    """Side by side, a model that ends at once leaves a line, not the promise of an answer."""
    monkeypatch.setattr(StreamingModel, "stream", lambda *_: (piece for piece in ""))
    handlers = Handlers([StreamingModel.load(str(chat_folder))])
    *_, answers = handlers.compare("Hello", "chat", 0.0, "chat", 0.0, 50, 1.0, 8)
    assert answers == (NO_TEXT, NO_TEXT)
