# SPDX-License-Identifier: Apache-2.0
"""The tokenizer of packed documents: this project's own, or that of a published model."""

from pathlib import Path

from transformers import PreTrainedTokenizerFast

from scratch_gpt.errors import UserError
from scratch_gpt.tokenization import END_OF_TEXT, PAD, load_any_tokenizer


def load_document_tokenizer(path: str | Path) -> PreTrainedTokenizerFast:
    """Load a tokenizer whose `eos_token` ends a document and whose `pad_token` fills up a block.

    A document ends with END_OF_TEXT where the vocabulary has it, since the end of sequence of a chat model is the end
    of a turn; otherwise with the tokenizer's end of sequence. Without a padding token the end of a document pads:
    collators take it for the start of an empty document, which is not learned.

    Raises:
        UserError: the folder holds no tokenizer, or one without an end of sequence.
    """
    tokenizer = load_any_tokenizer(path)
    vocabulary = tokenizer.get_vocab()
    if END_OF_TEXT in vocabulary:
        tokenizer.eos_token = END_OF_TEXT
    if tokenizer.eos_token is None:
        message = (
            f"tokenizer {path} has no eos_token: set the one that ends a document in tokenizer_config.json"
        )
        raise UserError("token_missing", message, token="eos_token")
    if PAD in vocabulary:
        tokenizer.pad_token = PAD
    elif tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer
