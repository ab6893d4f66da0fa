# SPDX-License-Identifier: Apache-2.0
"""What the page draws, as HTML: every text in it is escaped, and what color or length shows is written as well."""

from collections.abc import Sequence
from html import escape

import torch

from scratch_gpt.serving.inspection import NextToken


# Colors that alternate in a row of tokens; the style sheet has as many.
NUM_COLORS = 6


def draw_note(text: str) -> str:
    """A line in the place of a drawing: why there is none."""
    return f"<p class='note'>{escape(text)}</p>"


def draw_tokens(text: str, tokens: Sequence[tuple[int, str, bytes]]) -> str:
    """The tokens of a text (id, label, bytes), each in the next color with its id and its bytes below."""
    size = len(text.encode())
    summary = f"{len(tokens)} tokens for {len(text)} characters ({size} bytes): {size / len(tokens):.1f} bytes a token"
    items = "".join(
        f"<li class='color-{number % NUM_COLORS}'><b>{escape(label)}</b>"
        f"<span>{token_id}</span><small>{raw.hex(' ').upper()}</small></li>"
        for number, (token_id, label, raw) in enumerate(tokens)
    )
    return f"<p>{summary}.</p><ol class='tokens'>{items}</ol>"


def draw_next_tokens(tokens: Sequence[NextToken]) -> str:
    """A bar for each candidate: how likely it is drawn, and in outline how likely the model finds it."""
    rows = "".join(
        f"<tr><th scope='row'>{escape(token.label)}</th>"
        f"<td><div class='bar' style='--drawn:{token.drawn:.1%};--model:{token.probability:.1%}'></div></td>"
        f"<td>{token.drawn:.1%}</td><td>{token.probability:.1%}</td></tr>"
        for token in tokens
    )
    head = "<tr><th scope='col'>token</th><td></td><th scope='col'>drawn</th><th scope='col'>model</th></tr>"
    return f"<table class='bars'>{head}{rows}</table>"


def draw_attention(labels: list[str], weights: torch.Tensor) -> str:
    """A table of attention weights (T, T): a row for each token that looks, a column for each it looks at."""
    names = [escape(label) for label in labels]
    head = "".join(f"<th scope='col'><span>{name}</span></th>" for name in names)
    rows = []
    for number, name in enumerate(names):
        cells = "".join(
            f"<td style='--weight:{weight:.3f}' title='{name} &rarr; {other}: {weight:.0%}'></td>"
            for other, weight in zip(names, weights[number, : number + 1].tolist(), strict=False)
        )
        rows.append(f"<tr><th scope='row'>{name}</th>{cells}</tr>")
    # what can be scrolled must be reachable from the keyboard
    region = "<div class='attention' role='region' tabindex='0' aria-label='Attention weights'>"
    return f"{region}<table><tr><th></th>{head}</tr>{''.join(rows)}</table></div>"


def draw_scores(models: Sequence[str], rows: Sequence[tuple[str, Sequence[str], str]]) -> str:
    """A table of scores: a row for each measure with a cell for each model and what guessing gets."""
    columns = ("measure", *models, "guessing")
    head = "".join(f"<th scope='col'>{escape(name)}</th>" for name in columns)
    body = "".join(
        f"<tr><th scope='row'>{escape(measure)}</th>{''.join(f'<td>{cell}</td>' for cell in (*cells, chance))}</tr>"
        for measure, cells, chance in rows
    )
    return f"<table class='scores'><tr>{head}</tr>{body}</table>"
