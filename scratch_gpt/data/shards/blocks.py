# SPDX-License-Identifier: Apache-2.0
"""The blocks that the shards stage wrote, memory-mapped."""

import json
from abc import abstractmethod
from collections.abc import Sized
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerFast

from scratch_gpt.errors import UserError
from scratch_gpt.tokenization import tokenizer_hash


class Blocks(Sized):
    """A sequence of blocks: int64 arrays of shape (sequence_length,).

    Attributes:
        manifest: what they are made of.
    """

    manifest: dict[str, Any]

    @abstractmethod
    def __getitem__(self, index: int) -> np.ndarray: ...

    def evenly_spaced_indices(self, most: int) -> list[int]:
        """At most `most` block numbers, evenly spaced over all, since the sources follow one another."""
        count = min(len(self), most)
        return [index * len(self) // count for index in range(count)]


class PackedBlocks(Blocks):
    """The blocks of one split of a shards folder.

    Args:
        folder: `train` or `validation` in the shards folder.
        tokenizer: the one that the blocks must be of; None: whatever it was.
        may_be_empty: whether no block is none too few, as where nothing was held out.

    Raises:
        UserError: the folder holds no complete shards, or shards of another tokenizer.
    """

    def __init__(
        self,
        folder: str | Path,
        tokenizer: PreTrainedTokenizerFast | None = None,
        *,
        may_be_empty: bool = False,
    ) -> None:
        self.folder = Path(folder)
        tokens, manifest = self.folder / "tokens.bin", self.folder / "manifest.json"
        if not manifest.is_file():
            message = f"no complete shards in {folder} (manifest.json is missing): run the shards stage first"
            raise UserError("no_shards", message, folder=folder)
        self.manifest = json.loads(manifest.read_text(encoding="utf-8"))
        if tokenizer is not None and self.manifest["tokenizer_hash"] != tokenizer_hash(tokenizer):
            message = (
                f"the shards in {folder} were written with another tokenizer than {tokenizer.name_or_path}: write them "
                f"again with that one (scratch-gpt shards --tokenizer {tokenizer.name_or_path})"
            )
            raise UserError("another_tokenizer", message, folder=folder)
        dtype = np.dtype(self.manifest["dtype"])
        shape = (self.manifest["blocks"], self.manifest["sequence_length"])
        if not shape[0] and not may_be_empty:
            message = (
                f"the shards in {folder} hold no block: write more text, with a validation_fraction above 0"
            )
            raise UserError("shards_empty", message, folder=folder)
        expected = shape[0] * shape[1] * dtype.itemsize
        size = tokens.stat().st_size if tokens.is_file() else 0
        if size != expected:
            message = f"{tokens} has {size} bytes, its manifest says {expected}: run the shards stage again"
            raise UserError("damaged_file", message, file=tokens)
        # an empty file cannot be mapped
        self._blocks = (
            np.memmap(tokens, dtype=dtype, mode="r", shape=shape) if size else np.zeros(shape, dtype)
        )

    def __len__(self) -> int:
        return len(self._blocks)

    def __getitem__(self, index: int) -> np.ndarray:
        return self._blocks[index].astype(np.int64)
