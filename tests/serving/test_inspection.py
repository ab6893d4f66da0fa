# SPDX-License-Identifier: Apache-2.0
"""A look inside: the numbers are the model's own."""

import re

import pytest
import torch

from scratch_gpt.inference.sampling import Sampling
from scratch_gpt.serving.inspection import (
    attention_weights,
    next_tokens,
    sampling_probabilities,
    token_bytes,
    token_label,
)


def test_next_tokens_are_the_softmax_of_the_last_logits(tiny_model, tiny_tokenizer) -> None:
    """The likeliest first, with their probabilities."""
    ids = tiny_tokenizer("Once upon")["input_ids"]
    found = next_tokens(tiny_model, tiny_tokenizer, ids, 5, Sampling(temperature=0.5, top_k=3))
    expected, order = tiny_model(torch.tensor([ids])).logits[0, -1].softmax(-1).sort(descending=True)
    assert [token.label for token in found] == [
        token_label(tiny_tokenizer, index) for index in order[:5].tolist()
    ]
    torch.testing.assert_close(torch.tensor([token.probability for token in found]), expected[:5])
    # half the temperature squares the probabilities; of three tokens they add up to 1
    drawn = torch.cat([expected[:3] ** 2 / (expected[:3] ** 2).sum(), torch.zeros(2)])
    torch.testing.assert_close(torch.tensor([token.drawn for token in found]), drawn)


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(1.0, top_k=0), [0.5, 0.3, 0.15, 0.05]),
        (Sampling(0.0), [1, 0, 0, 0]),
        (Sampling(1.0, top_k=2), [0.625, 0.375, 0, 0]),
        (Sampling(1.0, top_p=0.9, top_k=0), [0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0]),
        # of the two that top-k leaves, top-p counts shares of what is left
        (Sampling(1.0, top_p=0.6, top_k=2), [1, 0, 0, 0]),
    ],
)
def test_what_is_drawn_from_by_hand(sampling: Sampling, expected: list[float]) -> None:
    """Temperature, top-k and top-p, in the order of `generate`."""
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    torch.testing.assert_close(
        sampling_probabilities(logits, sampling), torch.tensor(expected, dtype=torch.float)
    )


def test_bytes_of_tokens_are_those_of_the_text(tiny_tokenizer) -> None:
    """Joined they are the text; a special token's are its spelling."""
    text = "Na\u00efve \u4f60\u597d\n"
    ids = tiny_tokenizer(text)["input_ids"]
    assert b"".join(token_bytes(tiny_tokenizer, index) for index in ids) == text.encode()
    assert token_bytes(tiny_tokenizer, tiny_tokenizer.eos_token_id) == b"<|endoftext|>"


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
