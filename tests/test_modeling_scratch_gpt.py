# SPDX-License-Identifier: Apache-2.0
"""The model against independent references: transformers' stock classes, and itself run another way."""

import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    StaticCache,
)

from scratch_gpt import (
    ScratchGPTConfig,
    ScratchGPTForCausalLM,
    ScratchGPTForSequenceClassification,
    ScratchGPTModel,
)


STOCK = {"qwen3": (Qwen3Config, Qwen3ForCausalLM), "llama": (LlamaConfig, LlamaForCausalLM)}
SHAPES = {
    "multi-head": {"hidden_size": 64, "num_attention_heads": 4},
    "grouped": {
        "hidden_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "tie_word_embeddings": False,
    },
    "wide-heads-and-biases": {
        "hidden_size": 48,
        "num_attention_heads": 4,
        "head_dim": 32,
        "attention_bias": True,
    },
}
SHARED = [
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
    "rms_norm_eps",
    "tie_word_embeddings",
    "attention_bias",
    "pad_token_id",
    "rope_parameters",
]
PAD = 0


def make_config(**changes) -> ScratchGPTConfig:
    shape = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, **changes}
    return ScratchGPTConfig(
        **{
            "vocab_size": 99,
            "num_hidden_layers": 2,
            "max_position_embeddings": 128,
            "pad_token_id": PAD,
            **shape,
        }
    )


def make_model(**changes) -> ScratchGPTForCausalLM:
    torch.manual_seed(0)
    model = ScratchGPTForCausalLM(make_config(**changes)).eval()
    with torch.no_grad():  # norms and biases start at ones and zeros: a mistake with them would not show
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def make_ids(batch: int = 2, length: int = 13) -> torch.Tensor:
    return torch.randint(1, 99, (batch, length), generator=torch.Generator().manual_seed(1))


def twin(model: ScratchGPTForCausalLM):
    config_class, model_class = STOCK[model.config.dialect]
    stock = model_class(config_class(**{name: getattr(model.config, name) for name in SHARED})).eval()
    stock.load_state_dict(model.state_dict())
    return stock


@pytest.mark.parametrize("dialect", STOCK)
@pytest.mark.parametrize("shape", SHAPES)
def test_logits_equal_the_stock_class(dialect, shape) -> None:
    """With the same weights, every logit of a left-padded batch is that of transformers' own class, bit for bit."""
    model = make_model(dialect=dialect, **{"num_key_value_heads": None, **SHAPES[shape]})
    input_ids = make_ids()
    input_ids[0, :5] = PAD
    mask = (input_ids != PAD).long()
    with torch.no_grad():
        ours, theirs = (
            model(input_ids, attention_mask=mask).logits,
            twin(model)(input_ids, attention_mask=mask).logits,
        )
    assert torch.equal(ours[mask.bool()], theirs[mask.bool()])


@pytest.mark.parametrize("rope_type", ["linear", "dynamic", "yarn", "llama3"])
def test_rope_variants_equal_the_stock_class(rope_type) -> None:
    """The variants of rotary positions are those of transformers."""
    extra = {
        "llama3": {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
    }
    rope = {"rope_type": rope_type, "rope_theta": 1e4, "factor": 2.0, **extra.get(rope_type, {})}
    model = make_model(dialect="llama", rope_parameters=rope)
    with torch.no_grad():
        assert torch.equal(model(make_ids()).logits, twin(model)(make_ids()).logits)


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning"
)  # of torch's compiler, in transformers' call of flex
@pytest.mark.parametrize(
    "implementation",
    ["sdpa", pytest.param("flex_attention", marks=pytest.mark.slow)],  # flex attention is compiled first
)
def test_attention_implementations_agree(implementation) -> None:
    """The written-out attention gives what the fused kernels give, with left padding."""
    model = make_model()
    input_ids = make_ids()
    input_ids[0, :5] = PAD
    mask = (input_ids != PAD).long()
    with torch.no_grad():
        model.set_attn_implementation("eager")
        eager = model(input_ids, attention_mask=mask).logits
        model.set_attn_implementation(implementation)
        other = model(input_ids, attention_mask=mask).logits
    torch.testing.assert_close(eager[mask.bool()], other[mask.bool()], atol=1e-5, rtol=0)


def test_no_token_sees_the_future() -> None:
    """Changing a token changes no logit before it."""
    model, input_ids = make_model(), make_ids(1)
    changed = input_ids.clone()
    changed[0, 7] = 3 if input_ids[0, 7] != 3 else 4
    with torch.no_grad():
        before, after = model(input_ids).logits, model(changed).logits
    assert torch.equal(before[0, :7], after[0, :7])
    assert not torch.equal(before[0, 7], after[0, 7])


@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_cached_steps_equal_the_full_pass(cache) -> None:
    """Token by token with a cache gives the logits of one pass."""
    model, input_ids = make_model(), make_ids(1)
    past = StaticCache(config=model.config, max_cache_len=32) if cache == "static" else None
    with torch.no_grad():
        full = model(input_ids).logits
        steps = []
        for index in range(input_ids.shape[1]):
            output = model(input_ids[:, index : index + 1], past_key_values=past, use_cache=True)
            past = output.past_key_values
            steps.append(output.logits)
    torch.testing.assert_close(torch.cat(steps, dim=1), full, atol=1e-5, rtol=0)


def test_greedy_generate_equals_an_argmax_loop_and_left_padding_changes_nothing() -> None:
    """`generate` on a padded batch writes for each row what the plain loop writes for it alone."""
    model, input_ids = make_model(), make_ids(1, 6)
    expected = input_ids
    with torch.no_grad():
        for _ in range(8):
            expected = torch.cat([expected, model(expected).logits[:, -1:].argmax(-1)], dim=1)
    padded = torch.cat([torch.full((1, 4), PAD), input_ids], dim=1)
    mask = (padded != PAD).long()
    output = model.generate(padded, attention_mask=mask, max_new_tokens=8, do_sample=False, eos_token_id=None)
    assert torch.equal(output[:, 4:], expected)


def test_packed_documents_are_isolated_and_leak_when_the_contract_is_broken() -> None:
    """Restarting positions keep documents apart only without a mask and without a cache."""
    model, first, second = make_model(), make_ids(1, 6), make_ids(1, 7) % 50 + 1
    packed = torch.cat([first, second], dim=1)
    position_ids = torch.cat([torch.arange(6), torch.arange(7)])[None]
    with torch.no_grad():
        alone = model(second).logits
        kept = model(packed, position_ids=position_ids, use_cache=False).logits[:, 6:]
        leaking = model(packed, position_ids=position_ids, use_cache=True).logits[:, 6:]
    torch.testing.assert_close(kept, alone, atol=1e-5, rtol=0)
    assert (leaking - alone).abs().max() > 1e-3


def test_loss_is_the_shifted_cross_entropy() -> None:
    """The mean over the labelled tokens; with `num_items_in_batch`, their sum over that number."""
    model, input_ids = make_model(), make_ids()
    labels = input_ids.clone()
    labels[:, :4] = -100
    with torch.no_grad():
        output = model(input_ids, labels=labels)
        shared = model(input_ids, labels=labels, num_items_in_batch=100).loss
    log_probs = output.logits.log_softmax(-1)
    expected = [-log_probs[b, t - 1, input_ids[b, t]] for b in range(2) for t in range(4, 13)]
    torch.testing.assert_close(output.loss, torch.stack(expected).mean())
    torch.testing.assert_close(shared, torch.stack(expected).sum() / 100)


def test_recorded_outputs_and_logits_to_keep() -> None:
    """Hidden states are layers + 1, attentions are layers; kept logits are the last, or those chosen."""
    model, input_ids = make_model(), make_ids()
    model.set_attn_implementation("eager")
    with torch.no_grad():
        output = model(input_ids, output_hidden_states=True, output_attentions=True)
        last = model(input_ids, logits_to_keep=2).logits
        chosen = model(input_ids, logits_to_keep=torch.tensor([3, 5])).logits
    assert len(output.hidden_states) == 3
    assert len(output.attentions) == 2
    rows = output.attentions[0].sum(-1)
    torch.testing.assert_close(rows, torch.ones_like(rows))
    assert torch.triu(output.attentions[0], diagonal=1).abs().max() == 0
    torch.testing.assert_close(last, output.logits[:, -2:])
    torch.testing.assert_close(chosen, output.logits[:, [3, 5]])


def test_gradient_checkpointing_gives_the_same_gradients() -> None:
    """Recomputing activations changes nothing but memory."""
    input_ids, gradients = make_ids(), []
    for checkpointing in (False, True):
        model = make_model().train()
        if checkpointing:
            model.activation_checkpointing_enable()
        model(input_ids, labels=input_ids, use_cache=False).loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_initial_weights_have_the_documented_spread() -> None:
    """Normal with initializer_range; residual projections divided by sqrt(2 * layers); norms at one."""
    model = ScratchGPTForCausalLM(make_config(hidden_size=256, num_hidden_layers=8))
    for layer in model.model.layers:
        assert layer.self_attn.q_proj.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert layer.self_attn.o_proj.weight.std().item() == pytest.approx(0.02 / 4, rel=0.05)
        assert layer.mlp.down_proj.weight.std().item() == pytest.approx(0.02 / 4, rel=0.05)
        assert torch.equal(layer.input_layernorm.weight, torch.ones(256))


@pytest.mark.parametrize("padding_side", ["left", "right"])
def test_sequence_score_is_of_the_last_token_whatever_the_padding(padding_side) -> None:
    """The reward of a padded row is that of the row alone."""
    torch.manual_seed(0)
    model = ScratchGPTForSequenceClassification(make_config(num_labels=1)).eval()
    row = make_ids(1, 6)
    padding = torch.full((1, 4), PAD)
    padded = torch.cat([padding, row] if padding_side == "left" else [row, padding], dim=1)
    with torch.no_grad():
        alone = model(row).logits
        score = model(padded, attention_mask=(padded != PAD).long()).logits
        hidden = model.model(row).last_hidden_state[:, -1]
    torch.testing.assert_close(score, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(alone, hidden @ model.score.weight.T)


def test_save_and_load_by_every_door_in_this_process(tmp_path) -> None:
    """Each Auto class opens the folder; tied weights stay one tensor; weights are equal."""
    model = make_model(tie_word_embeddings=True)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert isinstance(loaded, ScratchGPTForCausalLM)
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    with torch.no_grad():
        assert torch.equal(loaded(make_ids()).logits, model(make_ids()).logits)
    assert isinstance(AutoModel.from_pretrained(tmp_path), ScratchGPTModel)
    reward = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=1)
    assert isinstance(reward, ScratchGPTForSequenceClassification)
    assert torch.equal(reward.model.layers[1].mlp.up_proj.weight, model.model.layers[1].mlp.up_proj.weight)


def test_both_or_no_inputs_are_refused() -> None:
    """Exactly one of ids and embeddings."""
    model = make_model()
    with pytest.raises(ValueError, match="exactly one"):
        model.model()
