# SPDX-License-Identifier: Apache-2.0
"""Text of the pretraining among the conversations, so that the chat model forgets less of it.

A few percent are known to keep most of what continued training loses (Ibrahim et al. 2024, "Simple and Scalable
Strategies to Continually Pre-train Large Language Models", arXiv 2403.08763).
"""

from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerFast

from scratch_gpt.data.collators.packed import IGNORED
from scratch_gpt.data.rows.splits import Row
from scratch_gpt.data.shards.blocks import PackedBlocks
from scratch_gpt.errors import UserError
from scratch_gpt.tokenization import document_end


def replay_rows(
    conversations: list[Row],
    folder: str | Path,
    fraction: float,
    tokenizer: PreTrainedTokenizerFast,
    max_length: int,
    seed: int,
) -> list[Row]:
    """Documents of randomly drawn blocks, each a row of its own; every token is learned.

    Args:
        conversations: rows with `labels`, among which the documents are to be.
        folder: blocks of the shards stage, such as `shards/train`.
        fraction: the documents' share of all learned tokens.
        max_length: a longer document makes several rows.

    Raises:
        UserError: no complete blocks in the folder, of another tokenizer, or fewer tokens than the share needs.
    """
    blocks = PackedBlocks(folder, tokenizer)
    learned = sum(label != IGNORED for row in conversations for label in row["labels"])
    wanted = round(learned * fraction / (1 - fraction))
    end = document_end(tokenizer)
    rows: list[Row] = []
    tokens = 0
    for index in np.random.default_rng(seed).permutation(len(blocks)).tolist():
        block = blocks[index]
        block = block[block != tokenizer.pad_token_id]
        for document in np.split(block, np.flatnonzero(block == end) + 1):
            for start in range(0, len(document), max_length):
                ids = document[start : start + max_length].tolist()
                if tokens >= wanted:
                    return rows
                if len(ids) > 1:
                    rows.append({"messages": [], "input_ids": ids, "labels": ids, "length": len(ids)})
                    tokens += len(ids) - 1  # the first one is predicted from nothing
    if tokens >= wanted:
        return rows
    message = (
        f"replay_fraction {fraction} needs {wanted:,} tokens, the blocks in {folder} hold {tokens:,}: lower it, or write "
        "more shards"
    )
    raise UserError("too_few_tokens", message, needed=wanted, found=tokens)
