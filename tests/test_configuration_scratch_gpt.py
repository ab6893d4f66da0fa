# SPDX-License-Identifier: Apache-2.0
"""The configuration: derived values, round trip, and what it refuses."""

import pytest
from transformers import AutoConfig

from scratch_gpt import ScratchGPTConfig


def test_derived_sizes_follow_the_given_ones() -> None:
    """Heads, head width and MLP width are derived as documented."""
    config = ScratchGPTConfig(hidden_size=192, num_attention_heads=6)
    assert (config.num_key_value_heads, config.head_dim) == (6, 32)
    assert config.intermediate_size == 512  # 8/3 of 192


def test_each_dialect_is_the_published_design() -> None:
    """Every switch as the design has it; biases, activation and MLP width where nothing else is said."""
    expected = {
        "gpt2": ("learned", "layer_norm", False, False, True, True, "gelu_new", 512, None),
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
    """AutoConfig gives back an equal config, with all six doors in its auto_map."""
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
