# SPDX-License-Identifier: Apache-2.0
"""GGUF files: read back with the gguf package's reader, and run by llama.cpp where its Python package is installed."""

import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any

import gguf
import jinja2
import numpy as np
import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, GPT2Tokenizer, PreTrainedTokenizerFast, Qwen2Tokenizer
from transformers.convert_slow_tokenizer import TikTokenConverter

from scratch_gpt import ScratchGPTConfig, ScratchGPTForCausalLM, ScratchGPTForSequenceClassification
from scratch_gpt.export.folders import export_folder
from scratch_gpt.export.gguf import (
    NOTES,
    NUMBERS_NOTE,
    export_gguf,
    find_pre_tokenizer,
    make_modelfile,
    portable_template,
    write_gguf,
)
from scratch_gpt.tokenization import escape, train_tokenizer
from wording import user_error


LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 32}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
SHAPES: dict[str, dict[str, Any]] = {
    "qwen3": {"dialect": "qwen3", "num_key_value_heads": 2, "head_dim": 24},
    "qwen3-linear": {"dialect": "qwen3", "rope_parameters": LINEAR, "tie_word_embeddings": False},
    "qwen3-yarn": {"dialect": "qwen3", "rope_parameters": YARN, "head_dim": 64},
    "llama": {"dialect": "llama", "num_key_value_heads": 2, "head_dim": 24, "tie_word_embeddings": False},
    "llama-biases": {"dialect": "llama", "attention_bias": True, "mlp_bias": True},
    "llama-llama3": {"dialect": "llama", "num_key_value_heads": 2, "rope_parameters": LLAMA3},
    "gpt2": {"dialect": "gpt2"},
}


def build(tokenizer: PreTrainedTokenizerFast, **settings: Any) -> ScratchGPTForCausalLM:
    """Two layers with weights large enough for greedy text that does not repeat one token."""
    torch.manual_seed(0)
    shape = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 256,
    }
    config = ScratchGPTConfig(
        **{"vocab_size": len(tokenizer), "initializer_range": 0.3, **shape, **settings},
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = ScratchGPTForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Keys and tensors of a file, the tensors as float32."""
    reader = gguf.GGUFReader(path)
    keys = {name: field.contents() for name, field in reader.fields.items()}
    tensors = {
        tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type) for tensor in reader.tensors
    }
    return keys, tensors


def test_qwen3_file_holds_the_model(tiny_tokenizer, tmp_path: Path) -> None:
    """Every weight is there, bit-equal, under llama.cpp's name, and the shape is in the keys."""
    model = build(tiny_tokenizer, **SHAPES["qwen3"])
    write_gguf(model, tiny_tokenizer, tmp_path / "m.gguf")
    keys, tensors = read(tmp_path / "m.gguf")
    names = {
        "model.embed_tokens": "token_embd",
        "model.norm": "output_norm",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "self_attn.q_norm": "attn_q_norm",
        "self_attn.k_norm": "attn_k_norm",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        "model.layers.": "blk.",
    }
    expected = {}
    for name, parameter in model.named_parameters():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        expected[name] = parameter.detach().numpy()
    assert tensors.keys() == expected.keys()  # tied: no output matrix of its own
    assert [name for name in expected if not np.array_equal(tensors[name], expected[name])] == []
    shape = {
        "general.architecture": "qwen3",
        "general.file_type": 0,
        "qwen3.context_length": 256,
        "qwen3.embedding_length": 64,
        "qwen3.block_count": 2,
        "qwen3.feed_forward_length": 192,
        "qwen3.attention.head_count": 4,
        "qwen3.attention.head_count_kv": 2,
        "qwen3.attention.key_length": 24,
        "qwen3.attention.value_length": 24,
        "qwen3.rope.dimension_count": 24,
        "qwen3.rope.freq_base": 10000.0,
        "qwen3.vocab_size": len(tiny_tokenizer),
    }
    assert {name: keys[name] for name in shape} == shape
    assert keys["qwen3.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-6)


def test_llama_rows_turn_neighbours(tiny_tokenizer, tmp_path: Path) -> None:
    """llama.cpp's llama rotates rows 2i and 2i + 1 of a head, transformers' rows i and i + E/2; biases move along."""
    model = build(tiny_tokenizer, **SHAPES["llama-biases"])
    write_gguf(model, tiny_tokenizer, tmp_path / "m.gguf")
    _, tensors = read(tmp_path / "m.gguf")
    attention = model.model.layers[1].self_attn
    heads, dim = 4, 16
    order = [
        head * dim + i + half * dim // 2 for head in range(heads) for i in range(dim // 2) for half in (0, 1)
    ]
    assert np.array_equal(tensors["blk.1.attn_q.weight"], attention.q_proj.weight.detach().numpy()[order])
    assert np.array_equal(tensors["blk.1.attn_k.bias"], attention.k_proj.bias.detach().numpy()[order])
    assert np.array_equal(tensors["blk.1.attn_v.weight"], attention.v_proj.weight.detach().numpy())


def test_rotary_variants_are_in_the_file(tiny_tokenizer, tmp_path: Path) -> None:
    """llama3 as a divisor of each frequency, linear and yarn as keys."""
    model = build(tiny_tokenizer, **SHAPES["llama-llama3"])
    write_gguf(model, tiny_tokenizer, tmp_path / "llama3.gguf")
    _, tensors = read(tmp_path / "llama3.gguf")
    plain = 10000.0 ** -(np.arange(0, 16, 2) / 16)
    assert tensors["rope_freqs.weight"] == pytest.approx(
        plain / model.model.rotary_emb.inv_freq.numpy(), rel=1e-5
    )
    assert tensors["rope_freqs.weight"][[0, -1]] == pytest.approx([1.0, 8.0], rel=1e-5)
    for name, factor in (("linear", 2.0), ("yarn", 4.0)):
        write_gguf(
            build(tiny_tokenizer, **SHAPES[f"qwen3-{name}"]), tiny_tokenizer, tmp_path / f"{name}.gguf"
        )
        keys, _ = read(tmp_path / f"{name}.gguf")
        assert (keys["qwen3.rope.scaling.type"], keys["qwen3.rope.scaling.factor"]) == (name, factor)
    assert keys["qwen3.rope.scaling.original_context_length"] == 32


def test_gpt2_file_holds_the_fused_projection(tiny_tokenizer, tmp_path: Path) -> None:
    """Query, key and value are one matrix with outputs first, positions have their own."""
    model = build(tiny_tokenizer, **SHAPES["gpt2"])
    write_gguf(model, tiny_tokenizer, tmp_path / "m.gguf", dtype="f16")
    keys, tensors = read(tmp_path / "m.gguf")
    attention = model.model.layers[0].self_attn
    fused = torch.cat(
        [projection.weight for projection in (attention.q_proj, attention.k_proj, attention.v_proj)]
    )
    assert np.array_equal(tensors["blk.0.attn_qkv.weight"], fused.half().float().detach().numpy())
    assert np.array_equal(
        tensors["position_embd.weight"], model.model.embed_positions.weight.detach().numpy()
    )
    assert keys["gpt2.attention.layer_norm_epsilon"] == pytest.approx(1e-5)


@pytest.mark.parametrize(("dtype", "kind"), [("f16", torch.float16), ("bf16", torch.bfloat16)])
def test_half_precision_rounds_matrices_only(
    dtype: str, kind: torch.dtype, tiny_tokenizer, tmp_path: Path
) -> None:
    """Matrices are rounded as torch rounds them, vectors stay float32."""
    model = build(tiny_tokenizer, **SHAPES["qwen3"])
    write_gguf(model, tiny_tokenizer, tmp_path / "m.gguf", dtype)
    types = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(tmp_path / "m.gguf").tensors}
    _, tensors = read(tmp_path / "m.gguf")
    weight = model.model.layers[0].mlp.up_proj.weight.detach()
    assert np.array_equal(tensors["blk.0.ffn_up.weight"], weight.to(kind).float().numpy())
    assert (types["blk.0.ffn_up.weight"], types["output_norm.weight"]) == (dtype.upper(), "F32")
    # a model that is saved so needs not be told
    write_gguf(model.to(kind), tiny_tokenizer, tmp_path / "own.gguf")
    assert read(tmp_path / "own.gguf")[0]["general.file_type"] == {"f16": 1, "bf16": 32}[dtype]


def test_tokenizer_is_in_the_file(tiny_tokenizer, tmp_path: Path) -> None:
    """Tokens by id, special ones as control tokens, padding rows as unused ones, merges in order, special ids."""
    model = build(tiny_tokenizer, vocab_size=len(tiny_tokenizer) + 64)
    assert write_gguf(model, tiny_tokenizer, tmp_path / "m.gguf") == [NOTES["dbrx"]]
    keys, _ = read(tmp_path / "m.gguf")
    size = len(tiny_tokenizer)
    assert keys["tokenizer.ggml.tokens"][:size] == tiny_tokenizer.convert_ids_to_tokens(list(range(size)))
    assert keys["tokenizer.ggml.tokens"][size] == f"[PAD{size}]"
    types = keys["tokenizer.ggml.token_type"]
    control = [index for index, kind in enumerate(types) if kind == gguf.TokenType.CONTROL]
    assert control == sorted(tiny_tokenizer.added_tokens_decoder)
    assert set(types[size:]) == {gguf.TokenType.UNUSED}
    merges = json.loads(tiny_tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    assert keys["tokenizer.ggml.merges"] == [" ".join(merge) for merge in merges]
    assert (keys["tokenizer.ggml.model"], keys["tokenizer.ggml.pre"]) == ("gpt2", "dbrx")
    assert keys["tokenizer.ggml.eos_token_id"] == tiny_tokenizer.eos_token_id
    assert keys["tokenizer.ggml.padding_token_id"] == tiny_tokenizer.pad_token_id
    assert keys["tokenizer.ggml.add_bos_token"] is False


# What llama.cpp splits text by in src/llama-vocab.cpp.
CONTRACTIONS = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
DBRX = rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN35 = rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PLAIN_TEXTS = [
    "It's 1, I'LL  say:\n\n\tüber 7%\r\n  --x",
    " a\n \n b  ",
    "…«quoté»… 日本 語!?\n\n\n",
    "'dx don't 3'd",
]


@pytest.mark.parametrize(
    ("pattern", "same", "different"),
    [
        (DBRX, ["12 or 34"], ["2024", "हिन्दी", "e\u0301"]),
        (
            QWEN35,
            ["हिन्दी में लिखो।\n", "ที่นี่ e\u0301te\u0301", "(العَرَبِيَّة)"],
            ["12", " ❤\ufe0f!"],
        ),
    ],
)
def test_only_what_the_note_says_is_split_otherwise(
    pattern: str, same: list[str], different: list[str], tiny_tokenizer
) -> None:
    """The pre-tokenizer named in the file splits as ours does, but for numbers and marks."""
    state = json.loads(tiny_tokenizer.backend_tokenizer.to_str())
    state["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = pattern
    theirs = Tokenizer.from_str(json.dumps(state))
    splitters = [tokenizer.pre_tokenizer for tokenizer in (tiny_tokenizer.backend_tokenizer, theirs)]
    for text in PLAIN_TEXTS + same:
        assert splitters[0].pre_tokenize_str(escape(text)) == splitters[1].pre_tokenize_str(escape(text))
    for text in different:
        assert splitters[0].pre_tokenize_str(text) != splitters[1].pre_tokenize_str(text)


def test_the_name_cuts_fewer_words(tiny_tokenizer) -> None:
    """Of Hindi the one that keeps marks, of English the one that keeps numbers; an earlier tokenizer has its own note."""
    assert find_pre_tokenizer(tiny_tokenizer) == ("dbrx", [NOTES["dbrx"]])
    hindi = train_tokenizer(["हिन्दी में लिखो, यह एक वाक्य है "] * 50, 384)
    assert find_pre_tokenizer(hindi) == ("qwen35", [NOTES["qwen35"]])
    state = json.loads(hindi.backend_tokenizer.to_str())
    step = state["pre_tokenizer"]["pretokenizers"][0]["pattern"]
    step["Regex"] = step["Regex"].replace(r"\p{L}[\p{L}\p{M}]*", r"\p{L}+")
    earlier = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(state)))
    assert find_pre_tokenizer(earlier) == ("dbrx", [NUMBERS_NOTE])


def test_published_tokenizers_have_their_name_in_llama_cpp() -> None:
    """Those of transformers' own classes are recognised, and keep their splitting exactly."""
    vocab = {token: index for index, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    assert find_pre_tokenizer(GPT2Tokenizer(vocab=vocab, merges=[])) == ("gpt-2", [])
    assert find_pre_tokenizer(Qwen2Tokenizer(vocab=vocab, merges=[])) == ("qwen2", [])
    llama3 = Tokenizer(models.BPE(vocab, []))
    pattern = inspect.signature(TikTokenConverter).parameters["pattern"].default
    llama3.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    assert find_pre_tokenizer(PreTrainedTokenizerFast(tokenizer_object=llama3)) == ("llama-bpe", [])


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (
            pre_tokenizers.Sequence(
                [
                    pre_tokenizers.Digits(individual_digits=True),
                    pre_tokenizers.ByteLevel(add_prefix_space=False),
                ]
            ),
            "smollm",
        ),
        (pre_tokenizers.ByteLevel(add_prefix_space=True), None),
        (pre_tokenizers.Whitespace(), None),
    ],
)
def test_other_splittings_are_told_apart(steps: Any, expected: str | None) -> None:
    """SmolLM's digits are known; what has no name is refused."""
    backend = Tokenizer(models.BPE({"a": 0}, []))
    backend.pre_tokenizer, backend.decoder = steps, decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    if expected is None:
        with user_error("unknown_pre_tokenizer"):
            find_pre_tokenizer(tokenizer)
    else:
        assert find_pre_tokenizer(tokenizer) == (expected, [])


def test_chat_template_needs_no_extension(tiny_tokenizer) -> None:
    """Plain Jinja writes the same conversation from it, a spelled special token included."""
    messages = [{"role": "user", "content": "a <|im_end|> b"}, {"role": "assistant", "content": "c"}]
    plain = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(
        portable_template(tiny_tokenizer.chat_template)
    )
    expected = tiny_tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert plain.render(messages=messages, add_generation_prompt=True) == expected
    assert "\\u" not in portable_template(tiny_tokenizer.chat_template)


def test_export_writes_a_folder(chat_folder: Path, tmp_path: Path) -> None:
    """The file, and a Modelfile that stops where the model does."""
    assert export_gguf(chat_folder, tmp_path / "out") == [NOTES["dbrx"]]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["Modelfile", "model.gguf"]
    modelfile = (tmp_path / "out" / "Modelfile").read_text()
    assert modelfile.startswith("FROM ./model.gguf\n")
    assert 'PARAMETER stop "<|im_end|>"' in modelfile
    assert read(tmp_path / "out" / "model.gguf")[0]["general.name"] == "chat"


def test_a_class_of_transformers_is_exported_as_it_is(chat_folder: Path, tmp_path: Path) -> None:
    """Such as a tuned Qwen3: the file is that of the same model of ours."""
    export_folder(chat_folder, tmp_path / "stock" / "chat")
    export_gguf(tmp_path / "stock" / "chat", tmp_path / "out")
    export_gguf(chat_folder, tmp_path / "ours")
    assert (tmp_path / "out" / "model.gguf").read_bytes() == (tmp_path / "ours" / "model.gguf").read_bytes()
    export_folder(tmp_path / "stock" / "chat", tmp_path / "again")
    weights = [path / "model.safetensors" for path in (tmp_path / "stock" / "chat", tmp_path / "again")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def read_modelfile(text: str) -> list[tuple[str, str]]:
    """Instructions and parameters with their values, as Ollama reads them: quotes off, nothing between them."""
    value = r'"""(.*?)"""|"([^"\n]*)"|([^"\n][^\n]*)'
    line = re.compile(rf"(FROM|TEMPLATE|PARAMETER [a-z_]+) (?:{value})\n", re.DOTALL)
    read = [
        (match[1].removeprefix("PARAMETER "), match[2] or match[3] or match[4])
        for match in line.finditer(text)
    ]
    assert line.sub("", text) == ""
    return read


def fill_go_template(template: str, messages: list[dict[str, str]]) -> str:
    """What Go's text/template makes of a `range` over messages: "{{-" takes the white space before it away."""
    template = re.sub(r"\s*\{\{-", "{{", template)
    before, turn, after = re.split(r"\{\{ range \.Messages \}\}|\{\{ end \}\}", template)
    fields = {"{{ .Role }}": "role", "{{ .Content }}": "content"}
    turns = [re.sub(r"\{\{.*?\}\}", lambda match: message[fields[match[0]]], turn) for message in messages]  # noqa: B023
    return before + "".join(turns) + after


SYSTEM, ASKED = (
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": 'Hi\n"you" {{ .Role }}'},
)
ANSWERED, AGAIN = {"role": "assistant", "content": "Hello.\n"}, {"role": "user", "content": "Привет 你好"}


@pytest.mark.parametrize("messages", [[ASKED], [SYSTEM, ASKED], [SYSTEM, ASKED, ANSWERED, AGAIN]], ids=len)
def test_modelfile_writes_a_conversation_as_the_chat_template_does(
    messages: list[dict[str, str]], chat_folder: Path
) -> None:
    """Ollama's template makes the text that the tokenizer's template makes; all stops, the whole sampling are there."""
    tokenizer = AutoTokenizer.from_pretrained(chat_folder)
    model = ScratchGPTForCausalLM.from_pretrained(chat_folder)
    model.generation_config.update(do_sample=True, temperature=0.3, top_p=0.9)
    source, (_, template), *parameters = read_modelfile(make_modelfile(tokenizer, model))
    expected = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert fill_go_template(template, messages) == expected
    assert source == ("FROM", "./model.gguf")
    assert parameters == [
        ("stop", "<|im_end|>"),
        ("stop", "<|endoftext|>"),
        ("num_ctx", "128"),
        ("num_predict", "200"),
        ("temperature", "0.3"),
        ("top_p", "0.9"),
        ("top_k", "50"),
        ("repeat_penalty", "1.0"),
    ]


def test_modelfile_of_a_base_model_has_no_conversation(tiny_tokenizer, tiny_model) -> None:
    """What was not trained to chat gets the text as it is, though its tokenizer has a chat template."""
    tiny_model.generation_config.do_sample = False
    read = read_modelfile(make_modelfile(tiny_tokenizer, tiny_model))
    assert read[:3] == [
        ("FROM", "./model.gguf"),
        ("TEMPLATE", "{{ .Prompt }}"),
        ("stop", "<|endoftext|>"),
    ]
    assert ("temperature", "0.0") in read


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"hidden_act": "gelu"},
            user_error("not_convertible", "qwen3", "silu", setting="hidden_act", value="gelu"),
        ),
        ({"attention_bias": True}, user_error("not_convertible", setting="attention_bias", value=True)),
        (
            {"rope_parameters": LLAMA3},
            user_error("not_convertible", "linear, yarn", setting="rope_type", value="llama3"),
        ),
        (
            {"rope_parameters": {**YARN, "beta_fast": 16.0}},
            user_error("not_convertible", setting="beta_fast", value=16.0),
        ),
        (
            {"dialect": "gpt2", "hidden_act": "gelu"},
            user_error("not_convertible", "gpt2", "gelu_new", setting="hidden_act", value="gelu"),
        ),
        ({"vocab_size": 320}, user_error("vocab_size_too_small", vocab_size=320, needed=512)),
    ],
)
def test_what_llama_cpp_does_not_compute_is_refused(
    settings: dict[str, Any], expected: user_error, tiny_tokenizer, tmp_path: Path
) -> None:
    """By name and value."""
    with expected:
        write_gguf(build(tiny_tokenizer, **settings), tiny_tokenizer, tmp_path / "m.gguf")


def test_users_mistakes_leave_nothing(tiny_model, base_folder: Path, tmp_path: Path, monkeypatch) -> None:
    """A reward model, no tokenizer, a wrong dtype, a file for a folder, the package not installed."""
    reward = tmp_path / "reward"
    ScratchGPTForSequenceClassification(tiny_model.config).save_pretrained(reward)
    out = tmp_path / "out"
    with user_error("no_tokenizer", folder=reward):
        export_gguf(reward, out)
    (reward / "tokenizer.json").write_bytes((base_folder / "tokenizer.json").read_bytes())
    (reward / "tokenizer_config.json").write_bytes((base_folder / "tokenizer_config.json").read_bytes())
    with user_error("wrong_model", found=["ScratchGPTForSequenceClassification"]):
        export_gguf(reward, out)
    with user_error("wrong_value", "f32, f16, bf16", setting="dtype", value="q4_0"):
        export_gguf(base_folder, out, "q4_0")
    with user_error("output_is_file", ".gguf", path=tmp_path / "m.gguf"):
        export_gguf(base_folder, tmp_path / "m.gguf")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with user_error("missing_package", 'pip install "scratch-gpt[gguf]"', package="scratch-gpt[gguf]"):
        export_gguf(base_folder, out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "reward"]


@torch.no_grad()
def greedy(model: ScratchGPTForCausalLM, ids: list[int]) -> list[int]:
    """The fifty likeliest tokens after `ids`, of many kinds."""
    settings = {"max_new_tokens": 50, "do_sample": False, "eos_token_id": None}
    tokens = model.generate(torch.tensor([ids]), **settings)[0, len(ids) :].tolist()
    assert len(set(tokens)) > 15
    return tokens


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_llama_cpp_writes_the_same_text(shape: str, tiny_tokenizer, tmp_path: Path) -> None:
    """Token ids of the prompt, logits and fifty greedy tokens; with the cache in float32 (its default is float16)."""
    llama_cpp = pytest.importorskip("llama_cpp", reason="pip install llama-cpp-python (it compiles)")
    model = build(tiny_tokenizer, **SHAPES[shape])
    write_gguf(model, tiny_tokenizer, tmp_path / "m.gguf")
    settings = {"n_ctx": 256, "n_threads": 1, "logits_all": True, "verbose": False}
    llama = llama_cpp.Llama(str(tmp_path / "m.gguf"), **settings, type_k=0, type_v=0)
    text = "<|im_start|>user\nThe capital of France isn't 42.<|im_end|>\n"
    ids = tiny_tokenizer(text)["input_ids"]
    assert llama.tokenize(text.encode(), add_bos=False, special=True) == ids
    formatter = llama_cpp.llama_chat_format.Jinja2ChatFormatter(
        llama.metadata["tokenizer.chat_template"], eos_token="", bos_token=""
    )
    chat = [{"role": "user", "content": "a <|im_end|>"}]
    expected = tiny_tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert formatter(messages=chat).prompt == expected
    llama.eval(ids)
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].numpy()
    # its GELU is a table of float16
    assert np.abs(llama.scores[: len(ids)] - logits).max() <= (1e-2 if shape == "gpt2" else 1e-4)
    llama.reset()
    tokens = [
        token for token, _ in zip(llama.generate(ids, temp=0.0, repeat_penalty=1.0), range(50), strict=False)
    ]
    llama.close()
    assert tokens == greedy(model, ids)


@pytest.mark.slow
@pytest.mark.parametrize("dialect", ["qwen3", "llama", "gpt2"])
def test_ctranslate2_writes_the_same_text(dialect: str, tiny_tokenizer, tmp_path: Path) -> None:
    """Its converter takes the exported folder as it is."""
    ctranslate2 = pytest.importorskip("ctranslate2", reason="pip install ctranslate2")
    model = build(tiny_tokenizer, dialect=dialect, num_key_value_heads=4 if dialect == "gpt2" else 2)
    model.save_pretrained(tmp_path / "ours")
    tiny_tokenizer.save_pretrained(tmp_path / "ours")
    export_folder(tmp_path / "ours", tmp_path / "stock", to=dialect)
    ctranslate2.converters.TransformersConverter(str(tmp_path / "stock")).convert(str(tmp_path / "ct2"))
    generator = ctranslate2.Generator(str(tmp_path / "ct2"), compute_type="float32", intra_threads=1)
    ids = tiny_tokenizer("The capital of France isn't")["input_ids"]
    settings = {"max_length": 50, "min_length": 50, "sampling_topk": 1, "include_prompt_in_result": False}
    (result,) = generator.generate_batch(
        [tiny_tokenizer.convert_ids_to_tokens(ids)], **settings, end_token=[]
    )
    assert result.sequences_ids[0] == greedy(model, ids)
