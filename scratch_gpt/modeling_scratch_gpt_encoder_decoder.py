# SPDX-License-Identifier: Apache-2.0
"""The ScratchGPT encoder-decoder (Vaswani et al. 2017, hf.co/papers/1706.03762), from the decoder's own parts.

The encoder is a `ScratchGPTModel` with `is_causal=False`. The decoder is a `ScratchGPTModel` whose layers have one
part more: between self-attention and MLP they look at what the encoder made of the source. What is new is here:
cross-attention, that layer, the two together, the head.

Shapes as in the file beside it; S is the number of source tokens where the encoder's states are meant.
It travels with its checkpoints as remote code, and the three files that it needs with it.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers.cache_utils import Cache, DynamicCache, EncoderDecoderCache
from transformers.generation import GenerationMixin
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import (
    BaseModelOutput,
    BaseModelOutputWithPastAndCrossAttentions,
    Seq2SeqLMOutput,
    Seq2SeqModelOutput,
    Seq2SeqSequenceClassifierOutput,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, slice_logits_to_keep
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder

from .configuration_scratch_gpt import ScratchGPTConfig, ScratchGPTEncoderDecoderConfig
from .modeling_scratch_gpt import (
    ScratchGPTAttention,
    ScratchGPTDecoderLayer,
    ScratchGPTModel,
    ScratchGPTPreTrainedModel,
    build_norm,
    eager_attention_forward,
)
from .modeling_scratch_gpt_inputs import CACHE_NAME, check_source, checked_embedding, merge_caches, only_one


class ScratchGPTCrossAttention(ScratchGPTAttention):
    """Attention whose keys and values are the encoder's: made once, then kept in the cache. No positions turn them:
    source and target count their own."""

    def __init__(self, config: ScratchGPTConfig, layer_idx: int) -> None:
        super().__init__(config, layer_idx)
        self.is_causal = False

    def forward(  # type: ignore[override]
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None,
        past_key_values: EncoderDecoderCache | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        input_shape = hidden_states.shape[:-1]  # (B, T)
        query = self.q_proj(hidden_states).view(*input_shape, -1, self.head_dim)
        if self.config.use_qk_norm:
            query = self.q_norm(query)
        query = query.transpose(1, 2)  # (B, H, T, E)

        if past_key_values is not None and past_key_values.is_updated.get(self.layer_idx):
            cached = past_key_values.cross_attention_cache.layers[self.layer_idx]
            key, value = cached.keys, cached.values
        else:
            source_shape = (*encoder_hidden_states.shape[:-1], -1, self.head_dim)
            key = self.k_proj(encoder_hidden_states).view(source_shape)
            value = self.v_proj(encoder_hidden_states).view(source_shape).transpose(1, 2)  # (B, K, S, E)
            if self.config.use_qk_norm:
                key = self.k_norm(key)
            key = key.transpose(1, 2)  # (B, K, S, E)
            if past_key_values is not None:
                key, value = past_key_values.cross_attention_cache.update(key, value, self.layer_idx)
                past_key_values.is_updated[self.layer_idx] = True

        attention_interface: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        dropout = self.attention_dropout if self.training else 0.0
        attn_output, attn_weights = attention_interface(
            self, query, key, value, attention_mask, dropout=dropout, scaling=self.scaling
        )
        attn_output = attn_output.reshape(*input_shape, -1).contiguous()  # (B, T, H * E)
        return self.o_proj(attn_output), attn_weights


class ScratchGPTCrossAttentionLayer(ScratchGPTDecoderLayer):
    """x + attention(norm(x)), x + cross_attention(norm(x), encoder), then x + mlp(norm(x))."""

    def __init__(self, config: ScratchGPTConfig, layer_idx: int) -> None:
        super().__init__(config, layer_idx)
        self.cross_attn = ScratchGPTCrossAttention(config, layer_idx)
        self.cross_attention_layernorm = build_norm(config)

    def __call__(
        self, hidden_states: torch.Tensor, *, encoder_hidden_states: torch.Tensor, **kwargs: Any
    ) -> Any:
        # Positional: checkpointing with use_reentrant=True gives gradients to nothing else.
        return super().__call__(hidden_states, encoder_hidden_states, **kwargs)

    def forward(  # type: ignore[override]
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        encoder_attention_mask: torch.Tensor | None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        past_key_values: EncoderDecoderCache | None = kwargs.pop(CACHE_NAME, None)
        own = past_key_values.self_attention_cache if past_key_values is not None else None
        attn_output, _ = self.self_attn(self.input_layernorm(hidden_states), past_key_values=own, **kwargs)
        hidden_states = hidden_states + self.dropout(attn_output)
        # without kwargs: they are about the target (its positions, that it is causal)
        attn_output, _ = self.cross_attn(
            self.cross_attention_layernorm(hidden_states),
            encoder_hidden_states,
            encoder_attention_mask,
            past_key_values,
        )
        hidden_states = hidden_states + self.dropout(attn_output)
        return hidden_states + self.dropout(self.mlp(self.post_attention_layernorm(hidden_states)))


class ScratchGPTDecoder(ScratchGPTModel):
    """`ScratchGPTModel` whose layers look at the encoder's hidden states too."""

    layer_class = ScratchGPTCrossAttentionLayer
    more_keywords = frozenset({"encoder_hidden_states", "encoder_attention_mask"})
    _can_record_outputs = {
        "hidden_states": ScratchGPTCrossAttentionLayer,
        "attentions": OutputRecorder(ScratchGPTAttention, index=1, layer_name="self_attn"),
        "cross_attentions": ScratchGPTCrossAttention,
    }

    @merge_with_config_defaults
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: EncoderDecoderCache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        use_cache: bool | None = None,
        *,
        encoder_hidden_states: torch.FloatTensor,
        encoder_attention_mask: torch.Tensor | None = None,
        cache: EncoderDecoderCache | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPastAndCrossAttentions:
        """Hidden states (B, T, D), made as in `ScratchGPTModel` in view of `encoder_hidden_states` (B, S, D).

        Raises:
            ValueError: both or none of `input_ids` and `inputs_embeds` are given, or a shape is wrong.
            IndexError: on a CPU, an id or a learned position that is not in its table.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("the decoder needs one of decoder_input_ids, decoder_inputs_embeds and labels")
        if inputs_embeds is None:
            inputs_embeds = checked_embedding(self.embed_tokens, input_ids, "decoder_input_ids (or labels)")
        check_source(inputs_embeds, encoder_hidden_states, encoder_attention_mask)
        past_key_values = merge_caches(past_key_values, cache, kwargs)
        if use_cache and past_key_values is None:
            past_key_values = EncoderDecoderCache(
                DynamicCache(config=self.config), DynamicCache(config=self.config)
            )
        source_mask = create_bidirectional_mask(
            self.config, inputs_embeds, encoder_attention_mask, encoder_hidden_states=encoder_hidden_states
        )
        return super().forward(
            attention_mask=attention_mask,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            encoder_hidden_states=encoder_hidden_states,
            encoder_attention_mask=source_mask,
            **{CACHE_NAME: past_key_values},
            **kwargs,
        )


class ScratchGPTEncoderDecoderPreTrainedModel(ScratchGPTPreTrainedModel):
    """What both encoder-decoder models share."""

    config: ScratchGPTEncoderDecoderConfig
    _no_split_modules = ["ScratchGPTDecoderLayer", "ScratchGPTCrossAttentionLayer"]
    _can_record_outputs = {}  # the halves record theirs


class ScratchGPTEncoderDecoderModel(ScratchGPTEncoderDecoderPreTrainedModel):
    """Encoder and decoder without a head: source and target ids to the decoder's hidden states."""

    _tied_weights_keys = {"decoder.embed_tokens.weight": "encoder.embed_tokens.weight"}

    def __init__(self, config: ScratchGPTEncoderDecoderConfig) -> None:
        super().__init__(config)
        self.encoder = ScratchGPTModel(config.get_text_config(encoder=True))
        self.encoder.more_keywords = frozenset({"logits_to_keep"})  # assisted decoding passes it here too
        self.decoder = ScratchGPTDecoder(config.get_text_config(decoder=True))
        self.post_init()

    def get_expanded_tied_weights_keys(self, all_submodels: bool = False) -> dict[str, str]:
        return dict(self._tied_weights_keys)  # tie_word_embeddings or not: that is about the head

    def get_input_embeddings(self) -> nn.Module:
        return self.encoder.embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.encoder.embed_tokens = self.decoder.embed_tokens = value

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        decoder_input_ids: torch.LongTensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        decoder_position_ids: torch.LongTensor | None = None,
        encoder_outputs: BaseModelOutput | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        decoder_inputs_embeds: torch.FloatTensor | None = None,
        use_cache: bool | None = None,
        cache: Cache | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> Seq2SeqModelOutput:
        """The decoder's hidden states (B, T, D) for a source (B, S) and the target before each position (B, T).

        The source is `input_ids` or `inputs_embeds`, or `encoder_outputs` where it was encoded before. As everywhere,
        learned positions count the padding: with left padding pass `position_ids` (source) and `decoder_position_ids`.
        """
        if encoder_outputs is None:
            encoder_outputs = self.encoder(
                input_ids=input_ids,
                attention_mask=attention_mask,
                position_ids=position_ids,
                inputs_embeds=inputs_embeds,
                **kwargs,
            )
        elif isinstance(encoder_outputs, tuple):  # of return_dict=False
            encoder_outputs = BaseModelOutput(*encoder_outputs)
        outputs = self.decoder(
            input_ids=decoder_input_ids,
            attention_mask=decoder_attention_mask,
            position_ids=decoder_position_ids,
            past_key_values=past_key_values,
            inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            cache=cache,
            encoder_hidden_states=encoder_outputs.last_hidden_state,
            encoder_attention_mask=attention_mask,
            **kwargs,
        )
        return Seq2SeqModelOutput(
            outputs.last_hidden_state,
            getattr(outputs, CACHE_NAME),
            decoder_hidden_states=outputs.hidden_states,
            decoder_attentions=outputs.attentions,
            cross_attentions=outputs.get("cross_attentions"),
            encoder_last_hidden_state=encoder_outputs.last_hidden_state,
            encoder_hidden_states=encoder_outputs.hidden_states,
            encoder_attentions=encoder_outputs.attentions,
        )


def without_last_hidden_state(outputs: Seq2SeqModelOutput) -> dict[str, Any]:
    """What a head hands on of its model's outputs."""
    return {name: value for name, value in outputs.items() if name != "last_hidden_state"}


class ScratchGPTForConditionalGeneration(ScratchGPTEncoderDecoderPreTrainedModel, GenerationMixin):
    """Encoder and decoder with a language-modelling head: logits of the target's tokens in view of the source."""

    _tied_weights_keys = {"lm_head.weight": "model.encoder.embed_tokens.weight"}
    _tp_plan = {"lm_head": "colwise_gather_output"}
    _fsdp_plan = {"lm_head": "keep_full_weight"}

    def __init__(self, config: ScratchGPTEncoderDecoderConfig) -> None:
        super().__init__(config)
        self.model = ScratchGPTEncoderDecoderModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.loss_type = "ForMaskedLM"  # no shift in the loss: it is in the decoder's input
        self.post_init()

    def prepare_decoder_input_ids_from_labels(self, labels: torch.LongTensor) -> torch.LongTensor:
        """The labels (B, T) one place to the right, behind `decoder_start_token_id`; -100 becomes padding.

        `DataCollatorForSeq2Seq` calls it too.

        Raises:
            ValueError: the config lacks `decoder_start_token_id` or `pad_token_id`.
        """
        for name in ("decoder_start_token_id", "pad_token_id"):
            if getattr(self.config, name) is None:
                raise ValueError(f"the config has no {name}: labels cannot be made the decoder's input")
        start = labels.new_full((labels.shape[0], 1), self.config.decoder_start_token_id)
        shifted = torch.cat([start, labels[:, :-1]], dim=1)
        return shifted.masked_fill(shifted == -100, self.config.pad_token_id)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        decoder_input_ids: torch.LongTensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        decoder_position_ids: torch.LongTensor | None = None,
        encoder_outputs: BaseModelOutput | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        decoder_inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        cache: Cache | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> Seq2SeqLMOutput:
        """Logits (B, T, V), and the mean cross-entropy in nats if `labels` (B, T) are given; -100 is left out.

        Labels are the target's ids at their own positions; without decoder inputs these are made from them.
        """
        if labels is not None and decoder_input_ids is None and decoder_inputs_embeds is None:
            decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        outputs: Seq2SeqModelOutput = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask,
            decoder_position_ids=decoder_position_ids,
            encoder_outputs=encoder_outputs,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            decoder_inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            cache=cache,
            **kwargs,
        )
        logits = self.lm_head(slice_logits_to_keep(outputs.last_hidden_state, logits_to_keep))
        loss = None if labels is None else self.loss_function(logits, labels, self.vocab_size, **kwargs)
        return Seq2SeqLMOutput(loss, logits, **without_last_hidden_state(outputs))


class ScratchGPTEncoderDecoderForSequenceClassification(ScratchGPTEncoderDecoderPreTrainedModel):
    """A linear score of the decoder's state at `decoder_start_token_id`, which has looked at the whole source."""

    def __init__(self, config: ScratchGPTEncoderDecoderConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.model = ScratchGPTEncoderDecoderModel(config)
        self.score = nn.Linear(config.hidden_size, config.num_labels, bias=False)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> Seq2SeqSequenceClassifierOutput:
        """Scores (B, labels) of each source (B, S), and the loss of the config's `problem_type` if `labels` are given.

        Raises:
            ValueError: the config lacks `decoder_start_token_id`.
        """
        if self.config.decoder_start_token_id is None:
            raise ValueError("the config has no decoder_start_token_id: there is no state to score")
        source = only_one(input_ids, inputs_embeds)
        start = torch.full((source.shape[0], 1), self.config.decoder_start_token_id, device=source.device)
        outputs: Seq2SeqModelOutput = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            decoder_input_ids=start,
            inputs_embeds=inputs_embeds,
            return_dict=True,
            **kwargs,
        )
        logits = self.score(outputs.last_hidden_state[:, 0])
        loss = None
        if labels is not None:
            loss = self.loss_function(labels=labels, pooled_logits=logits, config=self.config)
        return Seq2SeqSequenceClassifierOutput(loss, logits, **without_last_hidden_state(outputs))


__all__ = [
    "ScratchGPTDecoder",
    "ScratchGPTEncoderDecoderForSequenceClassification",
    "ScratchGPTEncoderDecoderModel",
    "ScratchGPTEncoderDecoderPreTrainedModel",
    "ScratchGPTForConditionalGeneration",
]
