# SPDX-License-Identifier: Apache-2.0
"""The model's arithmetic against independent references: transformers' stock classes, and itself run another way.

Generation is in test_modeling_generation.py; saving, loading and the heads are in test_modeling_auto_classes.py.
"""

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from scratch_gpt import ScratchGPTConfig, ScratchGPTForCausalLM
from scratch_gpt.modeling_scratch_gpt_inputs import CACHE_NAME


PAD = 0
STOCK = {"qwen3": (Qwen3Config, Qwen3ForCausalLM), "llama": (LlamaConfig, LlamaForCausalLM)}
SHARED = [
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "max_position_embeddings",
    "rms_norm_eps",
    "tie_word_embeddings",
    "attention_bias",
    "mlp_bias",
    "attention_dropout",
    "pad_token_id",
    "rope_parameters",
]
# ours -> GPT-2's; its projections are stored transposed, and its query, key and value as one.
GPT2_NAMES = {
    "model.embed_tokens": "transformer.wte",
    "model.embed_positions": "transformer.wpe",
    "model.norm": "transformer.ln_f",
    "model.layers": "transformer.h",
    "input_layernorm": "ln_1",
    "post_attention_layernorm": "ln_2",
    "self_attn.o_proj": "attn.c_proj",
    "mlp.up_proj": "mlp.c_fc",
    "mlp.down_proj": "mlp.c_proj",
}
SHAPES = {
    "multi-head": {},
    "untied": {
        "hidden_size": 48,
        "num_hidden_layers": 3,
        "intermediate_size": 80,
        "tie_word_embeddings": False,
    },
    "grouped": {"num_key_value_heads": 2, "tie_word_embeddings": False},
    "wide-heads-and-biases": {
        "hidden_size": 48,
        "head_dim": 32,
        "attention_bias": True,
        "num_key_value_heads": 1,
    },
    "one-layer": {
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "hidden_act": "relu",
        "layer_norm_eps": 1e-3,
    },
}
DIALECT_SHAPES = [
    *(("gpt2", shape) for shape in ("multi-head", "untied", "one-layer")),
    *((dialect, shape) for dialect in STOCK for shape in ("untied", "grouped", "wide-heads-and-biases")),
]
# Beyond 8 positions: where the dynamic and long variants begin to differ.
ROPE = {
    "default": {},
    "linear": {"factor": 2.0},
    "dynamic": {"factor": 2.0},
    "yarn": {"factor": 2.0, "original_max_position_embeddings": 4},
    "llama3": {
        "factor": 2.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 4,
    },
    "longrope": {
        "factor": 2.0,
        "short_factor": [1.0] * 8,
        "long_factor": [1.5] * 8,
        "original_max_position_embeddings": 4,
    },
}


def twin(model: ScratchGPTForCausalLM) -> PreTrainedModel:
    """The stock class with the same weights, moved here by hand."""
    config, state = model.config, model.state_dict()
    if config.dialect != "gpt2":
        config_class, model_class = STOCK[config.dialect]
        stock = model_class(config_class(**{name: getattr(config, name) for name in SHARED})).eval()
        stock.load_state_dict(state)
        return stock
    stock = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=config.vocab_size,
            n_embd=config.hidden_size,
            n_inner=config.intermediate_size,
            n_layer=config.num_hidden_layers,
            n_head=config.num_attention_heads,
            n_positions=config.max_position_embeddings,
            activation_function=config.hidden_act,
            layer_norm_epsilon=config.layer_norm_eps,
            attn_pdrop=config.attention_dropout,
            embd_pdrop=config.embedding_dropout,
            resid_pdrop=config.residual_dropout,
            tie_word_embeddings=config.tie_word_embeddings,
            bos_token_id=None,
            eos_token_id=None,
        )
    ).eval()
    moved = {}
    for name, tensor in state.items():
        for ours, theirs in GPT2_NAMES.items():
            name = name.replace(ours, theirs)
        moved[name] = tensor.T if "c_" in name and tensor.ndim == 2 else tensor
    for layer in range(config.num_hidden_layers):
        for kind in ("weight", "bias"):
            parts = [moved.pop(f"transformer.h.{layer}.self_attn.{x}_proj.{kind}") for x in "qkv"]
            fused = torch.cat(parts)
            moved[f"transformer.h.{layer}.attn.c_attn.{kind}"] = fused.T if kind == "weight" else fused
    stock.load_state_dict(moved)
    return stock


def left_padded(input_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The ids with five of padding at the left of the first row, and their mask."""
    input_ids = input_ids.clone()
    input_ids[0, :5] = PAD
    return input_ids, (input_ids != PAD).long()


def same(ours: torch.Tensor, theirs: torch.Tensor, dialect: str) -> None:
    """Bit for bit, but for gpt2: there the stock class normalises in one fused kernel, in another order."""
    assert theirs.abs().max() > 0.3
    tolerance = 1e-5 if dialect == "gpt2" else 0.0
    torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=0)


@pytest.mark.parametrize(("dialect", "shape"), DIALECT_SHAPES)
def test_logits_equal_the_stock_class(small_model, some_ids, dialect, shape) -> None:
    """With the same weights, each logit is that of transformers' own class: prompt, left padding, cached step."""
    model = small_model(dialect=dialect, **SHAPES[shape])
    stock, input_ids = twin(model), some_ids()
    padded, mask = left_padded(input_ids)
    with torch.no_grad():
        same(model(input_ids).logits, stock(input_ids).logits, dialect)
        ours, theirs = (
            each(padded[:, :-1], attention_mask=mask[:, :-1], use_cache=True) for each in (model, stock)
        )
        same(ours.logits[mask[:, :-1].bool()], theirs.logits[mask[:, :-1].bool()], dialect)
        step, stock_step = (
            each(padded[:, -1:], attention_mask=mask, **{CACHE_NAME: prompt[CACHE_NAME]}).logits
            for each, prompt in ((model, ours), (stock, theirs))
        )
    same(step, stock_step, dialect)


@pytest.mark.parametrize("dialect", STOCK)
@pytest.mark.parametrize("rope_type", ROPE)
def test_rope_variants_equal_the_stock_class(small_model, some_ids, dialect, rope_type) -> None:
    """Every variant of rotary positions is that of transformers, beyond the trained length too."""
    rope = {"rope_type": rope_type, "rope_theta": 1e4, **ROPE[rope_type]}
    model = small_model(dialect=dialect, rope_parameters=rope, max_position_embeddings=8)
    stock = twin(model)
    with torch.no_grad():
        for length in (6, 13):
            same(model(some_ids(2, length)).logits, stock(some_ids(2, length)).logits, dialect)
        if rope_type != "default":
            plain = small_model(dialect=dialect, max_position_embeddings=8)
            assert not torch.allclose(model(some_ids()).logits, plain(some_ids()).logits, atol=1e-3)


@pytest.mark.parametrize("dialect", ["qwen3", "llama", "gpt2"])
def test_training_step_equals_the_stock_class(small_model, some_ids, dialect) -> None:
    """With dropout and one seed: the same loss, and the same gradient of the token embedding."""
    dropouts = ["attention_dropout"] + ["embedding_dropout", "residual_dropout"] * (dialect == "gpt2")
    model = small_model(dialect=dialect, **dict.fromkeys(dropouts, 0.3), attn_implementation="eager")
    stock = twin(model)
    stock.set_attn_implementation("eager")
    input_ids, losses = some_ids(), []
    for each in (model.train(), stock.train()):
        torch.manual_seed(0)
        losses.append(each(input_ids, labels=input_ids, use_cache=False).loss)
        losses[-1].backward()
    torch.testing.assert_close(*losses, atol=1e-5, rtol=0)
    with torch.no_grad():
        assert abs(losses[0] - model.eval()(input_ids, labels=input_ids).loss) > 1e-3
    ours, theirs = (each.get_input_embeddings().weight.grad[1:] for each in (model, stock))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def attention_agrees(model, input_ids, implementation: str) -> None:
    padded, mask = left_padded(input_ids)
    position_ids = (mask.cumsum(-1) - 1).clamp(min=0)
    logits = []
    for each in ("eager", implementation):
        model.set_attn_implementation(each)
        with torch.no_grad():
            logits.append(model(padded, attention_mask=mask, position_ids=position_ids).logits[mask.bool()])
    torch.testing.assert_close(*logits, atol=1e-5, rtol=0)


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning"
)  # of torch's compiler, in transformers' call of flex
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("implementation", ["sdpa", "flex_attention"])
def test_attention_implementations_agree(dialect_model, some_ids, implementation) -> None:
    """The written-out attention gives what the fused kernels give, with left padding."""
    with torch.compiler.set_stance("force_eager"):  # flex attention by its formula: compiling takes a minute
        attention_agrees(dialect_model, some_ids(), implementation)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_flex_attention_agrees(small_model, some_ids) -> None:
    """The same with the compiled kernel."""
    attention_agrees(small_model(num_key_value_heads=2), some_ids(), "flex_attention")


def test_no_token_sees_the_future(dialect_model, some_ids) -> None:
    """Changing a token changes no logit before it."""
    input_ids = some_ids(1)
    changed = input_ids.clone()
    changed[0, 7] = 3 if input_ids[0, 7] != 3 else 4
    with torch.no_grad():
        before, after = dialect_model(input_ids).logits, dialect_model(changed).logits
    assert torch.equal(before[0, :7], after[0, :7])
    assert not torch.equal(before[0, 7], after[0, 7])


def test_packed_documents_are_isolated_and_leak_when_the_contract_is_broken(dialect_model, some_ids) -> None:
    """Restarting positions keep documents apart only without a mask and without a cache."""
    first, second = some_ids(1, 6), some_ids(1, 7) % 50 + 1
    packed = torch.cat([first, second], dim=1)
    position_ids = torch.cat([torch.arange(6), torch.arange(7)])[None]
    with torch.no_grad():
        alone = dialect_model(second).logits
        kept = dialect_model(packed, position_ids=position_ids, use_cache=False).logits[:, 6:]
        cached = dialect_model(packed, position_ids=position_ids, use_cache=True).logits[:, 6:]
        masked = dialect_model(
            packed, position_ids=position_ids, attention_mask=torch.ones_like(packed), use_cache=False
        ).logits[:, 6:]
    torch.testing.assert_close(kept, alone, atol=1e-5, rtol=0)
    assert (cached - alone).abs().max() > 1e-2
    assert (masked - alone).abs().max() > 1e-2


def test_loss_is_the_shifted_cross_entropy(dialect_model, some_ids) -> None:
    """The mean over the labelled tokens; with `num_items_in_batch`, their sum over that number."""
    input_ids = some_ids()
    labels = input_ids.clone()
    labels[:, :4] = -100
    with torch.no_grad():
        output = dialect_model(input_ids, labels=labels)
        shared = dialect_model(input_ids, labels=labels, num_items_in_batch=100).loss
    log_probs = output.logits.log_softmax(-1)
    expected = [-log_probs[b, t - 1, input_ids[b, t]] for b in range(2) for t in range(4, 13)]
    torch.testing.assert_close(output.loss, torch.stack(expected).mean())
    torch.testing.assert_close(shared, torch.stack(expected).sum() / 100)


def test_recorded_outputs_and_logits_to_keep(dialect_model, some_ids) -> None:
    """Hidden states are layers + 1, attentions are layers; kept logits are the last, or those chosen."""
    model, input_ids = dialect_model, some_ids()
    model.set_attn_implementation("eager")
    with torch.no_grad():
        output = model(input_ids, output_hidden_states=True, output_attentions=True)
        last = model(input_ids, logits_to_keep=2).logits
        chosen = model(input_ids, logits_to_keep=torch.tensor([3, 5])).logits
        embedded = model(inputs_embeds=model.get_input_embeddings()(input_ids)).logits
        plain = model(input_ids, return_dict=False)
    assert len(output.hidden_states) == 3
    assert len(output.attentions) == 2
    torch.testing.assert_close(model.lm_head(output.hidden_states[-1]), output.logits)
    rows = output.attentions[0].sum(-1)
    torch.testing.assert_close(rows, torch.ones_like(rows))
    assert torch.triu(output.attentions[0], diagonal=1).abs().max() == 0
    torch.testing.assert_close(last, output.logits[:, -2:])
    torch.testing.assert_close(chosen, output.logits[:, [3, 5]])
    assert torch.equal(embedded, output.logits)
    assert torch.equal(plain[0], output.logits)


def test_gradient_checkpointing_gives_the_same_gradients(dialect_model, some_ids) -> None:
    """Recomputing activations changes nothing but memory."""
    model, input_ids, gradients = dialect_model.train(), some_ids(), []
    for checkpointing in (False, True):
        if checkpointing:
            model.activation_checkpointing_enable()
        model.zero_grad()
        model(input_ids, labels=input_ids, use_cache=False).loss.backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)


@pytest.mark.parametrize("dialect", ["qwen3", "llama", "gpt2"])
def test_initial_weights_have_the_documented_spread(dialect) -> None:
    """Each leaf: normal with initializer_range, residual projections divided by sqrt(2 * layers), norms one, biases zero."""
    torch.manual_seed(0)
    biases = {"attention_bias": True} if dialect == "qwen3" else {"attention_bias": True, "mlp_bias": True}
    config = ScratchGPTConfig(
        dialect=dialect,
        vocab_size=512,
        hidden_size=128,
        num_attention_heads=2,
        num_hidden_layers=8,
        max_position_embeddings=256,
        pad_token_id=3,
        tie_word_embeddings=False,
        initializer_range=0.05,
        **biases,
    )
    for name, parameter in ScratchGPTForCausalLM(config).named_parameters():
        if name.endswith("bias"):
            assert torch.equal(parameter, torch.zeros_like(parameter)), name
        elif "norm" in name:
            assert torch.equal(parameter, torch.ones_like(parameter)), name
        else:
            expected = 0.05 / 4 if "o_proj" in name or "down_proj" in name else 0.05
            assert parameter.std().item() == pytest.approx(expected, rel=0.03), name
            assert abs(parameter.mean().item()) < expected / 20, name
        if name == "model.embed_tokens.weight":
            assert parameter[3].abs().max() == 0  # the padding


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "exactly one"),
        ({"input_ids": (2, 5), "inputs_embeds": (2, 5, 64)}, "exactly one"),
        ({"input_ids": (5,)}, r"input_ids must have the shape \(batch, tokens\)"),
        ({"inputs_embeds": (2, 5, 32)}, r"inputs_embeds \(batch, tokens, 64\).*\(2, 5, 32\)"),
        ({"input_ids": (2, 5), "attention_mask": (3, 5)}, r"attention_mask.*got \(3, 5\)"),
        ({"input_ids": (2, 5), "attention_mask": (2, 4)}, r"attention_mask.*got \(2, 4\)"),
        ({"input_ids": (2, 5), "position_ids": (5,)}, r"position_ids.*got \(5,\)"),
        ({"input_ids": (2, 5), "position_ids": (2, 4)}, r"position_ids.*got \(2, 4\)"),
    ],
)
def test_wrong_shapes_are_refused(small_model, inputs, message) -> None:
    """One error each that names the argument and its shape."""
    tensors = {
        name: torch.ones(shape, dtype=torch.float if name == "inputs_embeds" else torch.long)
        for name, shape in inputs.items()
    }
    with pytest.raises(ValueError, match=message):
        small_model()(**tensors)


def test_what_is_not_in_a_table_is_refused_by_value(small_model) -> None:
    """An id past the vocabulary, a learned position past the last; rotary positions have no last."""
    with pytest.raises(IndexError, match="input_ids must be from 0 to 98, got 1 to 99"):
        small_model()(torch.tensor([[1, 99]]))
    too_long = torch.ones(1, 9, dtype=torch.long)
    with pytest.raises(IndexError, match="position_ids must be from 0 to 7, got 0 to 8"):
        small_model(dialect="gpt2", max_position_embeddings=8)(too_long)
    small_model(max_position_embeddings=8)(too_long)
