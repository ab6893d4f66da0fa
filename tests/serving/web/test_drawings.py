# SPDX-License-Identifier: Apache-2.0
"""Text in a drawing is text, and its numbers are written as well."""

from html.parser import HTMLParser

import pytest
import torch

from scratch_gpt.serving.inspection import NextToken


pytest.importorskip("gradio", reason="needs the packages of scratch-gpt[web]")

from scratch_gpt.serving.web import drawings


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
    """Their only tags and attributes are ours; id, bytes and both shares are written."""
    page = Reader(drawings.draw_tokens("abc", [(7, label, b"\xe4a") for label in HOSTILE]))
    assert (set(page.tags), page.attributes) == ({"p", "ol", "li", "b", "span", "small"}, {"class"})
    assert page.texts[1:] == [text for label in HOSTILE for text in (label, "7", "E4 61")]
    page = Reader(drawings.draw_next_tokens([NextToken(label, 0.25, 0.5) for label in HOSTILE]))
    assert (set(page.tags), page.attributes) == (
        {"table", "tr", "th", "td", "div"},
        {"class", "scope", "style"},
    )
    assert page.texts[3:] == [text for label in HOSTILE for text in (label, "50.0%", "25.0%")]
