# SPDX-License-Identifier: Apache-2.0
"""The batch that packed blocks make: positions that restart at each document, labels without the joints."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


# The label that PyTorch's cross entropy leaves out.
IGNORED = -100


@dataclass
class PackedCollator:
    """Turns blocks into model inputs in which documents cannot see each other.

    transformers recognises packed documents by restarting `position_ids`, but only without an attention mask and with
    `use_cache=False`; with either, documents silently attend to each other. So no mask is returned, and the caller
    passes `use_cache=False`. Its flash attention recognizes them in a batch of one row only, and lets them see each other
    in a larger one without a word; for any number of rows it takes `lengths`.

    Args:
        eos_token_id: the token that ends each document.
        pad_token_id: the token that fills a block after its last document.
        lengths: also return the documents' lengths, as flash attention needs them (see `needs_lengths`).
    """

    eos_token_id: int
    pad_token_id: int
    lengths: bool = False

    def __call__(self, blocks: list[np.ndarray], positions: Sequence[int] = ()) -> dict[str, Any]:
        """Collate B blocks of T tokens.

        Args:
            positions: in the order of the run; collators that draw something need them, this one does not.

        Returns:
            `input_ids`, `position_ids` and `labels`, all int64 of shape (B, T). The label of a document's first token
            is IGNORED: the token before it, from which it would be predicted, belongs to another document. With
            `lengths` also `cu_seq_lens_q` and `cu_seq_lens_k`, int32: where each document of the flattened batch
            starts, and B x T; and `max_length_q` and `max_length_k`, the tokens of the longest document.
        """
        input_ids = torch.from_numpy(np.stack(blocks))
        columns = torch.arange(input_ids.shape[1])
        starts = torch.ones_like(input_ids, dtype=torch.bool)
        starts[:, 1:] = input_ids[:, :-1] == self.eos_token_id
        last_start = torch.where(starts, columns, 0).cummax(dim=1).values  # (B, T)
        labels = input_ids.masked_fill(starts, IGNORED)
        if self.pad_token_id != self.eos_token_id:  # padding by the end of a document starts documents
            labels.masked_fill_(input_ids == self.pad_token_id, IGNORED)
        batch = {"input_ids": input_ids, "position_ids": columns - last_start, "labels": labels}
        if self.lengths:
            ends = torch.tensor([input_ids.numel()])
            boundaries = torch.cat([starts.flatten().nonzero().flatten(), ends]).to(torch.int32)
            batch |= dict.fromkeys(("cu_seq_lens_q", "cu_seq_lens_k"), boundaries)
            batch |= dict.fromkeys(("max_length_q", "max_length_k"), int(boundaries.diff().max()))
        return batch


def needs_lengths(attn_implementation: str) -> bool:
    """Whether this attention function keeps packed documents apart by their lengths, not by a mask."""
    return attn_implementation == "varlen" or attn_implementation.startswith("flash_attention")


def to_device(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Move the batch's tensors to the device."""
    # A copy to a GPU returns at once only from pinned memory.
    pinned = device.type == "cuda"
    return {
        name: (value.pin_memory() if pinned else value).to(device, non_blocking=pinned)
        if isinstance(value, torch.Tensor)
        else value
        for name, value in batch.items()
    }
