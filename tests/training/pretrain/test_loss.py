# SPDX-License-Identifier: Apache-2.0
"""The loss in chunks against torch's plain one, in value, gradients and memory."""

import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from scratch_gpt.training.pretrain.loss import (
    chunk_tokens_for,
    chunked_cross_entropy,
    compile_layers,
    use_chunked_loss,
)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("chunk_tokens", [1, 7, 100])
def test_chunks_give_the_plain_loss_and_gradients(chunk_tokens, bf16) -> None:
    """Also where the last chunk is short, a whole chunk is left out, or everything is one chunk."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 50, (30,), generator=generator)
    labels[7:15] = -100
    found = []
    for plain in (True, False):
        generator.manual_seed(1)
        hidden = torch.randn(30, 16, generator=generator, requires_grad=True)
        weight = torch.randn(50, 16, generator=generator, requires_grad=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            if plain:
                logits = functional.linear(hidden, weight).float()
                value = functional.cross_entropy(logits, labels, reduction="sum")
            else:
                value = chunked_cross_entropy(hidden, weight, labels, chunk_tokens)
        value.backward()
        assert value.dtype == torch.float32
        found.append((value.detach(), hidden.grad, weight.grad))
    for plain_tensor, chunked in zip(*found, strict=True):
        # the chunks' gradients of the weight are rounded to bfloat16 one by one
        torch.testing.assert_close(
            chunked, plain_tensor, rtol=2e-2 if bf16 else 1e-5, atol=0.05 if bf16 else 1e-5
        )


class Largest(TorchDispatchMode):
    """Notes the size of the largest tensor that is made."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        made = [tensor.numel() for tensor in tree_leaves(result) if isinstance(tensor, torch.Tensor)]
        self.elements = max(self.elements, *made, 0)
        return result


def test_only_one_chunk_of_logits_exists_at_a_time() -> None:
    """Forward and backward: no tensor is larger than the logits of 100 tokens, of 4000."""
    hidden, weight = torch.randn(4000, 8, requires_grad=True), torch.randn(1000, 8, requires_grad=True)
    with Largest() as largest:
        chunked_cross_entropy(hidden, weight, torch.zeros(4000, dtype=torch.long), 100).backward()
    assert largest.elements == 100 * 1000


def test_chunks_begin_at_the_stated_size() -> None:
    """2 x 1024 tokens: 4096 ids are 32 MiB and plain, more are not; 512 tokens a chunk, on a GPU 64 MiB and 2,048 tokens."""
    assert chunk_tokens_for(2 * 1024, 4096, on_cpu=True) is None
    assert chunk_tokens_for(4 * 1024, 4096, on_cpu=True) == 512
    assert chunk_tokens_for(1 << 20, 1 << 30, on_cpu=True) == 1
    assert chunk_tokens_for(4 * 1024, 4096, on_cpu=False) == 4096
    assert chunk_tokens_for(16 * 1024, 49152, on_cpu=False) == 2048


def test_a_model_with_chunks_trains_alike_and_speaks_as_before(tiny_model) -> None:
    """Training: same loss and gradients, no logits. Evaluation, generation and saving: as without."""
    torch.manual_seed(0)
    batch = {"input_ids": torch.randint(0, 512, (2, 20)), "labels": torch.randint(0, 512, (2, 20))}
    batch["labels"][0, :9] = -100
    before = tiny_model(**batch)
    tiny_model.train()
    tiny_model(**batch, num_items_in_batch=torch.tensor(7), use_cache=False).loss.backward()
    plain = {name: weight.grad.clone() for name, weight in tiny_model.named_parameters()}
    tiny_model.zero_grad()
    use_chunked_loss(tiny_model, chunk_tokens=8)
    output = tiny_model(**batch, num_items_in_batch=torch.tensor(7), use_cache=False)
    output.loss.backward()
    assert output.logits is None
    for name, weight in tiny_model.named_parameters():
        torch.testing.assert_close(weight.grad, plain[name], rtol=1e-4, atol=1e-6)
    tiny_model.eval()
    after = tiny_model(**batch)
    assert torch.equal(before.logits, after.logits)
    assert torch.equal(before.loss, after.loss)
    tiny_model.generate(batch["input_ids"], attention_mask=torch.ones(2, 20), max_new_tokens=2)


def test_no_compiler_is_no_obstacle(tiny_model, monkeypatch) -> None:
    """The reason is one line, and the model runs as it is."""

    def fail(*args, **kwargs):
        raise RuntimeError("No working C++ compiler found\nlong trace")

    monkeypatch.setattr(torch, "compile", fail)
    assert compile_layers(tiny_model) == "No working C++ compiler found"
    assert tiny_model.model.layers[0]._compiled_call_impl is None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_compiled_layers_compute_the_same(tiny_model) -> None:
    """Within float32 rounding, gradients included."""
    input_ids = torch.randint(0, 512, (2, 20))
    plain = tiny_model(input_ids, labels=input_ids, use_cache=False).loss
    assert compile_layers(tiny_model) is None
    compiled = tiny_model(input_ids, labels=input_ids, use_cache=False).loss
    compiled.backward()
    torch.testing.assert_close(compiled, plain)
    assert all(layer._compiled_call_impl is not None for layer in tiny_model.model.layers)
