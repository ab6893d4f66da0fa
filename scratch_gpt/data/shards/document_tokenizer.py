# SPDX-License-Identifier: Apache-2.0
"""Loading the tokenizer that documents are written with: this project's own, or that of a published model."""

from pathlib import Path

from transformers import PreTrainedTokenizerFast

from scratch_gpt.tokenization import PAD, document_end, load_any_tokenizer


def load_document_tokenizer(path: str | Path) -> PreTrainedTokenizerFast:
    """Load a tokenizer whose `eos_token` ends a document and whose `pad_token` fills up a block.

    See `document_end`. Without a padding token the end of a document pads: collators take it for the start of an empty
    document, which is not learned.

    Raises:
        UserError: the folder holds no tokenizer, or one without an end of sequence.
    """
    tokenizer = load_any_tokenizer(path)
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(document_end(tokenizer))
    if PAD in tokenizer.get_vocab():
        tokenizer.pad_token = PAD
    elif tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer
