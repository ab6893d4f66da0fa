# SPDX-License-Identifier: Apache-2.0
"""Documents of the pretraining blocks among the conversations: whole, learned in full, the asked share."""

from typing import Any

from scratch_gpt.data.shards.blocks import PackedBlocks
from scratch_gpt.training.posttrain.replay import replay_rows
from wording import user_error


CONVERSATIONS = [{"labels": [-100, -100, 5, 6, 7]}] * 300  # 900 learned tokens


def learned(rows: list[dict[str, Any]]) -> int:
    return sum(len(row["labels"]) - 1 for row in rows)


def test_documents_have_the_asked_share(data: dict[str, str], trained_tokenizer: Any) -> None:
    """Nine tenths of the learned tokens are theirs; each is a piece of one document, without padding."""
    folder = f"{data['shards']}/train"
    rows = replay_rows(CONVERSATIONS, folder, 0.9, trained_tokenizer, max_length=64, seed=0)
    assert 8100 <= learned(rows) < 8100 + 64
    blocks = [trained_tokenizer.decode(block) for block in PackedBlocks(folder)]
    for row in rows:
        assert row["labels"] == row["input_ids"] and row["length"] == len(row["input_ids"]) <= 64
        assert trained_tokenizer.eos_token_id not in row["input_ids"][:-1]
        assert trained_tokenizer.pad_token_id not in row["input_ids"]
        text = trained_tokenizer.decode(row["input_ids"])
        assert any(text in block for block in blocks)
    assert any(row["input_ids"][-1] == trained_tokenizer.eos_token_id for row in rows)
    assert rows == replay_rows(CONVERSATIONS, folder, 0.9, trained_tokenizer, max_length=64, seed=0)
    assert rows != replay_rows(CONVERSATIONS, folder, 0.9, trained_tokenizer, max_length=64, seed=1)


def test_long_documents_make_several_rows(data: dict[str, str], trained_tokenizer: Any) -> None:
    """No row is longer than asked for, and the beginning of a document is not all that is kept of it."""
    rows = replay_rows(CONVERSATIONS, f"{data['shards']}/train", 0.5, trained_tokenizer, max_length=8, seed=0)
    assert max(row["length"] for row in rows) == 8
    assert sum(row["input_ids"][-1] != trained_tokenizer.eos_token_id for row in rows) > len(rows) / 2


def test_too_few_tokens_and_another_tokenizer_are_refused(data: dict[str, str], tiny_tokenizer: Any) -> None:
    """Both in one line that names the folder."""
    folder = f"{data['shards']}/validation"
    with user_error("too_few_tokens", "0.99", folder, needed=89100):
        replay_rows(CONVERSATIONS, folder, 0.99, tiny_tokenizer, 64, 0)
    tiny_tokenizer.add_tokens(["another"])
    with user_error("another_tokenizer", folder=folder):
        replay_rows(CONVERSATIONS, folder, 0.1, tiny_tokenizer, 64, 0)
