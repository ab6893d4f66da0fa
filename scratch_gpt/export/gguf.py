# SPDX-License-Identifier: Apache-2.0
"""A checkpoint as one GGUF file, for llama.cpp and what is built on it.

Names of tensors and keys come from the `gguf` package; what it leaves to the writer is here: the order of rotary
pairs, the rotary variants, the tokenizer and its pre-tokenizer, the chat template.
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Regex, pre_tokenizers
from transformers import Conv1D, PreTrainedModel, PreTrainedTokenizerFast

from scratch_gpt.errors import UserError, wrong_value
from scratch_gpt.export.folders import load_ours
from scratch_gpt.export.interop import to_stock
from scratch_gpt.inference.loading import load_tokenizer_beside
from scratch_gpt.inference.sampling import Sampling
from scratch_gpt.inference.turns import is_chat
from scratch_gpt.runs.folders import atomic_directory
from scratch_gpt.tokenization import IM_END, IM_START, SPLIT_PATTERN


MODEL_FILE = "model.gguf"

# torch dtype of the matrices, and the name of the file's type; vectors are always float32, as llama.cpp wants them.
DTYPES = {
    "f32": (torch.float32, "ALL_F32"),
    "f16": (torch.float16, "MOSTLY_F16"),
    "bf16": (torch.bfloat16, "MOSTLY_BF16"),
}

# What llama.cpp computes in each architecture.
ACTIVATIONS = {"qwen3": ("silu",), "llama": ("silu",), "gpt2": ("gelu_new", "gelu_pytorch_tanh")}
ROPE_TYPES = {
    "qwen3": ("default", "linear", "yarn"),
    "llama": ("default", "linear", "yarn", "llama3"),
    "gpt2": (),
}

YARN_KEYS = {"rope_type", "rope_theta", "factor", "original_max_position_embeddings"}

# llama.cpp knows pre-tokenizers by name; the steps are those of tokenizer.json, see `_pre_tokenizer_steps`.
_LLAMA3_PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_QWEN35_PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# The earlier one of our tokenizer stage, which cuts words at combining marks.
_EARLIER_PATTERN = SPLIT_PATTERN.replace(r"\p{L}[\p{L}\p{M}]*", r"\p{L}+")
PRE_TOKENIZERS = {
    ("gpt2",): "gpt-2",
    ("digits", "gpt2"): "smollm",
    (_LLAMA3_PATTERN, "bytes"): "llama-bpe",
    (_LLAMA3_PATTERN.replace("{1,3}", ""), "bytes"): "qwen2",
    (_QWEN35_PATTERN, "bytes"): "qwen35",
    # The same but for digits, see below.
    (_EARLIER_PATTERN, "bytes"): "dbrx",
}
# For our tokenizer stage's pattern no name is exact: none takes digits in groups of two. "dbrx" takes three, and cuts
# words at combining marks; "qwen35" takes one, and leaves words whole.
_NEAREST = {"dbrx": _LLAMA3_PATTERN, "qwen35": _QWEN35_PATTERN}
_NOTE = (
    "llama.cpp has no pre-tokenizer that splits text as this tokenizer does: {} may get other tokens there, all other "
    "text gets the same"
)
NUMBERS_NOTE = _NOTE.format("numbers of three digits or more")
NOTES = {
    "dbrx": _NOTE.format(
        "numbers of three digits or more, and words with combining marks, as in Hindi and Thai,"
    ),
    "qwen35": _NOTE.format("numbers of two digits or more, and combining marks that follow no letter,"),
}


def export_gguf(model: str | Path, output_dir: str | Path, dtype: str | None = None) -> list[str]:
    """Write the causal language model in `model`, see `load_ours`, as `output_dir`/model.gguf, with a `Modelfile` for Ollama beside it.

    Args:
        dtype: "f32", "f16" or "bf16", of the matrices; default: the one the checkpoint is saved in.

    Returns:
        What differs in llama.cpp, one sentence each.

    Raises:
        UserError: the `gguf` package is missing, `output_dir` holds something, something that llama.cpp does not
            compute or a tokenizer that it does not know.
    """
    _gguf()
    if Path(output_dir).suffix == ".gguf":
        message = f"{output_dir}: name a folder, which gets {MODEL_FILE} and a Modelfile; drop the .gguf"
        raise UserError("output_is_file", message, path=output_dir)
    with atomic_directory(output_dir, ()) as folder:
        ours = load_ours(model)
        tokenizer = load_tokenizer_beside(model)
        if tokenizer is None:
            message = f"no tokenizer in {model}: a GGUF file carries one, copy it beside the model"
            raise UserError("no_tokenizer", message, folder=model)
        notes = write_gguf(ours, tokenizer, folder / MODEL_FILE, dtype, name=Path(model).resolve().name)
        (folder / "Modelfile").write_text(make_modelfile(tokenizer, ours), encoding="utf-8")
    return notes


def write_gguf(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    path: Path,
    dtype: str | None = None,
    name: str = "scratch-gpt",
) -> list[str]:
    """Write `model` and `tokenizer` to the file `path`; see `export_gguf`."""
    gguf = _gguf()
    dtype = dtype or next((key for key, (kind, _) in DTYPES.items() if kind == model.dtype), "f32")
    if dtype not in DTYPES:
        raise wrong_value("dtype", dtype, f"one of {', '.join(DTYPES)}", choices=DTYPES)
    _refuse_unsupported(model)
    pre_tokenizer, notes = find_pre_tokenizer(tokenizer)
    config = model.config
    writer = gguf.GGUFWriter(path, config.dialect)
    writer.add_name(name)
    writer.add_file_type(gguf.LlamaFileType[DTYPES[dtype][1]])
    _add_shape(writer, config)
    _add_tokenizer(writer, tokenizer, pre_tokenizer, config.vocab_size)
    for tensor_name, tensor in _tensors(model).items():
        is_vector = tensor.dim() == 1 or tensor_name.startswith("position_embd")
        kind = "f32" if is_vector else dtype
        data = tensor.detach().float().cpu().numpy()
        if kind == "bf16":
            data_type = gguf.GGMLQuantizationType.BF16
            writer.add_tensor(tensor_name, gguf.quants.quantize(data, data_type), raw_dtype=data_type)
        else:
            writer.add_tensor(tensor_name, data.astype(np.float16 if kind == "f16" else np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return notes


def _gguf() -> Any:
    try:
        import gguf
    except ImportError:
        message = 'the gguf package is missing: pip install "scratch-gpt[gguf]"'
        raise UserError("missing_package", message, package="scratch-gpt[gguf]") from None
    return gguf


def _refuse_unsupported(model: PreTrainedModel) -> None:
    config = model.config
    if not type(model).__name__.endswith("ForCausalLM"):
        message = f"cannot write a {type(model).__name__} as GGUF: llama.cpp runs causal language models only"
        raise UserError("wrong_model", message, found=[type(model).__name__])
    if config.hidden_act not in ACTIVATIONS[config.dialect]:
        message = (
            f"hidden_act={config.hidden_act!r}: llama.cpp's {config.dialect} computes "
            f"{' or '.join(ACTIVATIONS[config.dialect])} only; export to a transformers dialect instead"
        )
        raise UserError("not_convertible", message, setting="hidden_act", value=config.hidden_act)
    if config.dialect == "qwen3" and config.attention_bias:
        message = "attention_bias=True: llama.cpp's qwen3 has no such biases; export to a transformers dialect instead"
        raise UserError("not_convertible", message, setting="attention_bias", value=True)
    rope = config.rope_parameters or {}
    rope_type = rope.get("rope_type")
    if rope_type == "yarn" and (unusual := sorted(set(rope) - YARN_KEYS)):
        message = f"rope_parameters: {unusual[0]}={rope[unusual[0]]!r}: the file holds yarn's defaults only"
        raise UserError("not_convertible", message, setting=unusual[0], value=rope[unusual[0]])
    if rope_type and rope_type not in ROPE_TYPES[config.dialect]:
        message = (
            f"rope_type={rope_type!r}: the file for {config.dialect} holds {', '.join(ROPE_TYPES[config.dialect])} "
            "only; export to a transformers dialect instead"
        )
        raise UserError("not_convertible", message, setting="rope_type", value=rope_type)


def _add_shape(writer: Any, config: Any) -> None:
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    if config.dialect == "gpt2":
        writer.add_layer_norm_eps(config.layer_norm_eps)
        return
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    rope = config.rope_parameters
    if rope["rope_type"] in ("linear", "yarn"):
        writer.add_rope_scaling_type(_gguf().RopeScalingType(rope["rope_type"]))
        writer.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "yarn":
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])


def _tensors(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Names and tensors of the file: those of the stock class, renamed by the gguf package's own table."""
    gguf = _gguf()
    config = model.config
    arch = next(arch for arch, name in gguf.MODEL_ARCH_NAMES.items() if name == config.dialect)
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    stock = to_stock(model)
    tensors = {}
    for module_name, module in stock.named_modules():
        if config.tie_word_embeddings and module_name == "lm_head":
            continue  # llama.cpp takes the embedding where there is no output matrix
        for part, parameter in module.named_parameters(recurse=False):
            tensor = parameter.t() if isinstance(module, Conv1D) and part == "weight" else parameter
            if config.dialect == "llama" and module_name.endswith(("q_proj", "k_proj")):
                tensor = _interleave_pairs(tensor, config.head_dim)
            tensors[f"{names.get_name(module_name)}.{part}"] = tensor.contiguous()
    if (config.rope_parameters or {}).get("rope_type") == "llama3":
        rotary = model.model.rotary_emb
        default, _ = rotary.compute_default_rope_parameters(config)
        tensors["rope_freqs.weight"] = default / rotary.original_inv_freq  # what each frequency is divided by
    return tensors


def _interleave_pairs(tensor: torch.Tensor, head_dim: int) -> torch.Tensor:
    """Rows of each head from (i, i + E/2) being a pair, as in transformers, to (2i, 2i + 1), as in llama.cpp's llama."""
    halves = tensor.reshape(-1, 2, head_dim // 2, *tensor.shape[1:])
    return halves.transpose(1, 2).reshape(tensor.shape)


def _pre_tokenizer_steps(state: dict[str, Any] | None) -> tuple[str, ...]:
    """The steps of a tokenizer.json's `pre_tokenizer` that llama.cpp could know; ("?",) for any other."""
    steps = (
        state["pretokenizers"] if state and state["type"] == "Sequence" else [state or {"type": "missing"}]
    )
    named = []
    for step in steps:
        if step["type"] == "Split" and step["behavior"] == "Isolated" and not step["invert"]:
            named.append(step["pattern"].get("Regex", "?"))
        elif step["type"] == "Digits" and step["individual_digits"]:
            named.append("digits")
        elif step["type"] == "ByteLevel" and not step["add_prefix_space"]:
            named.append("gpt2" if step["use_regex"] else "bytes")
        else:
            return ("?",)
    return tuple(named)


def find_pre_tokenizer(tokenizer: PreTrainedTokenizerFast) -> tuple[str, list[str]]:
    """llama.cpp's name for how this tokenizer splits text before the merges, and what differs if it is not the same.

    Raises:
        UserError: no byte-level BPE, or one that splits text in a way that llama.cpp has no name for.
    """
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    steps = _pre_tokenizer_steps(state["pre_tokenizer"])
    if state["model"]["type"] == "BPE" and steps == (SPLIT_PATTERN, "bytes"):
        name = _nearest(tokenizer)
        return name, [NOTES[name]]
    if state["model"]["type"] != "BPE" or steps not in PRE_TOKENIZERS:
        raise UserError(
            "unknown_pre_tokenizer",
            "llama.cpp has no name for the way this tokenizer splits text: it knows byte-level BPE as in GPT-2, "
            "SmolLM, Llama 3, Qwen and our tokenizer stage",
        )
    return PRE_TOKENIZERS[steps], [NUMBERS_NOTE] if steps[0] == _EARLIER_PATTERN else []


def _nearest(tokenizer: PreTrainedTokenizerFast) -> str:
    """The name that cuts fewer of the tokens; neither splits text as our tokenizers do."""
    tokens = tokenizer.batch_decode([[index] for index in range(len(tokenizer))])

    def num_cut(pattern: str) -> int:
        split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
        return sum(len(split.pre_tokenize_str(token)) > 1 for token in tokens)

    return min(_NEAREST, key=lambda name: num_cut(_NEAREST[name]))


def _add_tokenizer(
    writer: Any, tokenizer: PreTrainedTokenizerFast, pre_tokenizer: str, vocab_size: int
) -> None:
    token_type = _gguf().TokenType
    if len(tokenizer) > vocab_size:
        message = f"the tokenizer has {len(tokenizer)} tokens, the model only {vocab_size}"
        raise UserError("vocab_size_too_small", message, vocab_size=vocab_size, needed=len(tokenizer))
    # rows of a padded vocabulary have no text
    tokens = [f"[PAD{index}]" for index in range(vocab_size)]
    types = [token_type.UNUSED] * vocab_size
    for token, index in tokenizer.get_vocab().items():
        tokens[index], types[index] = token, token_type.NORMAL
    for index, added in tokenizer.added_tokens_decoder.items():
        tokens[index] = added.content
        types[index] = token_type.CONTROL if added.special else token_type.USER_DEFINED
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")  # byte-level BPE
    writer.add_tokenizer_pre(pre_tokenizer)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(pair) for pair in merges])
    for name in ("bos", "eos", "pad"):
        index = getattr(tokenizer, f"{name}_token_id")
        if index is not None:
            getattr(writer, f"add_{name}_token_id")(index)
    first = tokenizer("a")["input_ids"][0]
    writer.add_add_bos_token(tokenizer.bos_token_id is not None and first == tokenizer.bos_token_id)
    if isinstance(tokenizer.chat_template, str):
        writer.add_chat_template(portable_template(tokenizer.chat_template))


def portable_template(template: str) -> str:
    """The chat template for readers of Jinja without transformers' `generation` tag and without \\u escapes."""
    template = re.sub(r"\{%(-?)\s*((?:end)?generation)\s*(-?)%\}", r"{#\1 \2 \3#}", template)
    return re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), template)


def make_modelfile(tokenizer: PreTrainedTokenizerFast, model: PreTrainedModel) -> str:
    """An Ollama Modelfile: the tokens that end an answer, context, sampling as in `scratch-gpt chat`, a template.

    A base model gets the text as it is: Ollama would otherwise guess a template from the file. A chat model with another
    form than ChatML has none here, so that Ollama takes the published one by the file's. Grammar and parameters:
    https://docs.ollama.com/modelfile
    """
    lines = [f"FROM ./{MODEL_FILE}"]
    if not is_chat(tokenizer):
        lines.append('TEMPLATE """{{ .Prompt }}"""')
    elif tokenizer.eos_token == IM_END:
        lines += [
            f'TEMPLATE """{{{{- range .Messages }}}}{IM_START}{{{{ .Role }}}}\n{{{{ .Content }}}}{IM_END}\n'
            f'{{{{ end }}}}{IM_START}assistant\n"""'
        ]
    config = model.generation_config
    stops = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    tokens = [
        tokenizer.eos_token,
        *tokenizer.convert_ids_to_tokens([stop for stop in stops if stop is not None]),
    ]
    lines += [f'PARAMETER stop "{token}"' for token in dict.fromkeys(filter(None, tokens))]
    sampling = Sampling.of(config)
    # Each is written: where a Modelfile is silent Ollama has its own, for long with a penalty on repeated words.
    lines += [
        f"PARAMETER num_ctx {model.config.max_position_embeddings}",
        f"PARAMETER num_predict {sampling.max_new_tokens}",
        f"PARAMETER temperature {sampling.temperature}",
        f"PARAMETER top_p {sampling.top_p}",
        f"PARAMETER top_k {sampling.top_k}",
        f"PARAMETER repeat_penalty {config.repetition_penalty or 1.0}",
    ]
    return "\n".join(lines) + "\n"


__all__ = ["export_gguf", "find_pre_tokenizer", "write_gguf"]
