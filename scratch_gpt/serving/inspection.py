# SPDX-License-Identifier: Apache-2.0
"""A look inside one forward pass: how probable each next token is, and which token attends to which.

Shapes: L layers, H heads, T tokens, V vocabulary.
"""

from html import escape
from typing import Any

import torch
from transformers.convert_slow_tokenizer import bytes_to_unicode

from scratch_gpt.serving.chat import REPLACEMENT


# Byte-level tokenizers write each byte as one visible character.
BYTE_OF = {character: byte for byte, character in bytes_to_unicode().items()}
VISIBLE = str.maketrans({" ": "\u2423", "\n": "\u23ce", "\t": "\u21e5"})


def token_label(tokenizer: Any, token_id: int) -> str:
    """A token as people can read it: blanks are drawn, bytes that are no whole character are written <E4>."""
    text = tokenizer.decode([token_id])
    if REPLACEMENT in text:
        written = tokenizer.convert_ids_to_tokens(token_id)
        text = "".join(f"<{BYTE_OF[c]:02X}>" if c in BYTE_OF else c for c in written)
    return text.translate(VISIBLE)


@torch.inference_mode()
def next_tokens(model: Any, tokenizer: Any, token_ids: list[int], count: int) -> list[tuple[str, float]]:
    """The `count` likeliest tokens after `token_ids`, the likeliest first: label and probability at temperature 1."""
    inputs = torch.tensor([token_ids], device=model.device)
    probabilities = model(inputs, use_cache=False, logits_to_keep=1).logits[0, -1].float().softmax(-1)  # (V,)
    values, ids = probabilities.topk(min(count, len(probabilities)))
    return [
        (token_label(tokenizer, token_id), value)
        for token_id, value in zip(ids.tolist(), values.tolist(), strict=True)
    ]


@torch.inference_mode()
def attention_weights(model: Any, token_ids: list[int]) -> torch.Tensor:
    """What each token takes from itself and those before it: shape (L, H, T, T), each row sums to 1.

    Only the eager computation keeps these weights; the model computes as before afterwards.
    """
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        inputs = torch.tensor([token_ids], device=model.device)
        attentions = model(inputs, use_cache=False, output_attentions=True).attentions  # L of (1, H, T, T)
    finally:
        model.set_attn_implementation(before)
    return torch.stack([layer[0] for layer in attentions]).float().cpu()


def attention_table(labels: list[str], weights: torch.Tensor) -> str:
    """An HTML table of attention weights (T, T): a row for each token that looks, a column for each it looks at."""
    names = [escape(label) for label in labels]
    head = "".join(f"<th scope='col'><span>{name}</span></th>" for name in names)
    rows = []
    for number, name in enumerate(names):
        cells = "".join(
            f"<td style='--weight:{weight:.3f}' title='{name} &rarr; {other}: {weight:.0%}'></td>"
            for other, weight in zip(names, weights[number, : number + 1].tolist(), strict=False)
        )
        rows.append(f"<tr><th scope='row'>{name}</th>{cells}</tr>")
    body = "".join(rows)
    return f"<div class='attention'><table><tr><th></th>{head}</tr>{body}</table></div>"
