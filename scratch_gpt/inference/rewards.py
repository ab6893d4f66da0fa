# SPDX-License-Identifier: Apache-2.0
"""The reward model: loading it, and the scores it gives."""

from collections.abc import Sequence
from typing import Any

import torch
from accelerate import PartialState
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from scratch_gpt.data.rows.messages import Message
from scratch_gpt.errors import UserError
from scratch_gpt.inference.loading import load_config, load_tokenizer_beside, load_weights
from scratch_gpt.tokenization import protect_control_tokens, tokenizer_hash


def load_reward_model(folder: str, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """Load what the reward stage wrote, on this process's device, ready to score, for a chat model with this tokenizer.

    Raises:
        UserError: no model in the folder, no reward model (one score), another tokenizer, damaged weights.
    """
    config = load_config(folder)
    kinds = config.architectures or []
    if not any(kind.endswith("ForSequenceClassification") for kind in kinds):
        message = f"{folder} is no reward model but {', '.join(kinds) or 'of unknown kind'}"
        raise UserError("wrong_model", message, found=kinds)
    if config.num_labels != 1:
        message = f"{folder} gives {config.num_labels} scores, a reward model gives one (num_labels: 1)"
        raise UserError("too_many_labels", message, num_labels=config.num_labels)
    own = load_tokenizer_beside(folder)
    if own is None or tokenizer_hash(protect_control_tokens(own)) != tokenizer_hash(tokenizer):
        message = (
            f"the reward model {folder} has another tokenizer than the chat model: train it from that one"
        )
        raise UserError("another_tokenizer", message, folder=folder)
    return load_weights(AutoModelForSequenceClassification, folder).to(PartialState().device).eval()


@torch.inference_mode()
def score_conversations(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    conversations: Sequence[Sequence[Message]],
    tools: Sequence[list[dict[str, Any]] | None] | None = None,
    batch_size: int = 64,
) -> list[float]:
    """The reward model's score of each conversation, which ends with the answer that is judged.

    Args:
        tools: the definitions that each conversation begins with.
    """
    defined = tools or [None] * len(conversations)
    order = sorted(
        range(len(conversations)), key=lambda index: sum(len(m["content"]) for m in conversations[index])
    )
    scores = [0.0] * len(conversations)
    for start in range(0, len(order), batch_size):
        indices = order[start : start + batch_size]
        rows = [
            tokenizer.apply_chat_template(conversations[index], tools=defined[index], return_dict=True)
            for index in indices
        ]
        batch = tokenizer.pad(
            {"input_ids": [row["input_ids"] for row in rows]},
            padding_side="right",  # as in the training
            return_tensors="pt",
        )
        logits = model(**batch.to(model.device), use_cache=False).logits[:, 0]
        for index, score in zip(indices, logits.tolist(), strict=True):
            scores[index] = score
    return scores
