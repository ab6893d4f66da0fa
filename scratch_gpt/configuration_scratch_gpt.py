# SPDX-License-Identifier: Apache-2.0
"""Configuration of the ScratchGPT decoder.

One of the two files that travel with every checkpoint as remote code: it imports nothing but
transformers and huggingface_hub.
"""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS, RopeParameters
from transformers.utils.type_validators import interval


# Each dialect is a published design with a class of its own in transformers; the switches say what sets it apart.
DIALECTS = {
    "qwen3": {"use_qk_norm": True},
    "llama": {"use_qk_norm": False},
}


@strict
class ScratchGPTConfig(PreTrainedConfig):
    """Shape and switches of a ScratchGPT model.

    Args:
        vocab_size: number of token ids.
        hidden_size: width D of the residual stream.
        intermediate_size: inner width of the MLP; default 8/3 of `hidden_size`, rounded up to a multiple of 64.
        num_hidden_layers: number of decoder layers.
        num_attention_heads: number of query heads H.
        num_key_value_heads: number of key/value heads K (grouped-query attention); default H.
        head_dim: width E of one head; default D / H. It may differ from D / H.
        hidden_act: activation of the gated MLP.
        max_position_embeddings: longest sequence, in tokens.
        dialect: "qwen3" or "llama": the published design that this model is, weight for weight. Default: the one
            that the switches describe.
        use_qk_norm: RMSNorm on each query and key head before the positions (Qwen3). Default: as the dialect has it.
        attention_bias: biases in the four attention projections.
        mlp_bias: biases in the three MLP projections (only in the llama dialect).
        attention_dropout: dropout on the attention weights while training.
        initializer_range: standard deviation of the initial weights; residual projections get it divided by
            sqrt(2 * num_hidden_layers) (GPT-2 paper, section 2.3).
        rms_norm_eps: added to the mean square before the root.
        tie_word_embeddings: the output head shares the input embedding's matrix.
        rope_parameters: rotary positions, {"rope_type": "default", "rope_theta": 10000.0} and the variants of
            `transformers.modeling_rope_utils`.
        use_cache: return keys and values for generation.

    Raises:
        ValueError: a shape or a combination of switches that no dialect has.
        StrictDataclassFieldValidationError: a value of the wrong type.
    """

    model_type = "scratch_gpt"
    keys_to_ignore_at_inference = ["past_key_values"]

    base_model_tp_plan = {
        "layers.*.self_attn.q_proj": "colwise",
        "layers.*.self_attn.k_proj": "colwise",
        "layers.*.self_attn.v_proj": "colwise",
        "layers.*.self_attn.q_norm": "replicated_with_grad_allreduce",
        "layers.*.self_attn.k_norm": "replicated_with_grad_allreduce",
        "layers.*.self_attn.o_proj": "rowwise",
        "layers.*.mlp.gate_proj": "colwise",
        "layers.*.mlp.up_proj": "colwise",
        "layers.*.mlp.down_proj": "rowwise",
    }
    base_model_pp_plan = {
        "embed_tokens": (["input_ids"], ["inputs_embeds"]),
        "layers": (["hidden_states", "attention_mask"], ["hidden_states"]),
        "norm": (["hidden_states"], ["hidden_states"]),
    }

    vocab_size: int = 32768
    hidden_size: int = 768
    intermediate_size: int | None = None
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    hidden_act: str = "silu"
    max_position_embeddings: int = 1024
    dialect: str | None = None
    use_qk_norm: bool | None = None
    attention_bias: bool = False
    mlp_bias: bool = False
    attention_dropout: int | float = 0.0
    initializer_range: float = interval(min=0.0, max=1.0)(default=0.02)
    rms_norm_eps: float = 1e-6
    tie_word_embeddings: bool = True
    rope_parameters: RopeParameters | dict | None = None
    use_cache: bool = True
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        for name in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads
        if self.head_dim is None:
            if self.hidden_size % self.num_attention_heads:
                raise ValueError(
                    f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads "
                    f"{self.num_attention_heads}: change one, or set head_dim"
                )
            self.head_dim = self.hidden_size // self.num_attention_heads
        if self.intermediate_size is None:
            self.intermediate_size = -(-8 * self.hidden_size // (3 * 64)) * 64
        if self.dialect is None:
            self.dialect = "llama" if self.use_qk_norm is False else "qwen3"
        if self.dialect not in DIALECTS:
            raise ValueError(f"dialect must be one of {', '.join(DIALECTS)}, got {self.dialect!r}")
        if self.use_qk_norm is None:
            self.use_qk_norm = DIALECTS[self.dialect]["use_qk_norm"]
        if not self.use_qk_norm:
            self.base_model_tp_plan = {
                name: style for name, style in self.base_model_tp_plan.items() if "_norm" not in name
            }
        # Saving a model records only the saved class; a checkpoint must open by all of these doors.
        kwargs.setdefault(
            "auto_map",
            {
                "AutoConfig": "configuration_scratch_gpt.ScratchGPTConfig",
                "AutoModel": "modeling_scratch_gpt.ScratchGPTModel",
                "AutoModelForCausalLM": "modeling_scratch_gpt.ScratchGPTForCausalLM",
                "AutoModelForSequenceClassification": "modeling_scratch_gpt.ScratchGPTForSequenceClassification",
            },
        )
        super().__post_init__(**kwargs)

    def validate_architecture(self) -> None:
        """Refuse what no dialect can be; called by the strict dataclass after construction."""
        if self.num_key_value_heads < 1 or self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads {self.num_attention_heads} is not a multiple of num_key_value_heads "
                f"{self.num_key_value_heads}"
            )
        if self.head_dim < 2 or self.head_dim % 2:
            raise ValueError(f"head_dim must be even (rotary positions turn pairs), got {self.head_dim}")
        if self.intermediate_size < 1 or self.max_position_embeddings < 1:
            raise ValueError(
                f"intermediate_size {self.intermediate_size} and max_position_embeddings "
                f"{self.max_position_embeddings} must be at least 1"
            )
        if not 0.0 <= self.attention_dropout < 1.0:
            raise ValueError(f"attention_dropout must be in [0, 1), got {self.attention_dropout}")
        if self.hidden_act not in ACT2FN:
            raise ValueError(f"hidden_act {self.hidden_act!r} is not an activation of transformers")
        rope_type = self.rope_parameters["rope_type"]
        if rope_type != "default" and rope_type not in ROPE_INIT_FUNCTIONS:
            raise ValueError(
                f"rope_type must be default or one of {', '.join(ROPE_INIT_FUNCTIONS)}, got {rope_type!r}"
            )
        if self.use_qk_norm != DIALECTS[self.dialect]["use_qk_norm"]:
            raise ValueError(f"use_qk_norm={self.use_qk_norm} is not the {self.dialect} design")
        if self.mlp_bias and self.dialect != "llama":
            raise ValueError(f"mlp_bias=True is not the {self.dialect} design: only llama has it")


__all__ = ["ScratchGPTConfig"]
