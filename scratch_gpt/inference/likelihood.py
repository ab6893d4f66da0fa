# SPDX-License-Identifier: Apache-2.0
"""How likely a model finds given texts: what multiple choice, minimal pairs, cloze texts and held-out text are judged by.

The numbers of single texts are those of lm-eval's HFLM for the same pairs of context and continuation.
Shapes: B texts in a batch, T tokens of the longest of them, V vocabulary.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from scratch_gpt.data.collators.packed import IGNORED
from scratch_gpt.data.rows.messages import Message
from scratch_gpt.errors import UserError
from scratch_gpt.inference.generation import (
    NO_THOUGHT,
    begin_ids,
    conversations,
    fit,
    gathered,
    own_batches,
    padded,
)
from scratch_gpt.modeling_scratch_gpt_inputs import CACHE_NAME
from scratch_gpt.tokenization import encode_escaped, escape_all


class Likelihood(NamedTuple):
    """How likely a text is.

    Args:
        log_likelihood: in nats.
        tokens, length: of the text; the latter in UTF-8 bytes.
        greedy: whether each of its tokens is the model's most probable one.
    """

    log_likelihood: float
    tokens: int
    length: int
    greedy: bool


def loglikelihoods(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str | list[Message]],
    continuations: Sequence[str],
    *,
    chat: bool,
    batch_size: int = 64,
) -> list[Likelihood]:
    """How likely the model finds each continuation after its prompt; an empty prompt is the beginning of a document.

    The end of the answer is not weighed.

    Raises:
        UserError: a continuation longer than the model's positions, a model that gives NaN.
    """
    starts, ends = encode_pairs(tokenizer, prompts, continuations, chat, model.config.is_encoder_decoder)
    positions = model.config.max_position_embeddings
    if (longest := max(map(len, ends))) > positions:
        message = f"a candidate has {longest} tokens, the model only {positions} positions"
        raise UserError("too_long", message, length=longest, limit=positions)
    if model.config.is_encoder_decoder:
        contexts = [
            tuple(ids) for ids in fit(model, [[*start, tokenizer.eos_token_id] for start in starts], 0)
        ]
        inputs = [[model.config.decoder_start_token_id, *end[:-1]] for end in ends]
    else:
        # the last token is only predicted, so it needs no position
        token_ids = fit(model, [start + end for start, end in zip(starts, ends, strict=True)], -1)
        contexts = [tuple(ids[: -len(end)][:-1]) for ids, end in zip(token_ids, ends, strict=True)]
        inputs = [ids[-len(end) - 1 : -1] for ids, end in zip(token_ids, ends, strict=True)]
    results: dict[int, Likelihood] = {}
    # candidates of one prompt are next to each other
    keys = [(-len(context), context, -len(end)) for context, end in zip(contexts, ends, strict=True)]
    for _, batch in own_batches(keys, batch_size):
        logits = _logits(
            model,
            [contexts[index] for index in batch],
            [inputs[index] for index in batch],
            tokenizer.pad_token_id,
        )
        for own, index in zip(logits, batch, strict=True):
            targets = torch.tensor(ends[index], device=own.device)
            costs = torch.nn.functional.cross_entropy(own, targets, reduction="none")
            nats = costs.cpu().double().sum().item()
            if not math.isfinite(nats):
                raise UserError(
                    "model_not_finite",
                    f"the model gives {-nats} as the log-likelihood of {continuations[index]!r:.60}: its weights or its "
                    "precision are broken",
                )
            greedy = bool((own.argmax(dim=-1) == targets).all())
            length = len(continuations[index].encode())
            results[index] = Likelihood(-nats, len(targets), length, greedy)
    return gathered(results)


def encode_pairs(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str | list[Message]],
    continuations: Sequence[str],
    chat: bool,
    apart: bool = False,
) -> tuple[list[list[int]], list[list[int]]]:
    """Token ids of the prompts and of their continuations, divided as lm-eval divides them.

    White space at the end of a prompt, also of a chat template's, belongs to the continuation. Both are tokenized as one
    text, since some tokenizers join over the border (SentencePiece), and all candidates share the tokens of the prompt
    alone.

    Args:
        apart: tokenize the two apart, for an encoder and a decoder.
    """
    if chat:
        texts = tokenizer.apply_chat_template(
            conversations(prompts), add_generation_prompt=True, tokenize=False, **NO_THOUGHT
        )
    else:
        texts = escape_all(tokenizer, prompts)  # type: ignore[arg-type]  # texts alone
    contexts = [text.rstrip() for text in texts]
    tails = [
        text[len(context) :] + escaped
        for text, context, escaped in zip(texts, contexts, escape_all(tokenizer, continuations), strict=True)
    ]
    begin, bos = begin_ids(tokenizer), tokenizer.bos_token
    first = tokenizer.eos_token_id if bos is None else tokenizer.bos_token_id
    starts, ends = [], []
    whole = [context + tail for context, tail in zip(contexts, tails, strict=True)]
    encoded = zip(*(encode_escaped(tokenizer, part) for part in (contexts, tails, whole)), strict=True)
    for context, (start, tail, both) in zip(contexts, encoded, strict=True):
        ends.append(tail if apart or not start else both[len(start) :] or tail)
        starts.append([*([] if bos and context.startswith(bos) else begin), *start] or [first])
    return starts, ends


@torch.inference_mode()
def _logits(
    model: PreTrainedModel, contexts: list[tuple[int, ...]], inputs: list[list[int]], pad: int
) -> list[torch.Tensor]:
    """What the model predicts after each of the inputs' tokens, which follow their contexts: float32, (tokens, V) each.

    A context that several inputs share goes through the model once.
    """
    unique = {context: place for place, context in enumerate(dict.fromkeys(contexts))}
    if model.config.is_encoder_decoder:
        sources = padded([list(context) for context in contexts], pad, "right", model.device)
        targets = padded(inputs, pad, "right", model.device)["input_ids"]
        logits = model(**sources, decoder_input_ids=targets, use_cache=False).logits
        begins = [0] * len(inputs)
    elif len(unique) == len(contexts) or () in unique:
        whole = padded(
            [[*context, *tail] for context, tail in zip(contexts, inputs)], pad, "right", model.device
        )
        logits = model(**whole, use_cache=False).logits  # (B, T, V)
        begins = [len(context) for context in contexts]
    else:
        # A window of attention counts padding too, and so does a recurrent state: none lies between context and tail.
        heads = padded([list(context) for context in unique], pad, "left", model.device)
        tails = padded(inputs, pad, "right", model.device)
        places = (heads["attention_mask"].cumsum(dim=1) - 1).clamp(min=0)
        cache = model(**heads, position_ids=places, use_cache=True, logits_to_keep=1)[CACHE_NAME]
        own = torch.tensor([unique[context] for context in contexts], device=model.device)  # (B,)
        cache.batch_select_indices(own)
        mask = heads["attention_mask"][own]
        positions = mask.sum(dim=1, keepdim=True) + torch.arange(
            tails["input_ids"].shape[1], device=model.device
        )
        logits = model(
            input_ids=tails["input_ids"],
            attention_mask=torch.cat([mask, tails["attention_mask"]], dim=1),
            position_ids=positions,
            **{CACHE_NAME: cache},
        ).logits
        begins = [0] * len(inputs)
    return [
        row[begin : begin + len(tail)].float()
        for row, begin, tail in zip(logits, begins, inputs, strict=True)
    ]


# not inference_mode: FSDP2 keeps buffers of its first forward pass, which training then cannot write
@torch.no_grad()
def packed_nll(model: torch.nn.Module, batch: dict[str, Any], byte_lengths: torch.Tensor) -> torch.Tensor:
    """What each block of a packed batch costs: nats, predicted tokens and their bytes, float64 of shape (B, 3), on the CPU.

    End-of-document tokens are predicted and cost nats, and have no bytes; a document's first token is not predicted
    and not counted. Bits per byte = nats / ln 2 / bytes, a measure that does not depend on the tokenizer.

    Args:
        batch: of `PackedCollator`, on the model's device.
        byte_lengths: of `token_byte_lengths`, on the same device.
    """
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    logits = model(**inputs, use_cache=False).logits[:, :-1]
    labels = batch["labels"][:, 1:]  # (B, T - 1)
    nats = torch.nn.functional.cross_entropy(
        logits.float().transpose(1, 2), labels, ignore_index=IGNORED, reduction="none"
    )
    predicted = labels != IGNORED
    num_bytes = byte_lengths[labels.clamp(min=0)] * predicted
    return row_sums(nats, predicted, num_bytes)


def row_sums(*costs: torch.Tensor) -> torch.Tensor:
    """Sums of each row (B, T) of each tensor, float64 (B, costs), on the CPU: not every accelerator has float64."""
    return torch.stack([cost.cpu().double().sum(1) for cost in costs], dim=1)
