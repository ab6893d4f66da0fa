# SPDX-License-Identifier: Apache-2.0
"""Pairs as token ids, and which models the stage takes."""

from typing import Any

import pytest
from transformers import AutoTokenizer

from scratch_gpt.tokenization import encode_plain
from scratch_gpt.training.posttrain.seq2seq import encode_pair, load_encoder_decoder
from wording import user_error


def conversation(*texts: str) -> dict:
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[turn % 2], "content": text} for turn, text in enumerate(texts)]}


def test_the_last_answer_is_the_target(trained_tokenizer) -> None:
    """All that was said before is the source; both end with the end of text, and special tokens stay text."""
    row = encode_pair(trained_tokenizer, conversation("One", "Two", "Three <|pad|>", "Four"))
    end = [trained_tokenizer.eos_token_id]
    source, target = encode_plain(trained_tokenizer, ["One\nTwo\nThree <|pad|>", "Four"])
    assert (row["input_ids"], row["labels"]) == (source + end, target + end)


def test_a_pair_is_as_long_as_its_longer_side(trained_tokenizer) -> None:
    """Encoder and decoder have as many positions each: the longer side decides, whichever it is."""
    pairs = [conversation("x " * 40, "y"), conversation("x", "y " * 40)]
    for pair, side in zip(pairs, ("input_ids", "labels"), strict=True):
        row = encode_pair(trained_tokenizer, pair)
        assert row["length"] == len(row[side]) > 40


def test_other_models_are_refused(base_folder, encoder_decoder_folder) -> None:
    """A decoder; an encoder-decoder that cannot begin a target; one whose tokenizer has more tokens than it."""
    with user_error("wrong_model", base_folder):
        load_encoder_decoder(str(base_folder))
    config = encoder_decoder_folder / "config.json"
    text = config.read_text()
    config.write_text(text.replace('"decoder_start_token_id": 1', '"decoder_start_token_id": null'))
    with user_error("token_missing", encoder_decoder_folder, token="decoder_start_token_id"):
        load_encoder_decoder(str(encoder_decoder_folder))
    config.write_text(text)
    tokenizer = AutoTokenizer.from_pretrained(encoder_decoder_folder)
    tokenizer.add_tokens(["new"])
    tokenizer.save_pretrained(encoder_decoder_folder)
    with user_error("vocab_size_too_small", encoder_decoder_folder, vocab_size=512, needed=513):
        load_encoder_decoder(str(encoder_decoder_folder))


@pytest.mark.parametrize("lost", [{"tool_calls": []}, {"reasoning_content": "Hm."}])
def test_tools_and_thinking_are_refused(trained_tokenizer: Any, lost: dict[str, Any]) -> None:
    """An encoder-decoder reads texts: what it would lose is named, with the row's place."""
    row = {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A", **lost}]}
    with user_error("row_refused", "sft", place="f:1"):
        encode_pair(trained_tokenizer, {**row, "place": "f:1"})
