# SPDX-License-Identifier: Apache-2.0
"""Packed documents do not see each other, whatever computes attention: an edit of one leaves the logits of the others.

Flash attention needs a GPU, and flex attention is compiled: stand-ins that loop over the documents, and that make the
mask dense, take the places of their kernels. All of transformers' code before the kernels runs.
"""

import numpy as np
import pytest
import torch
from torch.nn.attention.flex_attention import create_block_mask, create_mask
from torch.nn.functional import scaled_dot_product_attention
from transformers import masking_utils
from transformers import modeling_flash_attention_utils as flash
from transformers.integrations import flex_attention as flex

from scratch_gpt.data.collators.packed import IGNORED, PackedCollator, to_device
from scratch_gpt.inference.likelihood import packed_nll
from scratch_gpt.inference.masked import masked_nll
from scratch_gpt.training.pretrain.objectives import OBJECTIVES, model_of
from scratch_gpt.training.pretrain.setup import build_config
from wording import user_error


ATTENTIONS = ("eager", "sdpa", "flex_attention", "flash_attention_2", "varlen")
FIRST = 9  # tokens of the first document, its end included
MODEL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}


def flash_stand_in(q, k, v, causal=False, softmax_scale=None, dropout_p=0.0, deterministic=False):
    """(B, T, H, E), every row one sequence, as flash-attn's function."""
    heads = (tensor.transpose(1, 2) for tensor in (q, k, v))
    output = scaled_dot_product_attention(*heads, is_causal=causal, scale=softmax_scale, enable_gqa=True)
    return output.transpose(1, 2)


def varlen_stand_in(
    q,
    k,
    v,
    cu_seqlens_q,
    cu_seqlens_k,
    max_seqlen_q,
    max_seqlen_k,
    causal=False,
    softmax_scale=None,
    dropout_p=0.0,
):
    """(B * T, H, E), one sequence after the other, with flash-attn's demands on the boundaries."""
    assert cu_seqlens_q.dtype == cu_seqlens_k.dtype == torch.int32
    assert cu_seqlens_q.tolist() == cu_seqlens_k.tolist()
    lengths = cu_seqlens_q.diff().tolist()
    assert (sum(lengths), max(lengths)) == (len(q), max_seqlen_q) == (len(k), max_seqlen_k)
    parts = zip(*(tensor[None].split(lengths, dim=1) for tensor in (q, k, v)), strict=True)
    return torch.cat([flash_stand_in(*part, causal, softmax_scale) for part in parts], dim=1)[0]


def flex_stand_in(query, key, value, training=False, block_mask=None, scale=None, enable_gqa=False, **kwargs):
    """(B, H, T, E), the mask's rule applied to every pair of places."""
    shape = (query.shape[0], 1, query.shape[2], key.shape[2])
    mask = create_mask(block_mask.mask_mod, *shape, device="cpu")
    return scaled_dot_product_attention(query, key, value, mask, scale=scale, enable_gqa=enable_gqa)


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch, varlen_kernel) -> None:
    """In the places of the kernels."""
    process = flash._lazy_define_process_function(varlen_stand_in)
    functions = (flash_stand_in, varlen_stand_in, None, flash._pad_input, flash._unpad_input)
    monkeypatch.setattr(flash, "lazy_import_flash_attention", lambda *_: (functions, (process, process)))
    # transformers would compile it, and torch warns of how
    monkeypatch.setattr(
        masking_utils,
        "create_block_mask",
        lambda *args, _compile, **kwargs: create_block_mask(*args, **kwargs),
    )
    monkeypatch.setattr(flex, "compile_friendly_flex_attention", flex_stand_in)


@pytest.fixture
def made(fresh, trained_tokenizer):
    """`made(objective, attention)`: the objective and its model."""

    def make(objective: str, attention: str):
        torch.manual_seed(0)
        _, model = fresh(objective, MODEL)
        model.config._attn_implementation = attention  # set_attn_implementation would look for the packages
        with torch.no_grad():
            for weight in model.parameters():
                weight.mul_(5.0) if weight.ndim == 2 else None
        return OBJECTIVES[objective](trained_tokenizer, 64, seed=0, attn_implementation=attention), model

    return make


def edited_batches(collator, tokenizer, rows: int) -> list[dict]:
    """A batch of three documents a row and padding, and the same with other tokens in the first document.

    Its tokens are no labels.
    """
    random = np.random.default_rng(0)
    blocks = random.integers(300, 500, (rows, 64))
    blocks[:, [FIRST - 1, 25, 50]] = tokenizer.eos_token_id
    blocks[:, 60:] = tokenizer.pad_token_id
    edited = blocks.copy()
    edited[0, : FIRST - 1] = random.integers(300, 500, FIRST - 1)
    batches = [collator(list(each), range(rows)) for each in (blocks, edited)]
    for batch in batches:
        batch["input_ids"][:, FIRST:] = torch.from_numpy(
            blocks[:, FIRST:]
        )  # a masking collator hides by place
        batch["labels"][:, : FIRST + 1] = IGNORED
    return batches


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("objective", ["causal", "masked"])
def test_an_edit_of_one_document_leaves_the_others(
    made, trained_tokenizer, monkeypatch, objective, attention, rows
) -> None:
    """The logits in training, the costs in evaluation, and the loss in chunks; the document's own logits change."""
    task, model = made(objective, attention)
    batches = edited_batches(task.collator, trained_tokenizer, rows)
    with torch.no_grad():
        before, after = (model.train()(**batch, use_cache=False).logits for batch in batches)
    assert torch.equal(before[0, FIRST:], after[0, FIRST:])
    assert torch.equal(before[1:], after[1:])
    assert (before[0, 1:FIRST] - after[0, 1:FIRST]).abs().max() > 0.1

    model.eval()
    if objective == "causal":
        before, after = (packed_nll(model, batch, task.byte_lengths) for batch in batches)
    else:
        before, after = (masked_nll(model, batch) for batch in batches)
    assert torch.equal(before, after)

    monkeypatch.setattr("scratch_gpt.training.pretrain.loss.PLAIN_LOGITS_BYTES", 1 << 10)
    monkeypatch.setattr("scratch_gpt.training.pretrain.loss.CHUNK_LOGITS_BYTES", 1 << 14)
    task, model = made(objective, attention)
    outputs = [model.train()(**batch, use_cache=False, num_items_in_batch=1) for batch in batches]
    assert outputs[0].logits is None
    assert torch.equal(outputs[0].loss, outputs[1].loss)


@pytest.mark.parametrize("objective", ["causal", "masked"])
def test_all_attention_functions_agree(made, trained_tokenizer, objective) -> None:
    """Two packed rows: the same loss from each, and the same gradients."""
    found = []
    for attention in ATTENTIONS:
        task, model = made(objective, attention)
        batch, _ = edited_batches(task.collator, trained_tokenizer, 2)
        loss = model.train()(**batch, use_cache=False, num_items_in_batch=50).loss
        loss.backward()
        found.append([loss.detach(), *(weight.grad for weight in model.parameters())])
    for other in found[1:]:
        for tensor, expected in zip(other, found[0], strict=True):
            torch.testing.assert_close(tensor, expected, rtol=1e-3, atol=1e-3)


def test_lengths_count_documents_padding_and_row_ends() -> None:
    """Row ends are boundaries too; the same tensors for queries and keys, no tensor for the longest."""
    blocks = [np.array([7, 8, 0, 9, 0, 1, 1]), np.array([4, 5, 6, 7, 8, 9, 10])]
    batch = PackedCollator(0, 1, lengths=True)(blocks)
    assert batch["cu_seq_lens_q"].tolist() == [0, 3, 5, 7, 14]
    assert batch["cu_seq_lens_k"] is batch["cu_seq_lens_q"]
    assert batch["max_length_q"] == batch["max_length_k"] == 7
    moved = to_device(batch, torch.device("meta"))
    assert moved["cu_seq_lens_q"].is_meta
    assert moved["max_length_q"] == 7


def test_flash_attention_in_a_masked_model_of_transformers_is_refused(trained_tokenizer) -> None:
    """Its documents are kept apart by a mask, which flash attention does not take."""
    stock = {"model_type": "modernbert", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = build_config("masked", stock, trained_tokenizer, 64)
    with user_error(
        "settings_conflict", "flash_attention_2", setting="attn_implementation", other="objective"
    ):
        model_of(config, "masked", "flash_attention_2")
