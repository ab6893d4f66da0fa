# SPDX-License-Identifier: Apache-2.0
"""Whether a model keeps the documents of a packed row apart."""

import torch
from transformers import PreTrainedModel

from scratch_gpt.data.collators.packed import needs_lengths


@torch.no_grad()
def documents_stay_apart(model: PreTrainedModel) -> bool:
    """Try on eight tokens whether positions that restart keep the second document from seeing the first.

    Flash attention is told where each document begins, and is not tried: it has no kernel where the model may be.
    """
    if needs_lengths(model.config._attn_implementation):
        return True
    was_training = model.training
    model.eval()
    ids = torch.arange(8, device=model.device)[None] % model.config.vocab_size
    alone = model(input_ids=ids[:, 4:], use_cache=False).logits
    try:
        packed = model(input_ids=ids, position_ids=ids.new_tensor([[0, 1, 2, 3] * 2]), use_cache=False)
    except TypeError:  # it takes no positions
        return False
    finally:
        model.train(was_training)
    return bool((packed.logits[:, 4:] - alone).abs().max() <= 1e-3 * alone.abs().max())
