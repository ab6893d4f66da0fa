# SPDX-License-Identifier: Apache-2.0
"""The collator: positions and labels of packed documents, and a model that keeps them apart."""

import numpy as np
import torch

from scratch_gpt.data.collators.packed import PackedCollator


EOS, PADDING = 0, 1


def test_positions_restart_and_joints_are_not_learned():
    """Two documents and padding: positions count from each beginning, first tokens and padding are no labels."""
    batch = PackedCollator(EOS, PADDING)(
        [np.array([7, 8, EOS, 9, EOS, PADDING, PADDING]), np.array([4, 5, 6, 7, 8, 9, 10])]
    )
    assert set(batch) == {"input_ids", "position_ids", "labels"}
    assert batch["input_ids"].tolist()[0] == [7, 8, EOS, 9, EOS, PADDING, PADDING]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1, 0, 1], [0, 1, 2, 3, 4, 5, 6]]
    assert batch["labels"].tolist() == [[-100, 8, EOS, -100, EOS, -100, -100], [-100, 5, 6, 7, 8, 9, 10]]


def test_packed_documents_do_not_see_each_other(tiny_model):
    """The logits of a document in a packed row equal those of the document alone."""
    documents = [np.array([9, 8, 7, EOS]), np.array([5, 6, EOS])]
    batch = PackedCollator(EOS, PADDING)([np.concatenate([*documents, [PADDING]])])
    with torch.no_grad():
        packed = tiny_model(
            input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False
        ).logits[0]
        alone = [tiny_model(input_ids=torch.tensor(document)[None]).logits[0] for document in documents]
    torch.testing.assert_close(packed[:7], torch.cat(alone), rtol=1e-5, atol=1e-5)
