# SPDX-License-Identifier: Apache-2.0
"""The batch that packed blocks make: positions that restart at each document, labels without the joints."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch


# The label that PyTorch's cross entropy leaves out.
IGNORED = -100


@dataclass
class PackedCollator:
    """Turns blocks into model inputs in which documents cannot see each other.

    transformers recognises packed documents by restarting `position_ids`, but only without an attention mask and with
    `use_cache=False`; with either, documents silently attend to each other. So no mask is returned, and the caller
    passes `use_cache=False`.

    Args:
        eos_token_id: the token that ends each document.
        pad_token_id: the token that fills a block after its last document.
    """

    eos_token_id: int
    pad_token_id: int

    def __call__(self, blocks: list[np.ndarray], positions: Sequence[int] = ()) -> dict[str, torch.Tensor]:
        """Collate B blocks of T tokens.

        Args:
            positions: in the order of the run; collators that draw something need them, this one does not.

        Returns:
            `input_ids`, `position_ids` and `labels`, all int64 of shape (B, T). The label of a document's first token
            is IGNORED: the token before it, from which it would be predicted, belongs to another document.
        """
        input_ids = torch.from_numpy(np.stack(blocks))
        columns = torch.arange(input_ids.shape[1])
        starts = torch.ones_like(input_ids, dtype=torch.bool)
        starts[:, 1:] = input_ids[:, :-1] == self.eos_token_id
        last_start = torch.where(starts, columns, 0).cummax(dim=1).values  # (B, T)
        labels = input_ids.masked_fill(starts | (input_ids == self.pad_token_id), IGNORED)
        return {"input_ids": input_ids, "position_ids": columns - last_start, "labels": labels}
