# SPDX-License-Identifier: Apache-2.0
"""A look inside: the numbers are the model's own, the table shows text as text."""

import re
from html.parser import HTMLParser

import torch

from scratch_gpt.serving.inspection import attention_table, attention_weights, next_tokens, token_label


def test_next_tokens_are_the_softmax_of_the_last_logits(tiny_model, tiny_tokenizer) -> None:
    """The likeliest first, with their probabilities."""
    ids = tiny_tokenizer("Once upon")["input_ids"]
    found = next_tokens(tiny_model, tiny_tokenizer, ids, 5)
    expected, order = tiny_model(torch.tensor([ids])).logits[0, -1].softmax(-1).sort(descending=True)
    assert [label for label, _ in found] == [
        token_label(tiny_tokenizer, index) for index in order[:5].tolist()
    ]
    torch.testing.assert_close(torch.tensor([value for _, value in found]), expected[:5])


def test_attention_weights_by_hand(small_model) -> None:
    """Layer 1 of the classic design: softmax of the scaled products of queries and keys, causal, for each head."""
    model = small_model(dialect="gpt2")
    ids = [5, 17, 9, 40]
    weights = attention_weights(model, ids)
    assert weights.shape == (2, 4, 4, 4)
    layer = model.model.layers[0]
    seen: list[torch.Tensor] = []
    layer.self_attn.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs.get("hidden_states", args[0] if args else None)),
        with_kwargs=True,
    )
    before = model.config._attn_implementation
    with torch.no_grad():
        model(torch.tensor([ids]))
        query, key = (
            projection(seen[0])[0].view(4, 4, 16).transpose(0, 1)
            for projection in (layer.self_attn.q_proj, layer.self_attn.k_proj)
        )
    scores = query @ key.transpose(1, 2) / 16**0.5
    scores = scores.masked_fill(torch.ones(4, 4).triu(1).bool(), float("-inf"))
    torch.testing.assert_close(weights[0], scores.softmax(-1))
    assert model.config._attn_implementation == before != "eager"


def test_labels_can_be_read(tiny_tokenizer) -> None:
    """Blanks are drawn, a special token is spelled, half a character is its byte."""
    blank = tiny_tokenizer.convert_tokens_to_ids("\u0120")
    half = tiny_tokenizer("\u4f60")["input_ids"][0]
    assert token_label(tiny_tokenizer, blank) == "\u2423"
    assert token_label(tiny_tokenizer, tiny_tokenizer.eos_token_id) == "<|endoftext|>"
    assert re.fullmatch("<E4>|<E4><BD>", token_label(tiny_tokenizer, half))


def test_the_table_shows_hostile_text_as_text() -> None:
    """Markup in a token is no markup; each row has a cell for itself and each token before it."""
    labels = ["<script>", "' onmouseover='x", "&lt;"]
    tags: list[tuple[str, list]] = []
    texts: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attrs) -> None:
            tags.append((tag, attrs))

        def handle_data(self, data) -> None:
            texts.append(data)

    Reader().feed(attention_table(labels, torch.eye(3)))
    assert {tag for tag, _ in tags} == {"div", "table", "tr", "th", "td", "span"}
    assert {name for _, attributes in tags for name, _ in attributes} == {"class", "scope", "style", "title"}
    assert "".join(texts) == "".join(labels) * 2
    assert sum(tag == "td" for tag, _ in tags) == 1 + 2 + 3
