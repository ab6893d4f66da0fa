# SPDX-License-Identifier: Apache-2.0
"""Conversion to and from the classes of transformers: the stock class is the reference, in both directions."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    EuroBertConfig,
    EuroBertForMaskedLM,
    GenerationConfig,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    GPT2Tokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3ForSequenceClassification,
)

from scratch_gpt import (
    ScratchGPTConfig,
    ScratchGPTForCausalLM,
    ScratchGPTForMaskedLM,
    ScratchGPTForSequenceClassification,
)
from scratch_gpt.export.folders import export_folder, import_folder
from scratch_gpt.export.interop import from_stock, to_stock
from scratch_gpt.inference.loading import load_model
from scratch_gpt.modeling_scratch_gpt import CACHE_NAME
from wording import shows, user_error


VOCAB, PAD = 101, 3  # 101: a vocabulary that is no multiple of anything
IDS: dict[str, Any] = {
    "vocab_size": VOCAB,
    "pad_token_id": PAD,
    "bos_token_id": 1,
    "eos_token_id": [2, 5],
    "dtype": "float32",
}
ROTARY = {"hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4} | IDS
LEARNED = {"n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": 64} | IDS
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
YARN = {"rope_type": "yarn", "rope_theta": 1000.0, "factor": 4.0, "original_max_position_embeddings": 16}

SHAPES = {
    "llama-gqa-tied": LlamaConfig(**ROTARY, num_key_value_heads=2, tie_word_embeddings=True),
    "llama-head_dim-biases": LlamaConfig(**ROTARY, head_dim=20, attention_bias=True, mlp_bias=True),
    "llama-llama3": LlamaConfig(**ROTARY, num_key_value_heads=1, rope_parameters=LLAMA3, rms_norm_eps=1e-5),
    "llama-act": LlamaConfig(**ROTARY, hidden_act="gelu", attention_dropout=0.1, use_cache=False),
    "qwen3-gqa-tied": Qwen3Config(**ROTARY, num_key_value_heads=2, head_dim=20, tie_word_embeddings=True),
    "qwen3-biases": Qwen3Config(**ROTARY, num_key_value_heads=4, head_dim=12, attention_bias=True),
    "qwen3-yarn": Qwen3Config(**ROTARY, num_key_value_heads=1, head_dim=16, rope_parameters=YARN),
    "gpt2-tied": GPT2Config(**LEARNED, n_inner=192),
    "gpt2-untied-n_inner": GPT2Config(
        **LEARNED, n_inner=100, tie_word_embeddings=False, layer_norm_epsilon=0.1, initializer_range=0.1
    ),
    "gpt2-dropouts": GPT2Config(
        **LEARNED, n_inner=64, resid_pdrop=0.2, embd_pdrop=0.0, attn_pdrop=0.3, activation_function="relu"
    ),
}
CAUSAL = {"llama": LlamaForCausalLM, "qwen3": Qwen3ForCausalLM, "gpt2": GPT2LMHeadModel}
CLASSIFIER = {
    "llama": LlamaForSequenceClassification,
    "qwen3": Qwen3ForSequenceClassification,
    "gpt2": GPT2ForSequenceClassification,
}


def build(kind: type[PreTrainedModel], config: Any) -> PreTrainedModel:
    """A stock model with random weights, biases and norms too, of a size at which every one of them shows."""
    torch.manual_seed(0)
    model = kind(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    return model


def assert_same_weights(one: PreTrainedModel, other: PreTrainedModel) -> None:
    """Bit-equal state dicts."""
    first, second = one.state_dict(), other.state_dict()
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


@torch.no_grad()
def assert_same_logits(one: PreTrainedModel, other: PreTrainedModel, tolerance: float = 1e-5) -> None:
    """Equal on a left-padded batch, and on one token that follows it in the cache."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(6, VOCAB, (2, 24), generator=generator)
    mask = torch.ones_like(ids)
    mask[0, :5] = 0
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    results = []
    for model in (one, other):
        prompt = model(
            ids[:, :-1], attention_mask=mask[:, :-1], position_ids=positions[:, :-1], use_cache=True
        )
        step = model(
            ids[:, -1:],
            attention_mask=mask,
            position_ids=positions[:, -1:],
            **{CACHE_NAME: prompt.past_key_values},
        )
        results.append(torch.cat([prompt.logits[mask[:, :-1].bool()], step.logits[:, 0]]))
    assert results[0].std() > 0.5  # or the comparison would say nothing
    assert (results[0] - results[1]).abs().max() <= tolerance


@pytest.mark.parametrize("shape", SHAPES)
def test_there_and_back_is_the_same_model(shape: str) -> None:
    """Ours computes what the stock class does; back again, weights are bit-equal and the config is the one before."""
    stock = build(CAUSAL[shape.split("-")[0]], SHAPES[shape])
    ours = from_stock(stock)
    assert type(ours) is ScratchGPTForCausalLM
    assert ours.config.dialect == shape.split("-")[0]
    assert_same_logits(ours, stock)
    back = to_stock(ours)
    assert type(back) is type(stock)
    assert back.config.to_dict() == stock.config.to_dict()
    assert_same_weights(back, stock)
    assert_same_logits(back, stock, tolerance=0.0)


@pytest.mark.parametrize("dialect", CLASSIFIER)
def test_classifiers_are_converted_with_their_labels(dialect: str) -> None:
    """Scores of right-padded rows are equal; labels and the kind of problem travel."""
    config = next(config for name, config in SHAPES.items() if name.startswith(dialect))
    labels = {0: "poor", 1: "fair", 2: "good"}
    settings = {**config.to_dict(), "id2label": labels, "label2id": {name: i for i, name in labels.items()}}
    settings["problem_type"] = "regression"
    stock = build(CLASSIFIER[dialect], type(config)(**settings))
    ours = from_stock(stock)
    assert type(ours) is ScratchGPTForSequenceClassification
    assert (ours.config.num_labels, ours.config.id2label, ours.config.problem_type) == (
        3,
        labels,
        "regression",
    )
    ids = torch.randint(6, VOCAB, (2, 9), generator=torch.Generator().manual_seed(1))
    ids[1, 6:] = PAD
    mask = (ids != PAD).long()
    with torch.no_grad():
        expected = stock(ids, attention_mask=mask).logits
        assert (ours(ids, attention_mask=mask).logits - expected).abs().max() <= 1e-5
    back = to_stock(ours)
    assert type(back) is type(stock)
    assert back.config.to_dict() == stock.config.to_dict()
    assert_same_weights(back, stock)


@pytest.mark.parametrize("tied", [True, False])
def test_an_encoder_of_the_llama_dialect_is_a_eurobert(tied: bool) -> None:
    """There and back, with padding at the left: logits, weights and config."""
    config = EuroBertConfig(**ROTARY, num_key_value_heads=2, attention_bias=True, tie_word_embeddings=tied)
    stock = build(EuroBertForMaskedLM, config)
    ours = from_stock(stock)
    assert type(ours) is ScratchGPTForMaskedLM
    assert (ours.config.dialect, ours.config.is_causal) == ("llama", False)
    ids = torch.randint(6, VOCAB, (2, 9), generator=torch.Generator().manual_seed(1))
    ids[1, :3] = PAD
    mask = ids != PAD
    with torch.no_grad():
        expected = stock(ids, attention_mask=mask).logits[mask]
        assert expected.std() > 0.5
        assert (ours(ids, attention_mask=mask).logits[mask] - expected).abs().max() <= 1e-5
    back = to_stock(ours)
    assert type(back) is EuroBertForMaskedLM
    assert back.config.to_dict() == stock.config.to_dict()
    assert_same_weights(back, stock)


@pytest.mark.parametrize(
    ("kind", "settings", "to", "shown"),
    [
        (ScratchGPTForMaskedLM, {"dialect": "qwen3"}, None, "use_qk_norm=True"),
        (ScratchGPTForMaskedLM, {"dialect": "llama", "mlp_bias": True}, None, "mlp_bias=True"),
        (ScratchGPTForMaskedLM, {"dialect": "llama"}, "llama", "is_causal=False"),
        (
            ScratchGPTForSequenceClassification,
            {"dialect": "llama"},
            None,
            "ScratchGPTForSequenceClassification",
        ),
    ],
)
def test_encoders_without_a_stock_class_are_refused(kind, settings, to, shown) -> None:
    """Each says what stands in the way, and which encoders have a class."""
    config = ScratchGPTConfig(
        hidden_size=48, num_hidden_layers=1, num_attention_heads=4, is_causal=False, **IDS, **settings
    )
    with user_error("dialect_mismatch", shown, to=to or "eurobert"):
        to_stock(kind(config), to)


def test_a_stock_decoder_told_to_look_both_ways_is_refused() -> None:
    """transformers' own switch in any config: such a model is not the decoder that its class says."""
    with user_error("not_convertible", setting="is_causal", value=False):
        from_stock(LlamaForCausalLM(LlamaConfig(**ROTARY, is_causal=False)))


@pytest.mark.parametrize("dialect", CAUSAL)
def test_our_own_model_has_a_twin(dialect: str) -> None:
    """A model that began with us becomes a stock one of its dialect and comes back as it was."""
    torch.manual_seed(0)
    config = ScratchGPTConfig(
        dialect=dialect, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, **IDS
    )
    ours = build(ScratchGPTForCausalLM, config)
    stock = to_stock(ours)
    assert type(stock) is CAUSAL[dialect]
    assert not hasattr(stock.config, "auto_map")
    assert_same_logits(ours, stock)
    back = from_stock(stock)
    assert back.config.to_dict() == ours.config.to_dict()
    assert_same_weights(back, ours)


@pytest.mark.parametrize("dialect", CAUSAL)
def test_what_is_not_in_the_weights_travels_too(dialect: str) -> None:
    """dtype, mode, attention implementation and generation config are kept; no memory is shared."""
    config = next(config for name, config in SHAPES.items() if name.startswith(dialect))
    stock = build(CAUSAL[dialect], config).to(torch.bfloat16).train()
    stock.set_attn_implementation("eager")
    stock.generation_config = GenerationConfig(max_new_tokens=7, do_sample=True, top_k=9, eos_token_id=[2, 8])
    for model in (ours := from_stock(stock), to_stock(ours)):
        assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
        assert model.config.dtype == torch.bfloat16
        assert model.training
        assert model.config._attn_implementation == "eager"
        assert model.generation_config.to_dict() == stock.generation_config.to_dict()
        assert model.generation_config is not stock.generation_config
        shared = {parameter.data_ptr() for parameter in model.parameters()} & {
            parameter.data_ptr() for parameter in stock.parameters()
        }
        assert shared == set()


def test_tying_is_read_off_the_weights() -> None:
    """A head that was untied by hand stays its own matrix, whatever the config says."""
    stock = build(LlamaForCausalLM, SHAPES["llama-gqa-tied"])
    stock.lm_head.weight = torch.nn.Parameter(stock.lm_head.weight * 2)
    ours = from_stock(stock)
    assert ours.config.tie_word_embeddings is False
    assert_same_logits(ours, stock)
    tied = from_stock(build(LlamaForCausalLM, SHAPES["llama-gqa-tied"]))
    assert tied.lm_head.weight is tied.model.embed_tokens.weight


@pytest.mark.parametrize(
    ("config", "setting", "value"),
    [
        (
            GPT2Config(**LEARNED, scale_attn_by_inverse_layer_idx=True),
            "scale_attn_by_inverse_layer_idx",
            True,
        ),
        (GPT2Config(**LEARNED, reorder_and_upcast_attn=True), "reorder_and_upcast_attn", True),
        (GPT2Config(**LEARNED, scale_attn_weights=False), "scale_attn_weights", False),
        (GPT2Config(**LEARNED, add_cross_attention=True), "add_cross_attention", True),
        (LlamaConfig(**ROTARY, pretraining_tp=2), "pretraining_tp", 2),
        (
            Qwen3Config(**ROTARY, use_sliding_window=True, sliding_window=8, max_window_layers=1),
            "use_sliding_window",
            True,
        ),
        (
            Qwen3Config(**ROTARY, layer_types=["full_attention", "sliding_attention"]),
            "layer_types",
            ["full_attention", "sliding_attention"],
        ),
    ],
)
def test_what_we_have_no_switch_for_is_refused_by_name(config: Any, setting: str, value: Any) -> None:
    """The message holds the setting's name and value."""
    with user_error("not_convertible", setting=setting, value=value):
        from_stock(CAUSAL[config.model_type](config))


def test_what_our_configuration_refuses_is_named() -> None:
    """Its own check knows of half turned heads."""
    config = LlamaConfig(**ROTARY, rope_parameters={**YARN, "partial_rotary_factor": 0.5})
    with user_error("dialect_mismatch", "partial_rotary_factor=0.5", to="ScratchGPTConfig"):
        from_stock(LlamaForCausalLM(config))


@pytest.mark.parametrize(
    ("settings", "to", "expected"),
    [
        (
            {"dialect": "qwen3"},
            "llama",
            user_error("dialect_mismatch", "use_qk_norm=True", "False", to="llama"),
        ),
        (
            {"dialect": "llama", "mlp_bias": True},
            "qwen3",
            user_error("dialect_mismatch", "mlp_bias=True", "use_qk_norm=False", to="qwen3"),
        ),
        ({"dialect": "qwen3"}, "gpt2", user_error("dialect_mismatch", "position_embedding_type='rotary'")),
        ({"dialect": "gpt2"}, "llama", user_error("dialect_mismatch", "norm_type='layer_norm'")),
        (
            {"dialect": "qwen3"},
            "mistral",
            user_error("wrong_value", "qwen3, llama, gpt2, eurobert", setting="to", value="mistral"),
        ),
        (
            {"dialect": "llama", "hidden_size": 50, "head_dim": 12},
            None,
            user_error("dialect_mismatch", 50, to="LlamaConfig"),
        ),
    ],
)
def test_foreign_dialects_are_refused_by_switch(
    settings: dict[str, Any], to: str | None, expected: user_error
) -> None:
    """What the other design lacks is named, with both values."""
    config = ScratchGPTConfig(
        **{"hidden_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4, **IDS, **settings}
    )
    with expected:
        to_stock(ScratchGPTForCausalLM(config), to)


def test_models_of_another_kind_are_refused() -> None:
    """Neither another architecture, nor a changed one, nor one in two dtypes is guessed at."""
    bert = BertForMaskedLM(
        BertConfig(hidden_size=8, num_attention_heads=1, num_hidden_layers=1, vocab_size=9)
    )
    for convert in (from_stock, to_stock):
        with user_error("wrong_model", found=["BertForMaskedLM"]):
            convert(bert)
    mixed = build(LlamaForCausalLM, SHAPES["llama-head_dim-biases"])
    mixed.lm_head.to(torch.bfloat16)
    with user_error("mixed_dtypes", dtypes=["torch.bfloat16", "torch.float32"]):
        from_stock(mixed)
    changed = build(Qwen3ForCausalLM, SHAPES["qwen3-biases"])
    changed.model.layers[0].mlp.adapter = torch.nn.Linear(2, 2)
    with user_error("unexpected_weight", "mlp.adapter"):
        from_stock(changed)


# The config.json files as published, without what only names versions and tasks.
PUBLISHED = {
    "gpt2": GPT2Config(),  # the defaults are the published model
    "Llama-3.2-1B": LlamaConfig(
        vocab_size=128256,
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=64,
        max_position_embeddings=131072,
        rms_norm_eps=1e-5,
        rope_theta=500000.0,
        rope_scaling={
            "rope_type": "llama3",
            "factor": 32.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
        tie_word_embeddings=True,
        bos_token_id=128000,
        eos_token_id=128001,
    ),
    "SmolLM2-135M": LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        initializer_range=0.041666666666666664,
        rms_norm_eps=1e-5,
        rope_theta=100000,
        rope_scaling=None,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
    ),
    "Qwen3-0.6B": Qwen3Config(
        vocab_size=151936,
        hidden_size=1024,
        intermediate_size=3072,
        num_hidden_layers=28,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        max_position_embeddings=40960,
        rms_norm_eps=1e-6,
        rope_theta=1000000,
        rope_scaling=None,
        sliding_window=None,
        max_window_layers=28,
        tie_word_embeddings=True,
        bos_token_id=151643,
        eos_token_id=151645,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_shapes_convert_both_ways(name: str) -> None:
    """Full width, two layers; of the largest vocabularies, 8192 rows: the rest would be more of the same."""
    settings = PUBLISHED[name].to_dict() | {"layer_types": None, "dtype": "float32"}
    settings |= {"num_hidden_layers": 2, "n_layer": 2}
    if settings["vocab_size"] > 100_000:
        settings |= {"vocab_size": 8192, "bos_token_id": 1, "eos_token_id": 2}
    settings = {key: value for key, value in settings.items() if hasattr(PUBLISHED[name], key)}
    torch.manual_seed(0)
    stock = CAUSAL[PUBLISHED[name].model_type](type(PUBLISHED[name])(**settings)).eval()
    ours = from_stock(stock)
    assert_same_logits(ours, stock)
    back = to_stock(ours)
    if getattr(stock.config, "n_inner", 1) is None:
        stock.config.n_inner = 4 * stock.config.n_embd  # what None stands for; the way back writes it out
    assert back.config.to_dict() == stock.config.to_dict()
    assert_same_weights(back, stock)


def save(folder: Path, model: PreTrainedModel, tokenizer: Any) -> Path:
    """A model folder as its owner would save it."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def greedy(model: PreTrainedModel, tokenizer: Any) -> str:
    """Forty tokens that follow a prompt."""
    inputs = tokenizer("The capital of", return_tensors="pt")
    settings = {"max_new_tokens": 40, "do_sample": False, "eos_token_id": None}
    return tokenizer.decode(model.generate(**inputs, **settings, pad_token_id=0)[0])


def test_older_names_stand_beside_the_new_ones(tiny_tokenizer, tmp_path: Path) -> None:
    """transformers before 5 would take its own theta and dtype; an encoder's mask token is the tokenizer's."""
    config = ScratchGPTConfig(
        **{**ROTARY, "vocab_size": len(tiny_tokenizer)},
        dialect="llama",
        is_causal=False,
        rope_parameters=LLAMA3,
    )
    save(tmp_path / "ours", ScratchGPTForMaskedLM(config), tiny_tokenizer)
    assert export_folder(tmp_path / "ours", tmp_path / "stock") == []
    written = json.loads((tmp_path / "stock" / "config.json").read_text())
    assert written["rope_theta"] == written["rope_parameters"]["rope_theta"] == LLAMA3["rope_theta"]
    assert written["rope_scaling"] == {name: value for name, value in LLAMA3.items() if name != "rope_theta"}
    assert written["torch_dtype"] == written["dtype"] == "float32"
    assert written["mask_token_id"] == tiny_tokenizer.mask_token_id
    assert EuroBertConfig.from_pretrained(tmp_path / "stock").rope_parameters == LLAMA3


def test_exported_folders_need_no_code_of_ours(tiny_tokenizer, tmp_path: Path) -> None:
    """In a process that cannot import this package, Auto classes open each dialect and write the same greedy text."""
    expected = {}
    for dialect in CAUSAL:
        config = ScratchGPTConfig(
            dialect=dialect,
            vocab_size=len(tiny_tokenizer),
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            initializer_range=0.2,
        )
        model = build(ScratchGPTForCausalLM, config)
        model.generation_config.max_new_tokens = 17
        save(tmp_path / f"ours-{dialect}", model, tiny_tokenizer)
        assert export_folder(tmp_path / f"ours-{dialect}", tmp_path / dialect) == []
        assert [path.name for path in (tmp_path / dialect).iterdir() if path.suffix == ".py"] == []
        assert [
            path.name for path in (tmp_path / dialect).iterdir() if b"auto_map" in path.read_bytes()
        ] == []
        assert json.loads((tmp_path / dialect / "generation_config.json").read_text())["max_new_tokens"] == 17
        unknown = json.loads((tmp_path / dialect / "tokenizer_config.json").read_text()).get("unk_token")
        assert unknown == ("<|endoftext|>" if dialect == "gpt2" else None)  # CTranslate2's GPT-2 needs one
        expected[dialect] = greedy(model, tiny_tokenizer)
    assert len(set(expected.values())) == 3
    chat = [{"role": "user", "content": "hi <|im_end|>"}]
    expected["chat"] = tiny_tokenizer.apply_chat_template(chat, tokenize=False)
    code = (
        "import json, sys; sys.modules['scratch_gpt'] = None\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "written = {}\n"
        "for dialect in ('llama', 'qwen3', 'gpt2'):\n"
        "    model = AutoModelForCausalLM.from_pretrained(dialect)\n"
        "    tokenizer = AutoTokenizer.from_pretrained(dialect)\n"
        "    inputs = tokenizer('The capital of', return_tensors='pt')\n"
        "    settings = dict(max_new_tokens=40, do_sample=False, eos_token_id=None, pad_token_id=0)\n"
        "    written[dialect] = tokenizer.decode(model.generate(**inputs, **settings)[0])\n"
        f"written['chat'] = tokenizer.apply_chat_template({chat!r}, tokenize=False)\n"
        "print(json.dumps(written))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == expected


@pytest.fixture
def stock_folder(tmp_path: Path) -> Path:
    """A GPT-2 of transformers with a tokenizer of its class, which has no chat template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("Ġ", "c"), ("o", "f")]
    tokens = [*alphabet, *("".join(pair) for pair in merges)]
    backend = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = GPT2Tokenizer(tokenizer_object=backend)
    config = GPT2Config(**{**LEARNED, "vocab_size": 264, "eos_token_id": tokenizer.eos_token_id})
    return save(tmp_path / "stock", build(GPT2LMHeadModel, config), tokenizer)


def test_imported_folder_is_an_ordinary_checkpoint(stock_folder: Path, tmp_path: Path) -> None:
    """It holds the remote code, opens as our own models do, writes the same text; and goes out again as it came."""
    out = tmp_path / "out" / "gpt2"
    (line,) = import_folder(stock_folder, out)
    assert shows(line, "chat template", "sft")
    assert (out / "modeling_scratch_gpt.py").is_file()
    model, tokenizer = load_model(out)
    assert type(model) is ScratchGPTForCausalLM
    stock = GPT2LMHeadModel.from_pretrained(stock_folder)
    stock_tokenizer = AutoTokenizer.from_pretrained(stock_folder)
    assert len(tokenizer("The cat of the")["input_ids"]) < 14  # the merges are there
    assert tokenizer("The cat of the") == stock_tokenizer("The cat of the")
    assert greedy(model, tokenizer) == greedy(stock, stock_tokenizer)
    export_folder(out, tmp_path / "again", to="gpt2")
    assert_same_weights(GPT2LMHeadModel.from_pretrained(tmp_path / "again"), stock)


def test_weights_named_as_openai_published_them_are_read(stock_folder: Path, tmp_path: Path) -> None:
    """The published GPT-2 file lacks the prefix of the class and holds the causal masks."""
    weights = load_file(stock_folder / "model.safetensors")
    published = {name.removeprefix("transformer."): tensor for name, tensor in weights.items()}
    published |= {f"h.{layer}.attn.bias": torch.ones(1, 1, 64, 64).tril() for layer in range(2)}
    save_file(published, stock_folder / "model.safetensors", metadata={"format": "pt"})
    import_folder(stock_folder, tmp_path / "out")
    stock = GPT2LMHeadModel(GPT2Config.from_pretrained(stock_folder))
    stock.load_state_dict(weights, strict=False)
    assert_same_weights(to_stock(load_model(tmp_path / "out")[0]), stock)


def test_folder_without_tokenizer_says_so(stock_folder: Path, tmp_path: Path) -> None:
    """The weights are converted all the same."""
    for path in stock_folder.glob("*token*"):
        path.unlink()
    (note,) = import_folder(stock_folder, tmp_path / "out")
    assert note.startswith("no tokenizer in")
    assert (tmp_path / "out" / "model.safetensors").is_file()


def spoil_architecture(folder: Path) -> None:
    """Another class in config.json."""
    config = json.loads((folder / "config.json").read_text())
    config |= {"architectures": ["BertForMaskedLM"], "model_type": "bert"}
    (folder / "config.json").write_text(json.dumps(config))


def spoil_type(folder: Path) -> None:
    """A value of the wrong type in config.json."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"n_embd": "wide"}))


def drop_weight(folder: Path) -> None:
    """One tensor less."""
    weights = load_file(folder / "model.safetensors")
    del weights["transformer.h.1.ln_2.bias"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def cut_weights(folder: Path) -> None:
    """Half a file."""
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


SPOILERS = [
    (spoil_architecture, user_error("wrong_model", found=["BertForMaskedLM"])),
    (spoil_type, user_error("damaged_model", "n_embd")),
    (drop_weight, user_error("weight_missing", weight="transformer.h.1.ln_2.bias")),
    (cut_weights, user_error("damaged_model")),
    (lambda folder: (folder / "config.json").unlink(), user_error("no_model", "config.json")),
    (lambda folder: (folder / "config.json").write_text("{"), user_error("damaged_model")),
    (
        lambda folder: (folder / "model.safetensors").rename(folder / "model.bin"),
        user_error("damaged_model", "safetensors"),
    ),
    (lambda folder: (folder / "tokenizer.json").write_text("{}"), user_error("damaged_tokenizer")),
]


@pytest.mark.parametrize(("spoil", "expected"), SPOILERS)
def test_damaged_folders_are_refused_in_one_line(
    spoil: Any, expected: user_error, stock_folder: Path, tmp_path: Path
) -> None:
    """Each with its cause, and nothing is left behind."""
    spoil(stock_folder)
    with expected as error:
        import_folder(stock_folder, tmp_path / "out")
    assert str(stock_folder) in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["stock"]


def test_what_is_there_is_never_overwritten(stock_folder: Path, tmp_path: Path) -> None:
    """A folder that holds anything is refused, the source itself included; an empty one is taken."""
    before = sorted(path.name for path in stock_folder.iterdir())
    with user_error("output_occupied", folder=stock_folder):
        import_folder(stock_folder, stock_folder)
    assert sorted(path.name for path in stock_folder.iterdir()) == before
    (tmp_path / "empty").mkdir()
    import_folder(stock_folder, tmp_path / "empty")
    assert (tmp_path / "empty" / "config.json").is_file()
