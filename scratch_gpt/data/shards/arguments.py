# SPDX-License-Identifier: Apache-2.0
"""Settings of the stages from text to tokens: tokenizer and shards."""

from dataclasses import dataclass, field
from typing import Annotated

from scratch_gpt.errors import UserError
from scratch_gpt.settings.checking import Count, Range
from scratch_gpt.settings.sources import SourcesArguments


@dataclass
class TokenizerArguments(SourcesArguments):
    """Settings of `train/tokenizer.py`."""

    vocab_size: int = field(
        default=32768,
        metadata={"help": "Number of tokens, special ones included; rounded up to a multiple of 64."},
    )
    max_characters: Count = field(
        default=200_000_000,
        metadata={"help": "Characters of text sampled from the sources: bounds the memory."},
    )
    max_document_characters: Count = field(
        default=10_000_000,
        metadata={
            "help": "Of a longer document, pieces of this length in total are used, spread evenly over it."
        },
    )


@dataclass
class ShardsArguments(SourcesArguments):
    """Settings of `train/shards.py`."""

    tokenizer: str | None = field(default=None, metadata={"help": "Folder of the tokenizer stage."})
    sequence_length: Annotated[int, Range("at least 2", lambda value: value >= 2)] = field(
        default=1024, metadata={"help": "Tokens in one packed block."}
    )
    max_tokens: Count | None = field(
        default=None,
        metadata={"help": "Tokens of training text to write. Default: until the first source is exhausted."},
    )
    validation_fraction: Annotated[float, Range("at least 0 and below 1", lambda value: 0 <= value < 1)] = (
        field(
            default=0.01,
            metadata={
                "help": "Share of documents held out, chosen by the hash of their text; of none where a source is held_out. 0: none."
            },
        )
    )
    shuffle: bool = field(
        default=True,
        metadata={
            "help": "Train on the blocks in random order; false: in the order of the documents, as a curriculum needs it."
        },
    )
    num_slices: Count | None = field(
        default=None,
        metadata={
            "help": "Tokenize in this many independent runs, each with its --slice; without --slice, merge them."
        },
    )
    slice: int | None = field(
        default=None, metadata={"help": "Which of num_slices this run tokenizes: 0 to num_slices - 1."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.tokenizer:
            message = "tokenizer is missing: give --tokenizer DIR, the folder of the tokenizer stage"
            raise UserError("setting_missing", message, setting="tokenizer")
        if self.slice is not None and not 0 <= self.slice < (self.num_slices or 0):
            message = (
                f"slice must be from 0 to num_slices - 1, got {self.slice} of num_slices {self.num_slices}"
            )
            raise UserError("wrong_value", message, setting="slice", value=self.slice)
