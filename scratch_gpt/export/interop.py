# SPDX-License-Identifier: Apache-2.0
"""Conversion, weight for weight, between our models and the classes of transformers that have the same design.

A dialect is described once, by a table: its class and config in transformers, what each of our fields and modules is
called there, and which of their settings we have no switch for. Both directions read the same table.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import (
    EuroBertConfig,
    EuroBertForMaskedLM,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3ForSequenceClassification,
)

from scratch_gpt import ScratchGPTForCausalLM, ScratchGPTForMaskedLM, ScratchGPTForSequenceClassification
from scratch_gpt.configuration_scratch_gpt import DIALECTS, ScratchGPTConfig
from scratch_gpt.errors import UserError, wrong_value


class ModulePair(NamedTuple):
    """Modules of ours, stacked along their outputs, that are one module of theirs; {} is the layer's number."""

    ours: tuple[str, ...]
    theirs: str
    is_conv1d: bool = False  # GPT-2's Conv1D keeps (inputs, outputs), a Linear (outputs, inputs)


@dataclass(frozen=True)
class StockDesign:
    """What a dialect, as a decoder or as an encoder, is called in transformers.

    Args:
        config_class: its config.
        heads: our class -> theirs.
        fields: our config field -> theirs.
        only: settings of theirs that change the computation and that we have no switch for -> the values we can hold.
        modules: names that differ; all others are the same.
        dialect: what it is called here.
    """

    config_class: type[PreTrainedConfig]
    heads: Mapping[type[PreTrainedModel], type[PreTrainedModel]]
    fields: Mapping[str, str]
    only: Mapping[str, tuple]
    dialect: str
    modules: tuple[ModulePair, ...] = field(default=())

    @property
    def switches(self) -> dict[str, Any]:
        """Those of our config that make a model this design."""
        encoder = {"is_causal": False, "mlp_bias": False}  # EuroBERT's mlp_bias gives its head a bias too
        return DIALECTS[self.dialect] | (
            encoder if ScratchGPTForMaskedLM in self.heads else {"is_causal": True}
        )


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


_DECODER_HEADS = (ScratchGPTForCausalLM, ScratchGPTForSequenceClassification)
_EVERYWHERE = _same(
    *("vocab_size", "initializer_range", "use_cache", "tie_word_embeddings", "id2label", "label2id"),
    *("problem_type", "pad_token_id", "bos_token_id", "eos_token_id"),
)
_ROTARY = _EVERYWHERE | _same(
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
    *("head_dim", "hidden_act", "max_position_embeddings", "rms_norm_eps", "rope_parameters"),
    *("attention_bias", "attention_dropout"),
)

STOCK: dict[str, StockDesign] = {
    "qwen3": StockDesign(
        Qwen3Config,
        dict(zip(_DECODER_HEADS, (Qwen3ForCausalLM, Qwen3ForSequenceClassification), strict=True)),
        dialect="qwen3",
        fields=_ROTARY,
        only={"use_sliding_window": (False,), "layer_types": ("full_attention",)},
    ),
    "llama": StockDesign(
        LlamaConfig,
        dict(zip(_DECODER_HEADS, (LlamaForCausalLM, LlamaForSequenceClassification), strict=True)),
        dialect="llama",
        fields=_ROTARY | _same("mlp_bias"),
        only={"pretraining_tp": (1, None)},
    ),
    "gpt2": StockDesign(
        GPT2Config,
        dict(zip(_DECODER_HEADS, (GPT2LMHeadModel, GPT2ForSequenceClassification), strict=True)),
        dialect="gpt2",
        fields=_EVERYWHERE
        | {
            "hidden_size": "n_embd",
            "intermediate_size": "n_inner",
            "num_hidden_layers": "n_layer",
            "num_attention_heads": "n_head",
            "max_position_embeddings": "n_positions",
            "hidden_act": "activation_function",
            "layer_norm_eps": "layer_norm_epsilon",
            "attention_dropout": "attn_pdrop",
            "embedding_dropout": "embd_pdrop",
            "residual_dropout": "resid_pdrop",
        },
        only={
            "scale_attn_weights": (True,),
            "scale_attn_by_inverse_layer_idx": (False,),
            "reorder_and_upcast_attn": (False,),
            "add_cross_attention": (False,),
        },
        modules=(
            ModulePair(("model.embed_tokens",), "transformer.wte"),
            ModulePair(("model.embed_positions",), "transformer.wpe"),
            ModulePair(("model.layers.{}.input_layernorm",), "transformer.h.{}.ln_1"),
            ModulePair(
                tuple(f"model.layers.{{}}.self_attn.{kind}_proj" for kind in "qkv"),
                "transformer.h.{}.attn.c_attn",
                is_conv1d=True,
            ),
            ModulePair(("model.layers.{}.self_attn.o_proj",), "transformer.h.{}.attn.c_proj", is_conv1d=True),
            ModulePair(("model.layers.{}.post_attention_layernorm",), "transformer.h.{}.ln_2"),
            ModulePair(("model.layers.{}.mlp.up_proj",), "transformer.h.{}.mlp.c_fc", is_conv1d=True),
            ModulePair(("model.layers.{}.mlp.down_proj",), "transformer.h.{}.mlp.c_proj", is_conv1d=True),
            ModulePair(("model.norm",), "transformer.ln_f"),
        ),
    ),
    "eurobert": StockDesign(
        EuroBertConfig,
        {ScratchGPTForMaskedLM: EuroBertForMaskedLM},
        dialect="llama",
        fields=_ROTARY,
        only={"mlp_bias": (False,)},
    ),
}

OUR_CLASSES = {ours.__name__: ours for design in STOCK.values() for ours in design.heads}
STOCK_CLASSES = {theirs.__name__: theirs for design in STOCK.values() for theirs in design.heads.values()}


def from_stock(model: PreTrainedModel) -> PreTrainedModel:
    """Our model with a copy of the weights of `model`; logits, dtype, device and generation config are the same.

    Args:
        model: a GPT2LMHeadModel, LlamaForCausalLM, Qwen3ForCausalLM, ...ForSequenceClassification, EuroBertForMaskedLM.

    Raises:
        UserError: another class, or a setting that our model has no switch for.
    """
    design = next((each for each in STOCK.values() if type(model) in each.heads.values()), None)
    if design is None:
        message = f"cannot convert a {type(model).__name__}: it must be a {', '.join(STOCK_CLASSES)}"
        raise UserError("wrong_model", message, found=[type(model).__name__])
    _refuse_unsupported(model, design)
    values = {ours: getattr(model.config, theirs) for ours, theirs in design.fields.items()}
    values["tie_word_embeddings"] = _is_tied(model)
    # None is "the default", which both sides have in common
    given = {name: copy.deepcopy(value) for name, value in values.items() if value is not None}
    kind = next(ours for ours, theirs in design.heads.items() if type(model) is theirs)
    config = _build_config(ScratchGPTConfig, dialect=design.dialect, **design.switches | given)
    weights = model.state_dict()
    ours: dict[str, torch.Tensor] = {}
    for pair in _layer_pairs(design, config):
        for part in ("weight", "bias"):
            tensor = weights.pop(f"{pair.theirs}.{part}", None)
            if tensor is not None:
                stacked = tensor.t() if pair.is_conv1d and part == "weight" else tensor
                pieces = stacked.chunk(len(pair.ours))
                ours |= {f"{name}.{part}": piece for name, piece in zip(pair.ours, pieces, strict=True)}
    return _build_model(kind, config, ours | weights, model)


def to_stock(model: PreTrainedModel, to: str | None = None) -> PreTrainedModel:
    """The class of transformers with a copy of the weights of `model`; logits, dtype and device are the same.

    Args:
        model: a ScratchGPTForCausalLM, ScratchGPTForSequenceClassification or ScratchGPTForMaskedLM.
        to: "qwen3", "llama", "gpt2" or "eurobert"; default: the model's own dialect, as an encoder "eurobert".

    Raises:
        UserError: another class of model, or a design that cannot hold it.
    """
    if type(model).__name__ not in OUR_CLASSES:
        message = f"cannot convert a {type(model).__name__}: it must be a {' or '.join(OUR_CLASSES)}"
        raise UserError("wrong_model", message, found=[type(model).__name__])
    config = model.config
    to = to or (config.dialect if config.is_causal else "eurobert")
    if to not in STOCK:
        raise wrong_value(
            "to", to, f"one of {', '.join(STOCK)} (or gguf, on the command line)", choices=STOCK
        )
    design = STOCK[to]
    foreign = [
        f"{name}={getattr(config, name)!r} (it has {value!r})"
        for name, value in design.switches.items()
        if getattr(config, name) != value
    ]
    kind = {ours.__name__: theirs for ours, theirs in design.heads.items()}.get(type(model).__name__)
    if foreign or kind is None:
        cure = f"this model is of the {config.dialect} dialect, convert it to {config.dialect}"
        if not config.is_causal:
            cure = "of the encoders, transformers has a class for the llama dialect with a masked head"
        message = f"{to} cannot hold {', '.join(foreign) or type(model).__name__}: {cure}"
        raise UserError("dialect_mismatch", message, to=to)
    values = {theirs: copy.deepcopy(getattr(config, ours)) for ours, theirs in design.fields.items()}
    values["tie_word_embeddings"] = _is_tied(model)
    if values.get("activation_function") == "gelu_pytorch_tanh":
        values["activation_function"] = "gelu_new"  # GPT-2's own name for the same function
    weights = model.state_dict()
    theirs: dict[str, torch.Tensor] = {}
    for pair in _layer_pairs(design, config):
        for part in ("weight", "bias"):
            pieces = [weights.pop(f"{name}.{part}") for name in pair.ours if f"{name}.{part}" in weights]
            if pieces:
                whole = torch.cat(pieces)
                theirs[f"{pair.theirs}.{part}"] = whole.t() if pair.is_conv1d and part == "weight" else whole
    return _build_model(kind, _build_config(design.config_class, **values), theirs | weights, model)


def _refuse_unsupported(model: PreTrainedModel, design: StockDesign) -> None:
    # The first three may be in any config, and change what its class alone does.
    anywhere = {"quantization_config": (None,), "is_heterogeneous": (False,)}
    anywhere["is_causal"] = (design.switches["is_causal"],)
    for name, held in {**anywhere, **design.only}.items():
        value = getattr(model.config, name, held[0])
        if any(item not in held for item in (value if isinstance(value, list) else [value])):
            message = (
                f"{type(model).__name__} has {name}={value!r}, our models only {held[0]!r}: "
                "use this model with its own class"
            )
            raise UserError("not_convertible", message, setting=name, value=value)


def _is_tied(model: PreTrainedModel) -> bool:
    """Whether head and embedding are one matrix in fact; without such a head, what the config says."""
    head = model.get_output_embeddings()
    if head is None:
        return bool(model.config.tie_word_embeddings)
    return head.weight is model.get_input_embeddings().weight


def _layer_pairs(design: StockDesign, config: ScratchGPTConfig) -> list[ModulePair]:
    """The design's pairs with the numbers of the layers filled in."""
    return [
        ModulePair(tuple(name.format(layer) for name in pair.ours), pair.theirs.format(layer), pair.is_conv1d)
        for pair in design.modules
        for layer in (range(config.num_hidden_layers) if "{}" in pair.theirs else [0])
    ]


def _build_config(config_class: type[PreTrainedConfig], **values: Any) -> PreTrainedConfig:
    try:
        return config_class(**values)
    except (ValueError, KeyError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        message = f"{config_class.__name__} cannot hold this model: {reason}"
        raise UserError("dialect_mismatch", message, to=config_class.__name__) from error


def _build_model(
    kind: type[PreTrainedModel],
    config: PreTrainedConfig,
    weights: Mapping[str, torch.Tensor],
    source: PreTrainedModel,
) -> Any:
    """A `kind` with copies of `weights`; dtype, device, mode, attention and generation config are the source's."""
    dtypes = {parameter.dtype for parameter in source.parameters()}
    if len(dtypes) > 1:
        names = ", ".join(sorted(map(str, dtypes)))
        message = f"the weights of this {type(source).__name__} are {names} mixed: cast it with model.to(dtype) first"
        raise UserError("mixed_dtypes", message, dtypes=sorted(map(str, dtypes)))
    copies = {
        name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in weights.items()
    }
    if config.tie_word_embeddings:
        copies.pop("lm_head.weight", None)
    # transformers' own way from a state dict to a model: no time spent on initial weights, ties and rotary tables made
    model, report = kind.from_pretrained(
        None,
        config=config,
        state_dict=copies,
        dtype=source.dtype,
        attn_implementation=source.config._attn_implementation,
        output_loading_info=True,
    )
    astray = sorted({*report["missing_keys"], *report["unexpected_keys"]})
    if astray:
        message = f"the weights of this {type(source).__name__} are not those of its class: {astray[0]} is unexpected or missing"
        raise UserError("unexpected_weight", message, weight=astray[0])
    model.config._name_or_path = source.config._name_or_path
    if source.can_generate():
        model.generation_config = copy.deepcopy(source.generation_config)
    return model.to(source.device).train(source.training)


__all__ = ["from_stock", "to_stock"]
