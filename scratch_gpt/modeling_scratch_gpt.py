# SPDX-License-Identifier: Apache-2.0
"""The ScratchGPT decoder, written from scratch: norm, positions, attention, MLP, layer, model, heads.

Read it top to bottom. Shapes at the ends of lines use these letters:
    B batch, T tokens of this call, S tokens seen so far (cache included), D hidden size, H query heads,
    K key/value heads, E width of one head, V vocabulary.
With `is_causal=False` in the config the same model is an encoder: a token looks at the later ones too.

One of the files that travel with every checkpoint as remote code: it imports nothing but torch, transformers and
the two files beside it.
"""

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.cache_utils import Cache, DynamicCache
from transformers.generation import GenerationMixin
from transformers.modeling_layers import (
    GenericForQuestionAnswering,
    GenericForSequenceClassification,
    GenericForTokenClassification,
    GradientCheckpointingLayer,
)
from transformers.modeling_outputs import (
    BaseModelOutputWithPast,
    CausalLMOutputWithPast,
    MaskedLMOutput,
    MultipleChoiceModelOutput,
)
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS, dynamic_rope_update
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, PreTrainedModel, slice_logits_to_keep
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .configuration_scratch_gpt import ScratchGPTConfig
from .modeling_scratch_gpt_inputs import (
    CACHE_NAME,
    checked_embedding,
    create_mask,
    merge_caches,
    only_one,
    refuse_unknown_keywords,
)


class ScratchGPTRMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension (Zhang and Sennrich 2019, hf.co/papers/1910.07467).

    Computed in float32: in bfloat16 the mean of squares loses too many digits. The result has the dtype that came in,
    also under autocast, where the weight is float32.
    """

    def __init__(self, hidden_size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size))
        self.eps = eps

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        dtype = hidden_states.dtype
        hidden_states = hidden_states.to(torch.float32)
        mean_square = hidden_states.pow(2).mean(-1, keepdim=True)
        hidden_states = hidden_states * torch.rsqrt(mean_square + self.eps)
        return self.weight.to(dtype) * hidden_states.to(dtype)


class ScratchGPTLayerNorm(nn.Module):
    """(x - mean(x)) / sqrt(var(x) + eps) * weight + bias over the last dimension (Ba et al. 2016, hf.co/papers/1607.06450).

    Computed in float32, as RMSNorm is.
    """

    def __init__(self, hidden_size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size))
        self.bias = nn.Parameter(torch.zeros(hidden_size))
        self.eps = eps

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        dtype = hidden_states.dtype
        hidden_states = hidden_states.to(torch.float32)
        variance, mean = torch.var_mean(hidden_states, dim=-1, correction=0, keepdim=True)
        hidden_states = (hidden_states - mean) * torch.rsqrt(variance + self.eps)
        bias, weight = self.bias.to(dtype), self.weight.to(dtype)
        return torch.addcmul(bias, weight, hidden_states.to(dtype))  # bias + weight * x, in one pass


def build_norm(config: ScratchGPTConfig) -> nn.Module:
    """A norm of the residual stream, of the config's type."""
    if config.norm_type == "layer_norm":
        return ScratchGPTLayerNorm(config.hidden_size, eps=config.layer_norm_eps)
    return ScratchGPTRMSNorm(config.hidden_size, eps=config.rms_norm_eps)


class ScratchGPTRotaryEmbedding(nn.Module):
    """Rotary positions (Su et al. 2021, hf.co/papers/2104.09864): cos and sin of position * theta^(-2i/E).

    The variants (linear, dynamic, yarn, llama3) come from transformers' own table. transformers knows this class by
    its name and by the two buffers, and refills them after a load from the meta device.
    """

    def __init__(self, config: ScratchGPTConfig) -> None:
        super().__init__()
        self.config = config
        self.max_seq_len_cached = config.max_position_embeddings
        self.original_max_seq_len = config.max_position_embeddings
        self.rope_type = config.rope_parameters["rope_type"]
        variants = {"default": self.compute_default_rope_parameters, **ROPE_INIT_FUNCTIONS}
        inv_freq, self.attention_scaling = variants[self.rope_type](config)
        self.inv_freq = nn.Buffer(inv_freq, persistent=False)
        self.original_inv_freq = nn.Buffer(inv_freq.clone(), persistent=False)

    @staticmethod
    def compute_default_rope_parameters(
        config: ScratchGPTConfig, **kwargs: Any
    ) -> tuple[torch.Tensor, float]:
        """The E/2 inverse frequencies, and the factor on cos and sin (1: used by some variants only)."""
        exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float) / config.head_dim
        return 1.0 / (config.rope_parameters["rope_theta"] ** exponents), 1.0

    @torch.no_grad()
    @dynamic_rope_update
    def forward(self, x: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        # float32 whatever the model's dtype: bfloat16 cannot distinguish position 1024 from 1025
        angles = position_ids[..., None].float() * self.inv_freq.to(device=x.device, dtype=torch.float)
        angles = torch.cat((angles, angles), dim=-1)  # (B, T, E)
        cos, sin = angles.cos() * self.attention_scaling, angles.sin() * self.attention_scaling
        return cos.to(dtype=x.dtype), sin.to(dtype=x.dtype)


def rotate_half(x: torch.Tensor) -> torch.Tensor:
    """(first half, second half) -> (-second half, first half): a quarter turn of each pair (i, i + E/2)."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((-second, first), dim=-1)


def apply_rotary_pos_emb(
    query: torch.Tensor, key: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Turn each pair of query (B, H, T, E) and key (B, K, T, E) by its position's angle; cos, sin are (B, T, E)."""
    # the query's dtype: under autocast it is bfloat16, and the angles come in float32
    cos, sin = cos.unsqueeze(1).to(query.dtype), sin.unsqueeze(1).to(query.dtype)
    return query * cos + rotate_half(query) * sin, key * cos + rotate_half(key) * sin


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Unpack[TransformersKwargs],
) -> tuple[torch.Tensor, torch.Tensor]:
    """softmax(Q K^T / sqrt(E) + mask) V, written out (Vaswani et al. 2017, hf.co/papers/1706.03762, equation 1).

    `attention_mask` (B, 1, T, S) is 0 where a token may look and -inf where it may not: above the diagonal (the
    future; not in an encoder), on padding, in another document. sdpa, flex and flash attention compute the same
    without the (T, S) matrix in memory.

    Returns:
        output (B, T, H, E) and attention weights (B, H, T, S).
    """
    # one key head serves a group of query heads
    key = key.repeat_interleave(module.num_key_value_groups, dim=1)  # (B, H, S, E)
    value = value.repeat_interleave(module.num_key_value_groups, dim=1)  # (B, H, S, E)
    scores = query @ key.transpose(2, 3) * scaling  # (B, H, T, S)
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = nn.functional.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = nn.functional.dropout(weights, p=dropout, training=module.training)
    output = weights @ value  # (B, H, T, E)
    return output.transpose(1, 2).contiguous(), weights


class ScratchGPTAttention(nn.Module):
    """Multi-head attention with grouped keys and values (Ainslie et al. 2023, hf.co/papers/2305.13245)."""

    def __init__(self, config: ScratchGPTConfig, layer_idx: int) -> None:
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        self.head_dim = config.head_dim
        self.num_key_value_groups = config.num_attention_heads // config.num_key_value_heads
        self.scaling = self.head_dim**-0.5
        self.attention_dropout = config.attention_dropout
        self.is_causal = config.is_causal

        query_size = config.num_attention_heads * self.head_dim
        key_value_size = config.num_key_value_heads * self.head_dim
        self.q_proj = nn.Linear(config.hidden_size, query_size, bias=config.attention_bias)
        self.k_proj = nn.Linear(config.hidden_size, key_value_size, bias=config.attention_bias)
        self.v_proj = nn.Linear(config.hidden_size, key_value_size, bias=config.attention_bias)
        self.o_proj = nn.Linear(query_size, config.hidden_size, bias=config.attention_bias)
        self.o_proj.is_residual_projection = True
        self.use_qk_norm = config.use_qk_norm
        if self.use_qk_norm:  # Qwen3: keeps the scores bounded, so that larger learning rates stay stable
            self.q_norm = ScratchGPTRMSNorm(self.head_dim, eps=config.rms_norm_eps)
            self.k_norm = ScratchGPTRMSNorm(self.head_dim, eps=config.rms_norm_eps)

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor] | None,
        attention_mask: torch.Tensor | None,
        past_key_values: Cache | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        input_shape = hidden_states.shape[:-1]  # (B, T)
        head_shape = (*input_shape, -1, self.head_dim)

        query = self.q_proj(hidden_states).view(head_shape)  # (B, T, H, E)
        key = self.k_proj(hidden_states).view(head_shape)  # (B, T, K, E)
        value = self.v_proj(hidden_states).view(head_shape).transpose(1, 2)  # (B, K, T, E)
        if self.use_qk_norm:
            query, key = self.q_norm(query), self.k_norm(key)
        query, key = query.transpose(1, 2), key.transpose(1, 2)  # (B, H, T, E), (B, K, T, E)

        if position_embeddings is not None:  # learned positions are in the hidden states already
            query, key = apply_rotary_pos_emb(query, key, *position_embeddings)
        if past_key_values is not None:
            # the paged cache of continuous batching replaces some of the kwargs
            key, value = past_key_values.update(key, value, self.layer_idx, kwargs=kwargs)  # (B, K, S, E)

        attention_interface: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        dropout = self.attention_dropout if self.training else 0.0
        attn_output, attn_weights = attention_interface(
            self, query, key, value, attention_mask, dropout=dropout, scaling=self.scaling, **kwargs
        )
        attn_output = attn_output.reshape(*input_shape, -1).contiguous()  # (B, T, H * E)
        return self.o_proj(attn_output), attn_weights


class ScratchGPTMLP(nn.Module):
    """SwiGLU: down(act(gate(x)) * up(x)) (Shazeer 2020, hf.co/papers/2002.05202); without the gate down(act(up(x)))."""

    def __init__(self, config: ScratchGPTConfig) -> None:
        super().__init__()
        self.gated = config.gated_mlp
        if self.gated:
            self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=config.mlp_bias)
        self.down_proj.is_residual_projection = True
        self.act_fn = ACT2FN[config.hidden_act]

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        if self.gated:
            return self.down_proj(self.act_fn(self.gate_proj(hidden_states)) * self.up_proj(hidden_states))
        return self.down_proj(self.act_fn(self.up_proj(hidden_states)))


class ScratchGPTDecoderLayer(GradientCheckpointingLayer):
    """x + attention(norm(x)), then x + mlp(norm(x)): pre-norm, so the residual stream is never rescaled."""

    def __init__(self, config: ScratchGPTConfig, layer_idx: int) -> None:
        super().__init__()
        self.self_attn = ScratchGPTAttention(config, layer_idx)
        self.mlp = ScratchGPTMLP(config)
        self.input_layernorm = build_norm(config)
        self.post_attention_layernorm = build_norm(config)
        # without dropout not even its calls: two in each layer for each generated token
        self.dropout = nn.Dropout(config.residual_dropout) if config.residual_dropout else nn.Identity()

    def forward(self, hidden_states: torch.Tensor, **kwargs: Unpack[TransformersKwargs]) -> torch.Tensor:
        cache = kwargs.pop(CACHE_NAME, None)
        attn_output, _ = self.self_attn(self.input_layernorm(hidden_states), past_key_values=cache, **kwargs)
        hidden_states = hidden_states + self.dropout(attn_output)
        return hidden_states + self.dropout(self.mlp(self.post_attention_layernorm(hidden_states)))


def register_peft_targets(model_type: str) -> None:
    """Tell PEFT, if it is imported, which modules an adapter changes by default: those of Llama, whose names are ours."""
    constants = sys.modules.get("peft.utils.constants")
    for name, targets in vars(constants).items() if constants else ():
        if name.endswith("_MODULES_MAPPING") and "llama" in targets:
            targets.setdefault(model_type, targets["llama"])


class ScratchGPTPreTrainedModel(PreTrainedModel):
    """What every ScratchGPT model shares: what it supports, and how its weights begin."""

    # transformers reads the config class from this annotation, unevaluated: keep annotations real in this file
    config: ScratchGPTConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["ScratchGPTDecoderLayer"]
    _skip_keys_device_placement = ["past_key_values", "cache"]
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _can_record_outputs = {"hidden_states": ScratchGPTDecoderLayer, "attentions": ScratchGPTAttention}

    def __init__(self, config: ScratchGPTConfig) -> None:
        config.validate_architecture()  # it may have been changed since its own construction
        config.record_auto_classes()
        register_peft_targets(config.model_type)
        super().__init__(config)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        # Marked on the leaf: outside transformers, modules without parameters of their own are skipped here.
        if getattr(module, "is_residual_projection", False):
            std = self.config.initializer_range / (2 * self.config.num_hidden_layers) ** 0.5
            init.normal_(module.weight, mean=0.0, std=std)


class ScratchGPTModel(ScratchGPTPreTrainedModel):
    """The decoder (or the encoder) without a head: token ids to hidden states."""

    layer_class: type[nn.Module] = ScratchGPTDecoderLayer
    more_keywords: frozenset[str] = frozenset()  # that its layers read

    def __init__(self, config: ScratchGPTConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        self.layers = nn.ModuleList(self.layer_class(config, i) for i in range(config.num_hidden_layers))
        self.norm = build_norm(config)
        if config.position_embedding_type == "learned":
            self.embed_positions = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        else:
            self.rotary_emb = ScratchGPTRotaryEmbedding(config)
        self.gradient_checkpointing = False
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        use_cache: bool | None = None,
        cache: Cache | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPast:
        """Hidden states (B, T, D) of `input_ids` (B, T) or `inputs_embeds` (B, T, D).

        Packed documents are kept apart by `position_ids` that restart at 0, on condition that there is neither an
        `attention_mask` nor a cache (`use_cache=False`).

        Learned positions count the padding too, as those of the stock class do: with left padding pass
        `position_ids` (`generate` does). Rotary positions are relative, so padding does not matter to them.

        Raises:
            ValueError: both or none of `input_ids` and `inputs_embeds` are given, a shape is wrong, or an encoder was
                given a cache (it has none, whatever `use_cache` says).
            IndexError: on a CPU, an id or a learned position that is not in its table.
            TypeError: a keyword that nothing here reads.
        """
        refuse_unknown_keywords(self, kwargs, self.more_keywords)
        only_one(input_ids, inputs_embeds)
        if inputs_embeds is None:
            inputs_embeds = checked_embedding(self.embed_tokens, input_ids, "input_ids")
        past_key_values = merge_caches(past_key_values, cache, kwargs)
        # the paged cache of continuous batching is no Cache, and comes with is_causal=False and a mask of its own
        if isinstance(past_key_values, Cache) and not self.config.is_causal:
            raise ValueError("an encoder (is_causal=False) has no cache: past_key_values must be None")
        if use_cache and past_key_values is None and self.config.is_causal:
            past_key_values = DynamicCache(config=self.config)
        if position_ids is None:
            seen = past_key_values.get_seq_length() if past_key_values is not None else 0
            position_ids = torch.arange(inputs_embeds.shape[1], device=inputs_embeds.device)[None] + seen

        mask = create_mask(self.config, inputs_embeds, attention_mask, past_key_values, position_ids)
        hidden_states, position_embeddings = inputs_embeds, None
        if self.config.position_embedding_type == "learned":
            positions = checked_embedding(self.embed_positions, position_ids, "position_ids")
            hidden_states = inputs_embeds + positions
            hidden_states = nn.functional.dropout(hidden_states, self.config.embedding_dropout, self.training)
        else:
            position_embeddings = self.rotary_emb(inputs_embeds, position_ids)

        for decoder_layer in self.layers[: self.config.num_hidden_layers]:  # early exit lowers it for a draft
            hidden_states = decoder_layer(
                hidden_states,
                attention_mask=mask,
                position_embeddings=position_embeddings,
                position_ids=position_ids,
                use_cache=use_cache,
                # by this name gradient checkpointing takes it out
                **{CACHE_NAME: past_key_values},
                **kwargs,
            )
        return BaseModelOutputWithPast(self.norm(hidden_states), past_key_values if use_cache else None)


class ScratchGPTPreTrainedLM(ScratchGPTPreTrainedModel):
    """A model with a language-modelling head: what the causal and the masked one have in common."""

    is_causal: bool
    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}
    _tp_plan = {"lm_head": "colwise_gather_output"}
    _pp_plan = {"lm_head": (["hidden_states"], ["logits"])}
    _fsdp_plan = {"lm_head": "keep_full_weight"}

    def __init__(self, config: ScratchGPTConfig) -> None:
        super().__init__(config)
        if config.is_causal != self.is_causal:
            raise ValueError(f"{type(self).__name__} needs is_causal={self.is_causal} in its config")
        self.model = ScratchGPTModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()


class ScratchGPTForCausalLM(ScratchGPTPreTrainedLM, GenerationMixin):
    """The decoder with a language-modelling head: token ids to next-token logits."""

    is_causal = True

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        cache: Cache | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> CausalLMOutputWithPast:
        """Logits (B, T, V), and the mean cross-entropy in nats if `labels` (B, T) are given.

        Labels are token ids at their own positions (the shift is inside); -100 is left out. `logits_to_keep` keeps
        this many last positions, or the given ones; 0 keeps all.
        """
        outputs: BaseModelOutputWithPast = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            cache=cache,
            **kwargs,
        )
        logits = self.lm_head(slice_logits_to_keep(outputs.last_hidden_state, logits_to_keep))
        loss = None if labels is None else self.loss_function(logits, labels, self.vocab_size, **kwargs)
        return CausalLMOutputWithPast(
            loss, logits, getattr(outputs, CACHE_NAME), outputs.hidden_states, outputs.attentions
        )


class ScratchGPTForMaskedLM(ScratchGPTPreTrainedLM):
    """The encoder with a language-modelling head: token ids to logits of the token at each position."""

    is_causal = False

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> MaskedLMOutput:
        """Logits (B, T, V), and the mean cross-entropy in nats if `labels` (B, T) are given; -100 is left out."""
        outputs: BaseModelOutputWithPast = self.model(
            input_ids, attention_mask, position_ids, inputs_embeds=inputs_embeds, **kwargs
        )
        logits = self.lm_head(outputs.last_hidden_state)
        loss = None if labels is None else self.loss_function(logits, labels, self.vocab_size, **kwargs)
        return MaskedLMOutput(loss, logits, outputs.hidden_states, outputs.attentions)


class ScratchGPTForSequenceClassification(GenericForSequenceClassification, ScratchGPTPreTrainedModel):
    """A linear score of the last token that is not padding (it has seen the whole text, in a decoder as in an encoder);
    with one label, a reward model."""

    def __init__(self, config: ScratchGPTConfig) -> None:
        # Not the generic constructor: it asks AutoModel for the decoder, which as remote code asks for trust again.
        ScratchGPTPreTrainedModel.__init__(self, config)
        self.num_labels = config.num_labels
        self.model = ScratchGPTModel(config)
        self.score = nn.Linear(config.hidden_size, config.num_labels, bias=False)
        self.post_init()


class ScratchGPTForMultipleChoice(GenericForSequenceClassification, ScratchGPTPreTrainedModel):
    """A linear score of each choice, at its last token that is not padding."""

    def __init__(self, config: ScratchGPTConfig) -> None:
        ScratchGPTPreTrainedModel.__init__(self, config)
        self.model = ScratchGPTModel(config)
        self.classifier = nn.Linear(config.hidden_size, 1)
        self.post_init()

    def score(self, hidden_states: torch.Tensor) -> torch.Tensor:  # the generic head's name for it
        return self.classifier(hidden_states)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> MultipleChoiceModelOutput:
        """Scores (B, C) of the C choices in `input_ids` (B, C, T); their cross-entropy if `labels` (B,) name the right ones."""
        inputs = (input_ids, attention_mask, position_ids, None, inputs_embeds)
        rows = (each if each is None else each.flatten(0, 1) for each in inputs)  # (B * C, T)
        outputs = super().forward(*rows, return_dict=True, **kwargs)
        logits = outputs.logits.view(only_one(input_ids, inputs_embeds).shape[:2])
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return MultipleChoiceModelOutput(loss, logits, outputs.hidden_states, outputs.attentions)


class ScratchGPTForTokenClassification(GenericForTokenClassification, ScratchGPTPreTrainedModel):
    """A linear score of every token."""

    def __init__(self, config: ScratchGPTConfig) -> None:
        ScratchGPTPreTrainedModel.__init__(self, config)
        self.num_labels = config.num_labels
        self.model = ScratchGPTModel(config)
        self.dropout = nn.Dropout(0.1)  # the generic head's default
        self.score = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()


class ScratchGPTForQuestionAnswering(GenericForQuestionAnswering, ScratchGPTPreTrainedModel):
    """Two scores of every token: that the answer starts there, and that it ends there."""

    def __init__(self, config: ScratchGPTConfig) -> None:
        ScratchGPTPreTrainedModel.__init__(self, config)
        self.model = ScratchGPTModel(config)
        self.qa_outputs = nn.Linear(config.hidden_size, 2)
        self.post_init()


__all__ = [
    "ScratchGPTForCausalLM",
    "ScratchGPTForMaskedLM",
    "ScratchGPTForMultipleChoice",
    "ScratchGPTForQuestionAnswering",
    "ScratchGPTForSequenceClassification",
    "ScratchGPTForTokenClassification",
    "ScratchGPTModel",
    "ScratchGPTPreTrainedModel",
]
