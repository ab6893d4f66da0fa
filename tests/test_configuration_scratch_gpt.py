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


def test_dialect_and_switches_name_each_other() -> None:
    """Either way of asking for a design gives the same config."""
    assert ScratchGPTConfig().dialect == "qwen3"
    assert ScratchGPTConfig(dialect="llama").use_qk_norm is False
    assert ScratchGPTConfig(use_qk_norm=False).dialect == "llama"


def test_tensor_parallel_plan_names_no_absent_module() -> None:
    """The llama dialect has no per-head norms, so its plan has none either."""
    assert any("q_norm" in name for name in ScratchGPTConfig(dialect="qwen3").base_model_tp_plan)
    assert not any("q_norm" in name for name in ScratchGPTConfig(dialect="llama").base_model_tp_plan)


def test_round_trip_through_a_folder(tmp_path) -> None:
    """AutoConfig gives back an equal config, with all six doors in its auto_map."""
    config = ScratchGPTConfig(dialect="llama", rope_parameters={"rope_type": "linear", "factor": 2.0})
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
        ({"hidden_size": 100, "num_attention_heads": 3}, "num_attention_heads 3"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"num_attention_heads": 4, "num_key_value_heads": 3, "head_dim": 16}, "num_key_value_heads 3"),
        ({"head_dim": 15}, "head_dim"),
        ({"attention_dropout": -0.1}, "attention_dropout"),
        ({"dialect": "gpt5"}, "dialect"),
        ({"dialect": "llama", "use_qk_norm": True}, "use_qk_norm"),
        ({"dialect": "qwen3", "mlp_bias": True}, "mlp_bias"),
        ({"rope_parameters": {"rope_type": "spiral", "rope_theta": 1e4}}, "rope_type"),
        ({"hidden_act": "swoosh"}, "hidden_act"),
    ],
)
def test_impossible_configs_are_refused_by_name(wrong, message) -> None:
    """The error names the offending value."""
    with pytest.raises(Exception, match=message) as caught:
        ScratchGPTConfig(**wrong)
    assert isinstance(caught.value, ValueError) or "Strict" in type(caught.value).__name__
