# SPDX-License-Identifier: Apache-2.0
"""Configurations of the ScratchGPT models: the decoder or encoder, and the two together.

One of the files that travel with every checkpoint as remote code: it imports nothing but
transformers and huggingface_hub.
"""

import copy
from dataclasses import fields
from typing import Any

from transformers import __version__
from transformers.utils.versions import require_version


# Checked before the imports below, whose failure in an older version would not say why.
try:
    REQUIRED = "transformers>=5.21"
    require_version(REQUIRED)
except ImportError:
    raise ImportError(
        f"this model needs {REQUIRED}, but transformers {__version__} is installed: pip install -U transformers"
    ) from None

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS, RopeParameters
from transformers.utils.type_validators import interval


# Each dialect is a published design with a class of its own in transformers; these switches set it apart. The first
# dialect that fits the switches given is the default one.
DIALECTS: dict[str, dict[str, Any]] = {
    "qwen3": {
        "position_embedding_type": "rotary",
        "norm_type": "rms_norm",
        "gated_mlp": True,
        "mlp_bias": False,
        "use_qk_norm": True,
    },
    "llama": {
        "position_embedding_type": "rotary",
        "norm_type": "rms_norm",
        "gated_mlp": True,
        "use_qk_norm": False,
    },
    "gpt2": {
        "position_embedding_type": "learned",
        "norm_type": "layer_norm",
        "gated_mlp": False,
        "attention_bias": True,
        "mlp_bias": True,
        "use_qk_norm": False,
    },
}


@strict
class ScratchGPTConfig(PreTrainedConfig):
    """Shape and switches of a ScratchGPT model.

    Args:
        vocab_size: number of token ids.
        hidden_size: width D of the residual stream.
        intermediate_size: inner width of the MLP; default 4 D, or 8/3 D rounded up to a multiple of 64 if gated.
        num_hidden_layers: number of decoder layers.
        num_attention_heads: number of query heads H.
        num_key_value_heads: number of key/value heads K (grouped-query attention); default H, and gpt2 has no other.
        head_dim: width E of one head; default D / H. It may differ from D / H, but not in gpt2.
        max_position_embeddings: longest sequence, in tokens. Learned positions end there; rotary ones continue, badly.
        dialect: "qwen3", "llama" or "gpt2": the published design that this model is, weight for weight. Default: the
            one that the switches describe.
        position_embedding_type: "rotary", or "learned" (gpt2): a vector for each position, added to the token's.
        norm_type: "rms_norm", or "layer_norm" (gpt2).
        gated_mlp: down(act(gate(x)) * up(x)); without the gate down(act(up(x))) (gpt2).
        use_qk_norm: RMSNorm on each query and key head before the positions (qwen3).
        hidden_act: activation of the MLP; default "silu" if gated, else "gelu_pytorch_tanh", which is also what
            "gelu_new" becomes (the same function, in one operation).
        attention_bias: biases in the four attention projections; gpt2 has them, the others may (default: no).
        mlp_bias: biases in the MLP projections; gpt2 has them, llama may (default: no), qwen3 has none.
        attention_dropout: dropout on the attention weights while training.
        embedding_dropout: dropout on the embedded input while training (gpt2).
        residual_dropout: dropout on what attention and MLP add to the residual stream while training (gpt2).
        initializer_range: standard deviation of the initial weights; residual projections get it divided by
            sqrt(2 * num_hidden_layers) (GPT-2 paper, section 2.3).
        rms_norm_eps: added to the mean square before the root (RMSNorm).
        layer_norm_eps: added to the variance before the root (LayerNorm).
        tie_word_embeddings: the output head shares the input embedding's matrix.
        rope_parameters: rotary positions, {"rope_type": "default", "rope_theta": 10000.0} and the variants of
            `transformers.modeling_rope_utils`; None for learned positions.
        use_cache: return keys and values for generation.
        is_causal: a token looks at those before it only. False makes the model an encoder: a token looks at all of
            them, and there is no cache.

    Raises:
        ValueError: a shape or a combination of switches that no dialect has.
        StrictDataclassError: the same found after construction, or a value of the wrong type.
    """

    model_type = "scratch_gpt"
    keys_to_ignore_at_inference = ["past_key_values", "cache"]  # its name until, and since, transformers 5.24

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
    max_position_embeddings: int = 1024
    dialect: str | None = None
    position_embedding_type: str | None = None
    norm_type: str | None = None
    gated_mlp: bool | None = None
    use_qk_norm: bool | None = None
    hidden_act: str | None = None
    attention_bias: bool | None = None
    mlp_bias: bool | None = None
    attention_dropout: int | float = 0.0
    embedding_dropout: int | float = 0.0
    residual_dropout: int | float = 0.0
    initializer_range: float = interval(min=0.0, max=1.0)(default=0.02)
    rms_norm_eps: float = 1e-6
    layer_norm_eps: float = 1e-5
    tie_word_embeddings: bool = True
    rope_parameters: RopeParameters | dict | None = None
    use_cache: bool = True
    is_causal: bool = True
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        # transformers only warns, and then builds a model from what the two configs happen to share.
        if kwargs.get("model_type", self.model_type) != self.model_type:
            raise ValueError(f"the config is of model type {kwargs['model_type']!r}, not {self.model_type!r}")
        for name in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.head_dim is None and self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads "
                f"{self.num_attention_heads}: change one, or set head_dim"
            )
        if self.dialect is None:
            fits = (
                name
                for name, switches in DIALECTS.items()
                if all(getattr(self, switch) in (None, value) for switch, value in switches.items())
            )
            self.dialect = next(fits, "qwen3")
        if self.dialect not in DIALECTS:
            raise ValueError(f"dialect must be one of {', '.join(DIALECTS)}, got {self.dialect!r}")
        for switch, value in {"attention_bias": False, "mlp_bias": False, **DIALECTS[self.dialect]}.items():
            if getattr(self, switch) is None:
                setattr(self, switch, value)
        if self.hidden_act is None and self.gated_mlp:
            self.hidden_act = "silu"
        if self.hidden_act in (None, "gelu_new"):  # the same function, in eight operations for torch's one
            self.hidden_act = "gelu_pytorch_tanh"
        for name, value in self.derived_shape().items():
            if getattr(self, name) is None:
                setattr(self, name, value)
        absent = ["q_norm", "k_norm"] * (not self.use_qk_norm) + ["gate_proj"] * (not self.gated_mlp)
        self.base_model_tp_plan = {
            name: style
            for name, style in self.base_model_tp_plan.items()
            if name.split(".")[-1] not in absent
        }
        learned = self.position_embedding_type == "learned"
        if learned:
            rotary = self.rope_parameters or kwargs.get("rope_theta") or kwargs.get("rope_scaling")
            if rotary:
                raise ValueError(f"rotary positions {rotary!r} were given to a model with learned positions")
            # A later pipeline stage would add the positions again; the stock class has no such plan either.
            self.base_model_pp_plan = None  # type: ignore[assignment]
        super().__post_init__(**kwargs)
        if learned:
            self.rope_parameters = None  # the base class filled it in
        self.record_auto_classes()

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As in transformers, but what is changed here is derived from and checked as if the file had it.

        A width that the file's shape had derived follows the shape that is given; one that was chosen stays.
        """
        own = cls.__dataclass_fields__.keys() - PreTrainedConfig.__dataclass_fields__.keys()
        given = {name: kwargs.pop(name) for name in own & kwargs.keys()}
        if given:
            saved = cls(**config_dict)
            derived = {name for name, value in saved.derived_shape().items() if getattr(saved, name) == value}
            config_dict = {name: value for name, value in config_dict.items() if name not in derived} | given
        return super().from_dict(config_dict, **kwargs)

    def derived_shape(self) -> dict[str, int]:
        """Number of key/value heads and widths of a head and of the MLP, where none are given."""
        hidden_size, heads = self.hidden_size, self.num_attention_heads
        mlp = -(-8 * hidden_size // (3 * 64)) * 64 if self.gated_mlp else 4 * hidden_size
        return {"num_key_value_heads": heads, "head_dim": hidden_size // heads, "intermediate_size": mlp}

    def auto_classes(self) -> dict[str, str]:
        """Each Auto class that opens this model's folder, and the class behind it."""
        heads = ["SequenceClassification", "TokenClassification", "QuestionAnswering", "MultipleChoice"]
        heads.append("CausalLM" if self.is_causal else "MaskedLM")
        return {
            "AutoConfig": "configuration_scratch_gpt.ScratchGPTConfig",
            "AutoModel": "modeling_scratch_gpt.ScratchGPTModel",
            **{f"AutoModelFor{head}": f"modeling_scratch_gpt.ScratchGPTFor{head}" for head in heads},
        }

    def record_auto_classes(self) -> None:
        """Write the auto classes into `auto_map` (transformers records the saved class alone), and take out the causal head
        of the decoder that an encoder was made from."""
        auto_classes, given = self.auto_classes(), getattr(self, "auto_map", None) or {}
        language_heads = {"AutoModelForCausalLM", "AutoModelForMaskedLM"} - auto_classes.keys()
        self.auto_map = auto_classes | {
            name: path for name, path in given.items() if name not in language_heads
        }

    def validate_architecture(self) -> None:
        """Refuse what no dialect can be; called by the strict dataclass after construction."""
        for switch, value in DIALECTS[self.dialect].items():
            if getattr(self, switch) != value:
                raise ValueError(
                    f"{switch}={getattr(self, switch)!r} is not the {self.dialect} design, which has {value!r}"
                )
        heads, key_value_heads = self.num_attention_heads, self.num_key_value_heads
        if key_value_heads < 1 or heads % key_value_heads:
            raise ValueError(
                f"num_attention_heads {heads} is not a multiple of num_key_value_heads {key_value_heads}"
            )
        for name in ("intermediate_size", "max_position_embeddings", "head_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("rms_norm_eps", "layer_norm_eps"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("attention_dropout", "embedding_dropout", "residual_dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
            ids = getattr(self, name)
            for token_id in ids if isinstance(ids, list) else [ids]:
                if token_id is not None and not 0 <= token_id < self.vocab_size:
                    raise ValueError(f"{name} {token_id} is not below vocab_size {self.vocab_size}")
        if self.hidden_act not in ACT2FN:
            raise ValueError(f"hidden_act {self.hidden_act!r} is not an activation of transformers")
        if self.dialect == "gpt2":
            self._validate_gpt2()
        else:
            self._validate_rotary()

    def _validate_gpt2(self) -> None:
        if self.num_key_value_heads != self.num_attention_heads:
            raise ValueError(
                f"num_key_value_heads {self.num_key_value_heads} is not the gpt2 design, where it is "
                f"num_attention_heads {self.num_attention_heads}"
            )
        if self.head_dim * self.num_attention_heads != self.hidden_size:
            raise ValueError(
                f"head_dim {self.head_dim} is not the gpt2 design, where it is hidden_size {self.hidden_size} / "
                f"num_attention_heads {self.num_attention_heads}"
            )

    def _validate_rotary(self) -> None:
        for name in ("embedding_dropout", "residual_dropout"):
            if getattr(self, name):
                raise ValueError(
                    f"{name}={getattr(self, name)} is not the {self.dialect} design: only gpt2 has it"
                )
        if self.head_dim % 2:
            raise ValueError(f"head_dim must be even (rotary positions turn pairs), got {self.head_dim}")

    def validate_rope(self) -> None:
        """Refuse rotary settings that transformers only warns of; called by the strict dataclass after construction."""
        if not self.rope_parameters:
            return
        try:
            super().validate_rope()
        except KeyError as error:
            raise ValueError(error.args[0]) from error
        rope_type = self.rope_parameters["rope_type"]
        if rope_type != "default" and rope_type not in ROPE_INIT_FUNCTIONS:
            raise ValueError(
                f"rope_type must be default or one of {', '.join(ROPE_INIT_FUNCTIONS)}, got {rope_type!r}"
            )
        minima = {
            "rope_theta": 1.0,
            "factor": 1.0,
            "low_freq_factor": 0.0,
            "high_freq_factor": 0.0,
            "original_max_position_embeddings": 1,
        }
        for name, minimum in minima.items():
            value = self.rope_parameters.get(name, minimum)
            if isinstance(value, bool) or not isinstance(value, int | float) or value < minimum:
                raise ValueError(f"rope_parameters: {name} must be a number from {minimum}, got {value!r}")
        if self.rope_parameters.get("partial_rotary_factor", 1.0) != 1.0:
            raise ValueError(
                f"rope_parameters: partial_rotary_factor={self.rope_parameters['partial_rotary_factor']} is not the "
                f"{self.dialect} design, which turns whole heads"
            )


@strict
class ScratchGPTEncoderDecoderConfig(ScratchGPTConfig):
    """Shape and switches of an encoder that reads a source and a decoder that writes a target.

    Both halves have the switches and widths of `ScratchGPTConfig` and share one matrix of word embeddings
    (Vaswani et al. 2017, section 3.4). `get_text_config` gives the config of one half.

    Args:
        num_hidden_layers: number of encoder layers.
        num_decoder_layers: number of decoder layers; default as many.
        max_position_embeddings: longest source, and longest target, in tokens.
        tie_word_embeddings: the output head shares the matrix of word embeddings too.
        decoder_start_token_id: what the decoder's input begins with; training and generation need it. T5 takes the
            padding.

    Raises:
        ValueError: as `ScratchGPTConfig`, and what the two halves together cannot be.
    """

    model_type = "scratch_gpt_encoder_decoder"

    is_encoder_decoder: bool = True
    num_decoder_layers: int | None = None
    decoder_start_token_id: int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        # the plans are those of the halves
        self.base_model_tp_plan = self.base_model_pp_plan = self.base_model_fsdp_plan = None  # type: ignore[assignment]

    def derived_shape(self) -> dict[str, int]:
        """As in `ScratchGPTConfig`, and as many decoder layers as the encoder has."""
        return {**super().derived_shape(), "num_decoder_layers": self.num_hidden_layers}

    def auto_classes(self) -> dict[str, str]:
        """Each Auto class that opens this model's folder, and the class behind it."""
        file = "modeling_scratch_gpt_encoder_decoder"
        return {
            "AutoConfig": "configuration_scratch_gpt.ScratchGPTEncoderDecoderConfig",
            "AutoModel": f"{file}.ScratchGPTEncoderDecoderModel",
            "AutoModelForSeq2SeqLM": f"{file}.ScratchGPTForConditionalGeneration",
            "AutoModelForSequenceClassification": f"{file}.ScratchGPTEncoderDecoderForSequenceClassification",
        }

    def validate_architecture(self) -> None:
        """Refuse what the two halves together cannot be; called by the strict dataclass after construction."""
        super().validate_architecture()
        if self.num_decoder_layers < 1:
            raise ValueError(f"num_decoder_layers must be at least 1, got {self.num_decoder_layers}")
        for name in ("is_causal", "is_encoder_decoder"):
            if not getattr(self, name):
                raise ValueError(f"{name}=False is not the encoder-decoder design")
        start = self.decoder_start_token_id
        if start is not None and not 0 <= start < self.vocab_size:
            raise ValueError(f"decoder_start_token_id {start} is not below vocab_size {self.vocab_size}")

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> ScratchGPTConfig:
        """The config of the decoder or of the encoder; transformers makes its caches from the former."""
        if bool(decoder) == bool(encoder):
            return self
        half: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(ScratchGPTConfig)}
        half |= {"is_encoder_decoder": False, "architectures": None, "is_causal": not encoder}
        half["output_attentions"] = self.output_attentions
        if decoder:
            half["num_hidden_layers"] = self.num_decoder_layers
        config = ScratchGPTConfig(**copy.deepcopy(half))
        config._attn_implementation = self._attn_implementation
        config.base_model_pp_plan = None  # type: ignore[assignment]
        if decoder:
            config.base_model_tp_plan |= {
                name.replace("self_attn", "cross_attn"): style
                for name, style in config.base_model_tp_plan.items()
            }
        return config


__all__ = ["ScratchGPTConfig", "ScratchGPTEncoderDecoderConfig"]
