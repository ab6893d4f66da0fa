# SPDX-License-Identifier: Apache-2.0
"""How likely a model finds given texts: what multiple choice, minimal pairs and cloze texts are judged by.

The numbers are those of lm-eval's HFLM for the same pairs of context and continuation.
Shapes: B texts in a batch, T tokens of the longest of them, V vocabulary.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from scratch_gpt.errors import UserError
from scratch_gpt.evaluation.runner import encode_prompts, fit, gathered, own_batches, padded
from scratch_gpt.tokenization import encode_plain


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
    prompts: Sequence[str],
    continuations: Sequence[str],
    *,
    chat: bool,
    batch_size: int = 64,
) -> list[Likelihood]:
    """How likely the model finds each continuation after its prompt; an empty prompt is the beginning of a document.

    Prompt and continuation are tokenized apart, so that all candidates of a prompt share its tokens. The end of the
    answer is not weighed.

    Raises:
        UserError: a continuation longer than the model's positions, a model that gives NaN.
    """
    begin = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    starts = [ids or [begin] for ids in encode_prompts(tokenizer, prompts, chat)]
    ends = encode_plain(tokenizer, list(continuations))
    positions = model.config.max_position_embeddings
    if (longest := max(map(len, ends))) > positions:
        raise UserError(f"a candidate has {longest} tokens, the model only {positions} positions")
    # the last token is only predicted, so it needs no position
    token_ids = fit(model, [start + end for start, end in zip(starts, ends, strict=True)], -1)
    results: dict[int, Likelihood] = {}
    for _, batch in own_batches([len(ids) for ids in token_ids], batch_size):
        inputs = padded(
            [token_ids[index][:-1] for index in batch], tokenizer.pad_token_id, "right", model.device
        )
        with torch.inference_mode():
            logits = model(**inputs, use_cache=False).logits  # (B, T, V)
            for row, index in enumerate(batch):
                last, end = len(token_ids[index]) - 1, ends[index]
                own = logits[row, last - len(end) : last].float()  # (tokens of the continuation, V)
                targets = torch.tensor(end, device=own.device)
                nats = torch.nn.functional.cross_entropy(own, targets, reduction="none").double().sum().item()
                if not math.isfinite(nats):
                    raise UserError(
                        f"the model gives {-nats} as the log-likelihood of {continuations[index]!r:.60}: its weights "
                        "or its precision are broken"
                    )
                greedy = bool((own.argmax(dim=-1) == targets).all())
                results[index] = Likelihood(-nats, len(end), len(continuations[index].encode()), greedy)
    return gathered(results)
