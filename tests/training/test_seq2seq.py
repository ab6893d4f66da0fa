# SPDX-License-Identifier: Apache-2.0
"""Pairs as token ids, and which models the stage takes."""

import pytest
from transformers import AutoTokenizer

from scratch_gpt.errors import UserError
from scratch_gpt.tokenization import encode_plain
from scratch_gpt.training.seq2seq import encode_pairs, load_encoder_decoder


def conversation(*texts: str) -> dict:
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[turn % 2], "content": text} for turn, text in enumerate(texts)]}


def test_the_last_answer_is_the_target(trained_tokenizer) -> None:
    """All that was said before is the source; both end with the end of text, and special tokens stay text."""
    rows = [conversation("A cat.", "Eine Katze."), conversation("One", "Two", "Three <|pad|>", "Four")]
    pairs = encode_pairs({"train": rows}, trained_tokenizer, 64)["train"]
    sources, targets = ["A cat.", "One\nTwo\nThree <|pad|>"], ["Eine Katze.", "Four"]
    end = [trained_tokenizer.eos_token_id]
    assert [pair["input_ids"] for pair in pairs] == [
        ids + end for ids in encode_plain(trained_tokenizer, sources)
    ]
    assert [pair["labels"] for pair in pairs] == [
        ids + end for ids in encode_plain(trained_tokenizer, targets)
    ]


def test_sources_longer_than_the_encoder_are_left_out_and_told(trained_tokenizer, capsys) -> None:
    """Counted; where none is left, the error names the limit."""
    rows = [conversation("x " * 40, "y"), conversation("x", "y " * 40), conversation("x", "y")]
    pairs = encode_pairs({"train": rows}, trained_tokenizer, 16)["train"]
    assert len(pairs) == 1
    assert "train: 1 pairs (2 over 16 tokens left out)" in capsys.readouterr().out
    with pytest.raises(
        UserError, match="none of the 2 dev pairs has a source and a target of at most 16 tokens"
    ):
        encode_pairs({"dev": rows[:2]}, trained_tokenizer, 16)


def test_other_models_are_refused(base_folder, encoder_decoder_folder) -> None:
    """A decoder; an encoder-decoder that cannot begin a target; one whose tokenizer has more tokens than it."""
    with pytest.raises(UserError, match="is no encoder-decoder: pretrain one with objective span"):
        load_encoder_decoder(str(base_folder))
    config = encoder_decoder_folder / "config.json"
    text = config.read_text()
    config.write_text(text.replace('"decoder_start_token_id": 1', '"decoder_start_token_id": null'))
    with pytest.raises(UserError, match=r"config.json has no decoder_start_token_id"):
        load_encoder_decoder(str(encoder_decoder_folder))
    config.write_text(text)
    tokenizer = AutoTokenizer.from_pretrained(encoder_decoder_folder)
    tokenizer.add_tokens(["new"])
    tokenizer.save_pretrained(encoder_decoder_folder)
    with pytest.raises(UserError, match="the tokenizer has 513 tokens, the model only 512"):
        load_encoder_decoder(str(encoder_decoder_folder))
