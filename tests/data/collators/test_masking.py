# SPDX-License-Identifier: Apache-2.0
"""BERT's corruption: its shares, what it never touches, and that it depends on seed and position alone."""

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from scratch_gpt.data.collators.masking import MaskingCollator
from scratch_gpt.data.collators.packed import IGNORED, PackedCollator
from scratch_gpt.tokenization import encode_plain
from wording import user_error


@pytest.fixture(scope="module")
def blocks(trained_tokenizer: PreTrainedTokenizerFast) -> list[np.ndarray]:
    """200 blocks of three documents and padding, 128 tokens each."""
    random = np.random.default_rng(0)
    text = np.array(
        encode_plain(trained_tokenizer, ["The old farmer's dog sleeps. Anna has 12 apples.\n"])[0]
    )
    rows = []
    for _ in range(200):
        row = np.full(128, trained_tokenizer.pad_token_id)
        row[:120] = random.choice(text, 120)
        row[[30, 70, 119]] = trained_tokenizer.eos_token_id
        rows.append(row)
    return rows


def collate(tokenizer, blocks, seed=0, first=0, **settings) -> dict[str, np.ndarray]:
    collator = MaskingCollator(tokenizer, seed, **settings)
    return {
        name: tensor.numpy() for name, tensor in collator(blocks, range(first, first + len(blocks))).items()
    }


def test_the_shares_are_those_of_bert(trained_tokenizer, blocks) -> None:
    """15% of the text; of these 80% are masks and 10% other tokens, within four standard errors."""
    batch, original = collate(trained_tokenizer, blocks), np.stack(blocks)
    chosen = batch["labels"] != IGNORED
    text = (original != trained_tokenizer.eos_token_id) & (original != trained_tokenizer.pad_token_id)
    share = chosen.sum() / text.sum()
    assert share == pytest.approx(0.15, abs=4 * (0.15 * 0.85 / text.sum()) ** 0.5)
    masks = (batch["input_ids"] == trained_tokenizer.mask_token_id)[chosen].mean()
    kept = (batch["input_ids"] == original)[chosen].mean()
    error = 4 * (0.16 / chosen.sum()) ** 0.5
    assert masks == pytest.approx(0.8, abs=error)
    assert kept == pytest.approx(0.1, abs=error)


def test_what_is_not_chosen_stays_and_special_tokens_are_never_chosen(trained_tokenizer, blocks) -> None:
    """Labels are the original tokens; ends, padding and all else stand as before; random tokens are text."""
    batch, original = collate(trained_tokenizer, blocks), np.stack(blocks)
    chosen = batch["labels"] != IGNORED
    assert (batch["labels"][chosen] == original[chosen]).all()
    assert (batch["input_ids"][~chosen] == original[~chosen]).all()
    special = set(trained_tokenizer.added_tokens_decoder)
    assert not special & set(batch["labels"][chosen].tolist())
    assert special & set(batch["input_ids"][chosen].tolist()) == {trained_tokenizer.mask_token_id}


@pytest.mark.parametrize("whole_words", [False, True])
def test_something_is_hidden_of_the_shortest_document(trained_tokenizer, whole_words) -> None:
    """A block without a label would have no loss; padding alone has none."""
    block = np.full(128, trained_tokenizer.pad_token_id)
    block[:2] = encode_plain(trained_tokenizer, [" dog"])[0][0], trained_tokenizer.eos_token_id
    labels = collate(trained_tokenizer, [block] * 20, whole_words=whole_words)["labels"]
    assert ((labels != IGNORED).sum(axis=1) == 1).all() and (labels[:, 0] == block[0]).all()
    empty = np.full(128, trained_tokenizer.pad_token_id)
    assert (collate(trained_tokenizer, [empty], whole_words=whole_words)["labels"] == IGNORED).all()


def test_documents_keep_their_positions(trained_tokenizer, blocks) -> None:
    """Positions restart as without masks."""
    packed = PackedCollator(trained_tokenizer.eos_token_id, trained_tokenizer.pad_token_id)(blocks)
    assert collate(trained_tokenizer, blocks)["position_ids"].tolist() == packed["position_ids"].tolist()


def test_seed_and_position_decide(trained_tokenizer, blocks) -> None:
    """Equal ones hide the same, in whatever batch and whatever the global state is; another of either does not."""
    whole = collate(trained_tokenizer, blocks[:8])
    torch.manual_seed(5)
    np.random.seed(5)
    part = collate(trained_tokenizer, blocks[4:8], first=4)
    assert (part["input_ids"] == whole["input_ids"][4:]).all()
    assert (part["labels"] == whole["labels"][4:]).all()
    for other in (
        collate(trained_tokenizer, blocks[:8], seed=1),
        collate(trained_tokenizer, blocks[:8], first=8),
    ):
        assert ((other["labels"] != IGNORED) != (whole["labels"] != IGNORED)).any(axis=1).all()


def test_whole_words_are_hidden_whole(trained_tokenizer) -> None:
    """Of each piece of the pre-tokenizer all tokens or none are labels; neighbouring words are drawn apart."""
    text = " The caf\u00e9's extraordinary hippopotamus, 12345 unbelievable things\nanother" * 4
    ids = np.array(encode_plain(trained_tokenizer, [text])[0])
    split = trained_tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(text)
    words = np.repeat(
        np.arange(len(split)),
        [len(encode_plain(trained_tokenizer, [text[slice(*span)]])[0]) for _, span in split],
    )
    assert len(words) == len(ids) > 1.5 * len(split)
    batch = collate(trained_tokenizer, [ids] * 100, whole_words=True)
    chosen = batch["labels"] != IGNORED
    assert chosen.mean() == pytest.approx(0.15, abs=0.03)
    for word in range(len(split)):
        of_word = chosen[:, words == word]
        assert (of_word.all(axis=1) == of_word.any(axis=1)).all()
    for word in range(5):
        assert (chosen[:, words == word].all(axis=1) != chosen[:, words == word + 1].all(axis=1)).any()


def test_a_tokenizer_without_mask_token_is_told(trained_tokenizer, tmp_path) -> None:
    """One line that names the tokenizer and the cure."""
    trained_tokenizer.save_pretrained(tmp_path)
    old = PreTrainedTokenizerFast.from_pretrained(tmp_path, mask_token=None)
    with user_error("token_missing", tmp_path, token="mask"):
        MaskingCollator(old, 0)
