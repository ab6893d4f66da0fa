# SPDX-License-Identifier: Apache-2.0
"""A look inside one forward pass: the tokens of a text, the probabilities of the next one, which token attends to which.

Shapes: L layers, H heads, T tokens, V vocabulary.
"""

import re
from typing import Any, NamedTuple

import torch
from tokenizers import decoders
from transformers.convert_slow_tokenizer import bytes_to_unicode
from transformers.generation.logits_process import (
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from scratch_gpt.inference.sampling import Sampling


# Byte-level tokenizers write each byte as one visible character; SentencePiece a space as U+2581, a lone byte as <0xE4>.
BYTE_OF = {character: byte for byte, character in bytes_to_unicode().items()}
LONE_BYTE = re.compile("<0x([0-9A-F]{2})>")
SPACE = "\u2581"
VISIBLE = str.maketrans({" ": "\u2423", "\n": "\u23ce", "\t": "\u21e5"})


class NextToken(NamedTuple):
    """A candidate for the next token.

    Args:
        label: the token as people can read it.
        probability: at temperature 1, out of the whole vocabulary.
        drawn: the probability with which the settings draw it.
    """

    label: str
    probability: float
    drawn: float


def token_bytes(tokenizer: Any, token_id: int) -> bytes:
    """The bytes of text that a token encodes; of a special token those of its spelling."""
    written = tokenizer.convert_ids_to_tokens(token_id) or ""  # a row of the vocabulary without a token
    if token_id in tokenizer.added_tokens_decoder:
        return written.encode()
    if isinstance(tokenizer.backend_tokenizer.decoder, decoders.ByteLevel):
        return bytes(BYTE_OF[character] for character in written)
    if lone := LONE_BYTE.fullmatch(written):
        return bytes([int(lone[1], 16)])
    return written.replace(SPACE, " ").encode()


def token_label(tokenizer: Any, token_id: int) -> str:
    """A token as people can read it: blanks are drawn, bytes that are no whole character are written <E4>."""
    raw = token_bytes(tokenizer, token_id)
    try:
        return raw.decode().translate(VISIBLE)
    except UnicodeDecodeError:
        return "".join(f"<{byte:02X}>" for byte in raw)


def sampling_probabilities(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """The probabilities (V,) that the next token is drawn with: temperature, top-k and top-p, in the order of `generate`.

    Args:
        logits: of the next token, shape (V,).
    """
    if sampling.temperature == 0:
        return torch.nn.functional.one_hot(logits.argmax(), len(logits)).float()
    warpers = LogitsProcessorList([TemperatureLogitsWarper(float(sampling.temperature))])
    if sampling.top_k:
        warpers.append(TopKLogitsWarper(sampling.top_k))
    warpers.append(TopPLogitsWarper(sampling.top_p))
    return warpers(torch.empty(1, 0, dtype=torch.long), logits[None])[0].softmax(-1)


@torch.inference_mode()
def next_tokens(
    model: Any, tokenizer: Any, token_ids: list[int], count: int, sampling: Sampling
) -> list[NextToken]:
    """The `count` likeliest tokens after `token_ids`, the likeliest first, and how likely `sampling` draws each."""
    inputs = torch.tensor([token_ids], device=model.device)
    logits = model(inputs, use_cache=False, logits_to_keep=1).logits[0, -1].float().cpu()  # (V,)
    values, ids = logits.softmax(-1).topk(min(count, len(logits)))
    drawn = sampling_probabilities(logits, sampling)[ids]
    return [
        NextToken(token_label(tokenizer, token_id), *probabilities)
        for token_id, *probabilities in zip(ids.tolist(), values.tolist(), drawn.tolist(), strict=True)
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
