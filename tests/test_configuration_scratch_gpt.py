# SPDX-License-Identifier: Apache-2.0
"""The configuration: derived values, round trip, and what it refuses."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig
from transformers.activations import ACT2FN

from scratch_gpt import (
    ScratchGPTConfig,
    ScratchGPTForCausalLM,
    ScratchGPTForMaskedLM,
    ScratchGPTForSequenceClassification,
)


def test_derived_sizes_follow_the_given_ones() -> None:
    """Heads, head width and MLP width are derived as documented."""
    config = ScratchGPTConfig(hidden_size=192, num_attention_heads=6)
    assert (config.num_key_value_heads, config.head_dim) == (6, 32)
    assert config.intermediate_size == 512  # 8/3 of 192


def test_each_dialect_is_the_published_design() -> None:
    """Every switch as the design has it; biases, activation and MLP width where nothing else is said."""
    expected = {
        "gpt2": ("learned", "layer_norm", False, False, True, True, "gelu_pytorch_tanh", 512, None),
        "llama": ("rotary", "rms_norm", True, False, False, False, "silu", 384, "default"),
        "qwen3": ("rotary", "rms_norm", True, True, False, False, "silu", 384, "default"),
    }
    for dialect, values in expected.items():
        config = ScratchGPTConfig(dialect=dialect, hidden_size=128, num_attention_heads=4)
        assert (
            config.position_embedding_type,
            config.norm_type,
            config.gated_mlp,
            config.use_qk_norm,
            config.attention_bias,
            config.mlp_bias,
            config.hidden_act,
            config.intermediate_size,
            config.rope_parameters and config.rope_parameters["rope_type"],
        ) == values


@pytest.mark.parametrize(
    ("switches", "dialect"),
    [
        ({}, "qwen3"),
        ({"attention_bias": True}, "qwen3"),
        ({"use_qk_norm": False}, "llama"),
        ({"mlp_bias": True}, "llama"),
        ({"position_embedding_type": "learned"}, "gpt2"),
        ({"norm_type": "layer_norm"}, "gpt2"),
        ({"gated_mlp": False}, "gpt2"),
    ],
)
def test_switches_name_their_dialect(switches, dialect) -> None:
    """Without a dialect, it is the first that fits; asked for by name, it is the same config."""
    config = ScratchGPTConfig(**switches)
    assert config.dialect == dialect
    assert config.to_dict() == ScratchGPTConfig(dialect=dialect, **switches).to_dict()


@pytest.mark.parametrize(
    "config",
    [
        ScratchGPTConfig(dialect="llama", rope_parameters={"rope_type": "linear", "factor": 2.0}),
        ScratchGPTConfig(dialect="gpt2", embedding_dropout=0.1, residual_dropout=0.1),
    ],
    ids=lambda config: config.dialect,
)
def test_round_trip_through_a_folder(config, tmp_path) -> None:
    """AutoConfig gives back an equal config, with all seven auto classes in its auto_map."""
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    varying = {"_name_or_path", "transformers_version"}
    for name in set(config.to_dict()) - varying:
        assert loaded.to_dict()[name] == config.to_dict()[name], name
    assert set(loaded.auto_map) == {
        "AutoConfig",
        "AutoModel",
        "AutoModelForCausalLM",
        "AutoModelForSequenceClassification",
        "AutoModelForTokenClassification",
        "AutoModelForQuestionAnswering",
        "AutoModelForMultipleChoice",
    }


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"hidden_size": "wide"}, "hidden_size"),
        ({"num_hidden_layers": 2.5}, "num_hidden_layers"),
        ({"attention_bias": "yes"}, "attention_bias"),
        ({"rope_parameters": "yarn"}, "rope_parameters"),
        ({"hidden_size": 100, "num_attention_heads": 3}, "num_attention_heads 3"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"vocab_size": 0}, "vocab_size"),
        ({"num_attention_heads": 0}, "num_attention_heads"),
        ({"num_attention_heads": 4, "num_key_value_heads": 3, "head_dim": 16}, "num_key_value_heads 3"),
        ({"num_key_value_heads": 0}, "num_key_value_heads 0"),
        ({"head_dim": 15}, "head_dim"),
        ({"head_dim": -2}, "head_dim"),
        ({"intermediate_size": 0}, "intermediate_size"),
        ({"max_position_embeddings": 0}, "max_position_embeddings"),
        ({"attention_dropout": -0.1}, "attention_dropout"),
        ({"attention_dropout": 1.0}, "attention_dropout"),
        ({"initializer_range": -1.0}, "initializer_range"),
        ({"rms_norm_eps": 0.0}, "rms_norm_eps"),
        ({"pad_token_id": 99, "vocab_size": 99}, "pad_token_id 99"),
        ({"eos_token_id": 99, "vocab_size": 99}, "eos_token_id 99"),
        ({"eos_token_id": [1, 99], "vocab_size": 99}, "eos_token_id 99"),
        ({"bos_token_id": -1}, "bos_token_id -1"),
        ({"hidden_act": "swoosh"}, "hidden_act"),
        ({"model_type": "bert"}, "model type 'bert'"),
        ({"dialect": "gpt5"}, "dialect"),
        ({"dialect": "llama", "use_qk_norm": True}, "use_qk_norm=True is not the llama design"),
        ({"dialect": "llama", "norm_type": "layer_norm"}, "norm_type='layer_norm' is not the llama design"),
        ({"dialect": "qwen3", "mlp_bias": True}, "mlp_bias=True is not the qwen3 design"),
        ({"dialect": "qwen3", "position_embedding_type": "learned"}, "position_embedding_type='learned'"),
        ({"position_embedding_type": "alibi"}, "position_embedding_type='alibi'"),
        ({"norm_type": "layer_norm", "use_qk_norm": True}, "norm_type='layer_norm' is not the qwen3 design"),
        ({"embedding_dropout": 0.1}, "embedding_dropout=0.1 is not the qwen3 design"),
        ({"dialect": "llama", "residual_dropout": 0.1}, "residual_dropout=0.1 is not the llama design"),
        ({"dialect": "gpt2", "residual_dropout": -0.1}, "residual_dropout"),
        ({"dialect": "gpt2", "layer_norm_eps": -1e-5}, "layer_norm_eps"),
        ({"dialect": "gpt2", "attention_bias": False}, "attention_bias=False is not the gpt2 design"),
        ({"dialect": "gpt2", "gated_mlp": True}, "gated_mlp=True is not the gpt2 design"),
        ({"dialect": "gpt2", "num_key_value_heads": 4}, "num_key_value_heads 4 is not the gpt2 design"),
        ({"dialect": "gpt2", "head_dim": 32}, "head_dim 32 is not the gpt2 design"),
        ({"dialect": "gpt2", "rope_parameters": {"rope_type": "default"}}, "learned positions"),
        ({"dialect": "gpt2", "rope_theta": 1e4}, "learned positions"),
        ({"rope_parameters": {"rope_type": "spiral", "rope_theta": 1e4}}, "rope_type"),
        ({"rope_parameters": {"rope_type": "linear"}}, "factor"),
        ({"rope_parameters": {"rope_type": "linear", "factor": "two"}}, "factor must be a number from 1.0"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 0.5}}, "factor must be a number from 1.0"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 0}}, "rope_theta"),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 2.0, "rope_theta": 1e4}}, "low_freq_factor"),
        (
            {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}},
            "partial_rotary_factor",
        ),
    ],
)
def test_impossible_configs_are_refused_by_name(wrong, message) -> None:
    """The error names the offending value."""
    with pytest.raises(Exception, match=message) as caught:
        ScratchGPTConfig(**wrong)
    assert isinstance(caught.value, ValueError) or "Strict" in type(caught.value).__name__


SMALL = {"vocab_size": 99, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


@pytest.mark.parametrize(
    ("saved", "changes", "expected"),
    [
        ({}, {"hidden_size": 128}, (4, 32, 384)),
        ({}, {"num_attention_heads": 8}, (8, 8, 192)),
        ({}, {"hidden_size": 128, "head_dim": 16}, (4, 16, 384)),
        ({}, {"hidden_size": 128, "intermediate_size": 192}, (4, 32, 192)),
        ({"head_dim": 32, "num_key_value_heads": 2}, {"hidden_size": 128}, (2, 32, 384)),
        ({"intermediate_size": 100}, {"hidden_size": 128}, (4, 32, 100)),
        ({"dialect": "gpt2"}, {"hidden_size": 128}, (4, 32, 512)),
    ],
)
def test_derived_sizes_follow_what_is_changed_on_loading(saved, changes, expected, tmp_path) -> None:
    """A width that was derived follows the changed shape; one that was chosen, then or now, stays."""
    ScratchGPTConfig(**SMALL, **saved).save_pretrained(tmp_path)
    config, unused = AutoConfig.from_pretrained(tmp_path, **changes, other=1, return_unused_kwargs=True)
    assert (config.num_key_value_heads, config.head_dim, config.intermediate_size) == expected
    assert unused == {"other": 1}
    ScratchGPTForCausalLM(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dialect": "llama"}, "use_qk_norm=True is not the llama design"),
        ({"num_key_value_heads": 3}, "num_key_value_heads 3"),
        ({"use_qk_norm": False}, "use_qk_norm=False is not the qwen3 design"),
        ({"eos_token_id": 99}, "eos_token_id 99"),
    ],
)
def test_a_model_is_not_built_from_a_changed_config_that_cannot_be(changes, message, tmp_path) -> None:
    """Changed after its construction or while a folder is loaded: refused before anything is trained."""
    config = ScratchGPTConfig(**SMALL)
    ScratchGPTForCausalLM(config).save_pretrained(tmp_path)
    with pytest.raises((ValueError, StrictDataclassError), match=message):
        ScratchGPTForCausalLM.from_pretrained(tmp_path, **changes)
    for name, value in changes.items():
        setattr(config, name, value)
    with pytest.raises(ValueError, match=message):
        ScratchGPTForSequenceClassification(config)


def test_an_encoder_made_from_a_decoder_has_its_own_door(tmp_path) -> None:
    """Loaded as one, or its config changed: no causal door, and back again; entries that are not ours stay."""
    decoder = ScratchGPTConfig(**SMALL, auto_map={"AutoTokenizer": "own.Tokenizer"})
    assert decoder.auto_map["AutoTokenizer"] == "own.Tokenizer"
    decoder.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path, is_causal=False)
    decoder.is_causal = False
    changed = ScratchGPTForMaskedLM(decoder).config
    for config in (loaded, changed):
        assert config.auto_map["AutoTokenizer"] == "own.Tokenizer"
        assert "AutoModelForMaskedLM" in config.auto_map
        assert "AutoModelForCausalLM" not in config.auto_map
    changed.is_causal = True
    assert "AutoModelForMaskedLM" not in ScratchGPTForCausalLM(changed).config.auto_map


@pytest.mark.parametrize("asked", ["gelu_new", "gelu_pytorch_tanh", "gelu", "relu", None])
def test_the_activation_that_is_named_is_the_one_that_runs(asked) -> None:
    """Of a gpt2 model: by its name in transformers, and near what was asked."""
    model = ScratchGPTForCausalLM(ScratchGPTConfig(**SMALL, dialect="gpt2", hidden_act=asked))
    runs = model.model.layers[0].mlp.act_fn
    assert type(runs) is type(ACT2FN[model.config.hidden_act])
    x = torch.linspace(-4, 4, 101)
    torch.testing.assert_close(runs(x), ACT2FN[asked or "gelu_new"](x), atol=1e-6, rtol=0)
