# SPDX-License-Identifier: Apache-2.0
"""What hidden tokens cost a masked language model, some at a time or each alone (pseudo-likelihood).

Shapes: B blocks in a batch, T tokens of a block, V vocabulary.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from transformers import AutoModelForMaskedLM, PreTrainedModel, PreTrainedTokenizerBase

from scratch_gpt.configuration_scratch_gpt import ScratchGPTConfig
from scratch_gpt.data.collators.masking import MaskingCollator
from scratch_gpt.data.collators.packed import IGNORED, to_device
from scratch_gpt.errors import UserError
from scratch_gpt.inference.likelihood import row_sums
from scratch_gpt.inference.loading import load_config, load_weights
from scratch_gpt.tokenization import load_tokenizer


# Keeps the draws apart from others that are made of the same seed.
STREAM = 3


def load_masked_model(folder: str | Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a masked language model, ours or one of transformers, and its tokenizer, ready for inference.

    Raises:
        UserError: no model or no tokenizer in the folder, damaged weights, a model of another kind.
    """
    config = load_config(folder)
    kinds = config.architectures or []
    if not any(kind.endswith("ForMaskedLM") for kind in kinds):
        message = (
            f"{folder} is no masked language model but {', '.join(kinds) or 'of unknown kind'}: pretrain one with "
            "objective masked"
        )
        raise UserError("wrong_model", message, found=kinds)
    model = load_weights(AutoModelForMaskedLM, folder)
    if config.model_type != ScratchGPTConfig.model_type:
        keep_documents_apart(model)
    return model.to(PartialState().device).eval(), load_tokenizer(folder)


def keep_documents_apart(model: PreTrainedModel) -> None:
    """Let a bidirectional class of transformers see packed documents as ours do, by positions that restart.

    Its own `forward` takes them for positions alone; here they become a mask (B, 1, T, T) too.
    """
    plain_forward = model.forward

    @functools.wraps(plain_forward)
    def forward(*args: Any, position_ids: torch.Tensor, **kwargs: Any) -> Any:
        document = (position_ids == 0).cumsum(dim=1)
        apart = document[:, None, :, None] != document[:, None, None, :]
        mask = torch.zeros(apart.shape, device=apart.device).masked_fill(
            apart, torch.finfo(torch.float32).min
        )
        return plain_forward(*args, position_ids=position_ids, attention_mask=mask, **kwargs)

    model.forward = forward


@torch.no_grad()  # not inference_mode: see `packed_nll`
def masked_nll(model: torch.nn.Module, batch: dict[str, Any]) -> torch.Tensor:
    """Nats, tokens, and tokens that are the model's first guess, at the labels of each block: float64 (B, 3), on the CPU.

    Args:
        batch: of `MaskingCollator`, on the model's device.
    """
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    labels = batch["labels"]
    logits = model(**inputs, use_cache=False).logits
    nats = torch.nn.functional.cross_entropy(
        logits.float().transpose(1, 2), labels, ignore_index=IGNORED, reduction="none"
    )
    hidden = labels != IGNORED
    right = (logits.argmax(-1) == labels) & hidden
    return row_sums(nats, hidden, right)


def text_places(block: np.ndarray, collator: MaskingCollator) -> list[np.ndarray]:
    """Where the text tokens of each document of a block are; documents without any are left out."""
    places = np.flatnonzero(collator.is_text[block])
    document = np.cumsum(block == collator.packed.eos_token_id)[places]
    return [own for own in np.split(places, np.flatnonzero(np.diff(document)) + 1) if len(own)]


def sampled_pseudo_nll(
    model: torch.nn.Module,
    blocks: list[np.ndarray],
    numbers: Sequence[int],
    collator: MaskingCollator,
    device: torch.device,
) -> torch.Tensor:
    """An estimate of `pseudo_nll` from one token of each document, in one forward pass.

    The token counts as often as its document has tokens. `numbers` of the blocks decide which one is drawn.
    """
    rows, weights = [], []
    for block, number in zip(blocks, numbers, strict=True):
        random = np.random.default_rng([0, number, STREAM])
        documents = text_places(block, collator)
        rows.append([random.choice(places) for places in documents])
        weights.append([len(places) for places in documents])
    nats = _hidden_nats(model, blocks, rows, collator, device)
    return torch.tensor(
        [[np.dot(weight, nat), sum(weight)] for weight, nat in zip(weights, nats, strict=True)],
        dtype=torch.float64,
    )


def pseudo_nll(
    model: torch.nn.Module,
    block: np.ndarray,
    collator: MaskingCollator,
    device: torch.device,
    batch_size: int,
) -> tuple[float, int]:
    """Nats and number of a block's text tokens, each hidden alone in its document and guessed from all the others.

    The sum of their log-probabilities is the pseudo-log-likelihood; exp(nats / tokens) is the pseudo-perplexity
    (Salazar et al. 2020, hf.co/papers/1910.14659, equations 2 and 4). Documents cannot see each other, so one forward
    pass hides one token in each.
    """
    documents = text_places(block, collator)
    rounds = [
        [places[turn] for places in documents if turn < len(places)]
        for turn in range(max(map(len, documents), default=0))
    ]
    total = 0.0
    for start in range(0, len(rounds), batch_size):
        rows = rounds[start : start + batch_size]
        total += sum(sum(nats) for nats in _hidden_nats(model, [block] * len(rows), rows, collator, device))
    return total, sum(map(len, documents))


@torch.no_grad()  # not inference_mode: see `packed_nll`
def _hidden_nats(
    model: torch.nn.Module,
    blocks: list[np.ndarray],
    rows: list[list[int]],
    collator: MaskingCollator,
    device: torch.device,
) -> list[list[float]]:
    """The nats that the tokens at the places `rows[b]` of each block cost when they are hidden."""
    batch = to_device(collator.packed(blocks), device)
    del batch["labels"]
    row = torch.tensor([number for number, places in enumerate(rows) for _ in places], device=device)
    column = torch.tensor([place for places in rows for place in places], device=device)
    targets = batch["input_ids"][row, column]
    batch["input_ids"][row, column] = collator.mask
    logits = model(**batch, use_cache=False).logits
    nats = torch.nn.functional.cross_entropy(logits[row, column].float(), targets, reduction="none")
    return [part.tolist() for part in nats.cpu().double().split([len(places) for places in rows])]
