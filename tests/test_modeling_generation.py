# SPDX-License-Identifier: Apache-2.0
"""Generation of every kind: each must write what a plain loop over the whole sequence writes."""

import copy
from contextlib import nullcontext

import pytest
import torch
from transformers import DynamicCache, GenerationConfig, PreTrainedModel, StaticCache
from transformers.generation.configuration_utils import ContinuousBatchingConfig

from scratch_gpt.modeling_scratch_gpt_inputs import CACHE_NAME


NEW = 6


def argmax_loop(model: PreTrainedModel, input_ids: torch.Tensor, steps: int = NEW) -> torch.Tensor:
    """Greedy decoding without a cache, without `generate`."""
    with torch.no_grad():
        for _ in range(steps):
            chosen = model(input_ids, use_cache=False).logits[:, -1:].argmax(-1)
            input_ids = torch.cat([input_ids, chosen], dim=1)
    return input_ids


def greedy(model: PreTrainedModel, input_ids: torch.Tensor | None = None, **settings) -> torch.Tensor:
    """`generate` of exactly NEW tokens without sampling."""
    if input_ids is not None:
        settings = {"attention_mask": torch.ones_like(input_ids), **settings}
    settings = {"max_new_tokens": NEW, "do_sample": False, "eos_token_id": None, **settings}
    return model.generate(input_ids, **settings)


@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_cached_steps_equal_the_full_pass(dialect_model, some_ids, cache) -> None:
    """In pieces of one, three and more tokens with a cache: the logits of one pass."""
    model, input_ids = dialect_model, some_ids()
    past = StaticCache(config=model.config, max_cache_len=32) if cache == "static" else None
    with torch.no_grad():
        full = model(input_ids).logits
        steps = []
        for piece in input_ids.split([1, 3, 1, 1, 7], dim=1):
            output = model(piece, use_cache=True, **{CACHE_NAME: past})
            past = output.past_key_values
            steps.append(output.logits)
    torch.testing.assert_close(torch.cat(steps, dim=1), full, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_cache": False},
        {"cache_implementation": "static", "disable_compile": True},
        {"prompt_lookup_num_tokens": 2},
        {"assistant_early_exit": 1},
    ],
    ids=lambda settings: next(iter(settings), "dynamic"),
)
def test_greedy_generate_equals_the_loop(dialect_model, some_ids, settings) -> None:
    """Whatever the cache, and with guesses looked up in the prompt or made by the first layer alone."""
    input_ids = some_ids(1, 7)
    assert torch.equal(greedy(dialect_model, input_ids, **settings), argmax_loop(dialect_model, input_ids))
    assert dialect_model.config.num_hidden_layers == 2


def test_early_exit_is_the_first_layers(dialect_model, small_model, some_ids) -> None:
    """With a lowered number of layers, a model is the one that has no others."""
    config = dialect_model.config
    first = small_model(
        num_hidden_layers=1, dialect=config.dialect, num_key_value_heads=config.num_key_value_heads
    )
    first.load_state_dict(dialect_model.state_dict(), strict=False)
    config.num_hidden_layers = 1
    with torch.no_grad():
        assert torch.equal(dialect_model(some_ids()).logits, first(some_ids()).logits)


@pytest.mark.parametrize("name", ["past_key_values", "cache"])
def test_the_cache_has_two_names(dialect_model, some_ids, name) -> None:
    """Until transformers 5.24 and since: by both, the second piece sees the first. Two different caches are refused.

    As transformers' own models do, the older name warns where the newer one is known.
    """
    model, input_ids, cache = dialect_model, some_ids(), DynamicCache(config=dialect_model.config)
    is_old = name != CACHE_NAME == "cache"
    with torch.no_grad(), pytest.warns(FutureWarning, match=name) if is_old else nullcontext():
        full = model(input_ids).logits
        pieces = [model(piece, **{name: cache}).logits for piece in input_ids.split([8, 5], dim=1)]
        torch.testing.assert_close(torch.cat(pieces, dim=1), full, atol=1e-5, rtol=0)
        assert cache.get_seq_length() == 13
        model(input_ids[:, :1], past_key_values=cache, cache=cache)
        assert cache.get_seq_length() == 14
    with pytest.raises(ValueError, match="two names"):
        model(input_ids, past_key_values=cache, cache=DynamicCache(config=model.config))


def test_gradient_checkpointing_takes_the_cache_out(dialect_model, some_ids, caplog) -> None:
    """Filled while the layers are run again for the backward pass, it would hold each token twice."""
    model, input_ids, cache = dialect_model.train(), some_ids(), DynamicCache(config=dialect_model.config)
    model.activation_checkpointing_enable()
    model(input_ids, labels=input_ids, **{CACHE_NAME: cache}).loss.backward()
    assert cache.get_seq_length() == 0


def test_left_padding_changes_nothing(dialect_model, some_ids) -> None:
    """Each row of a padded batch is written as that row alone is."""
    long, short = some_ids(1, 9), some_ids(1, 5)
    batch = torch.cat([long, torch.cat([torch.zeros(1, 4, dtype=torch.long), short], dim=1)])
    output = greedy(dialect_model, batch, attention_mask=(batch != 0).long())
    assert torch.equal(output[:1], argmax_loop(dialect_model, long))
    assert torch.equal(output[1:, 4:], argmax_loop(dialect_model, short))


def test_assisted_decoding_changes_nothing(dialect_model, small_model, some_ids) -> None:
    """A smaller assistant's guesses are checked: the text is that of the model alone."""
    input_ids = some_ids(1, 7)
    for assistant in (small_model(num_hidden_layers=1), copy.deepcopy(dialect_model)):
        output = greedy(dialect_model, input_ids, assistant_model=assistant)
        assert torch.equal(output, argmax_loop(dialect_model, input_ids))


def test_beam_search_finds_the_best_continuation(dialect_model, some_ids) -> None:
    """With as many beams as tokens, two steps of beam search are the exhaustive search over all pairs."""
    input_ids, vocab = some_ids(1, 5), dialect_model.config.vocab_size
    output = greedy(dialect_model, input_ids, num_beams=vocab, max_new_tokens=2)
    with torch.no_grad():
        first = dialect_model(input_ids).logits[0, -1].log_softmax(-1)  # (V,)
        branches = torch.cat([input_ids.expand(vocab, -1), torch.arange(vocab)[:, None]], dim=1)
        second = dialect_model(branches).logits[:, -1].log_softmax(-1)  # (V, V)
    best = (first[:, None] + second).argmax().item()
    assert output[0, -2:].tolist() == [best // vocab, best % vocab]
    sampled = dialect_model.generate(
        some_ids(), num_beams=2, do_sample=True, num_return_sequences=2, max_new_tokens=3, eos_token_id=None
    )
    assert sampled.shape == (4, 16)


def test_generation_continues_from_a_returned_cache(dialect_model, some_ids) -> None:
    """Three tokens, then three more with the cache of the first call: six tokens."""
    input_ids = some_ids(1, 7)
    first = greedy(dialect_model, input_ids, max_new_tokens=3, return_dict_in_generate=True)
    cache = {CACHE_NAME: first[CACHE_NAME]}
    second = greedy(dialect_model, first.sequences, **cache, max_new_tokens=3)
    assert torch.equal(second, argmax_loop(dialect_model, input_ids))


def test_generation_from_embeddings(dialect_model, some_ids) -> None:
    """`inputs_embeds` in place of ids: the same new tokens."""
    input_ids = some_ids(1, 7)
    output = greedy(dialect_model, inputs_embeds=dialect_model.get_input_embeddings()(input_ids))
    assert torch.equal(output, argmax_loop(dialect_model, input_ids)[:, 7:])


@pytest.mark.filterwarnings("ignore")  # of torch, in the batching loop's thread
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_continuous_batching_equals_the_loop(dialect_model, some_ids, implementation) -> None:
    """`generate_batch` pages prompts of different lengths through one cache."""
    dialect_model.set_attn_implementation(implementation)
    prompts = [some_ids(1, length) for length in (4, 9, 6)]
    settings = GenerationConfig(max_new_tokens=NEW, do_sample=False, eos_token_id=-1, pad_token_id=0)
    small_cache = ContinuousBatchingConfig(page_size=16, num_blocks=16, max_batch_tokens=64)
    results = dialect_model.generate_batch(
        [prompt[0].tolist() for prompt in prompts],
        generation_config=settings,
        continuous_batching_config=small_cache,
    )
    written = {tuple(result.prompt_ids): result.generated_tokens for result in results.values()}
    for prompt in prompts:
        expected = argmax_loop(dialect_model, prompt)[0, prompt.shape[1] :].tolist()
        assert written[tuple(prompt[0].tolist())] == expected


@pytest.mark.filterwarnings("ignore")  # of torch's compiler
@pytest.mark.parametrize("dialect", ["qwen3", "gpt2"])
def test_forward_is_one_graph(small_model, some_ids, dialect) -> None:
    """No break in the forward pass, and the traced graph gives the same."""
    torch.compiler.reset()
    model, input_ids = small_model(dialect=dialect, num_hidden_layers=1), some_ids()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    mask = torch.ones_like(input_ids)
    mask[0, :5] = 0
    with torch.no_grad():
        inputs = {"attention_mask": mask, "labels": input_ids, "use_cache": False}
        ours, traced = model(input_ids, **inputs), compiled(input_ids, **inputs)
    torch.testing.assert_close(traced.logits[:, 5:], ours.logits[:, 5:], atol=1e-5, rtol=0)
    torch.testing.assert_close(traced.loss, ours.loss, atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch's compiler
def test_compiled_forward_backward_and_generate(dialect_model, some_ids) -> None:
    """The compiler's own kernels: the loss and gradients of a training step, and the text with a static cache."""
    torch.compiler.reset()
    model, input_ids = dialect_model, some_ids()
    losses, gradients = [], []
    for forward in (model, torch.compile(model, fullgraph=True)):
        model.zero_grad()
        losses.append(forward(input_ids, labels=input_ids, use_cache=False).loss)
        losses[-1].backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    torch.testing.assert_close(*losses, atol=1e-5, rtol=0)
    for plain, compiled in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, compiled, atol=1e-4, rtol=1e-3)
    torch.compiler.reset()
    prompt, steps = some_ids(1, 7), torch.compile(model.forward, fullgraph=True, dynamic=False)
    cache = StaticCache(config=model.config, max_cache_len=16)
    written = prompt
    with torch.no_grad():
        chosen = model(prompt, use_cache=True, **{CACHE_NAME: cache}).logits[:, -1:].argmax(-1)
        for _ in range(NEW):
            written = torch.cat([written, chosen], dim=1)
            chosen = steps(chosen, use_cache=True, **{CACHE_NAME: cache}).logits[:, -1:].argmax(-1)
    assert torch.equal(written, argmax_loop(model, prompt))
    assert torch.equal(greedy(model, prompt, cache_implementation="static"), argmax_loop(model, prompt))
