# SPDX-License-Identifier: Apache-2.0
"""Continued pretraining: what it begins with, what may change, what is measured, and what is refused."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from scratch_gpt.data.shards.arguments import ShardsArguments
from scratch_gpt.data.shards.blocks import PackedBlocks
from scratch_gpt.data.shards.document_tokenizer import load_document_tokenizer
from scratch_gpt.data.shards.writing import write_shards
from scratch_gpt.runs.log import RunLog
from scratch_gpt.runs.provenance import read_origin, read_provenance
from scratch_gpt.tokenization import END_OF_TEXT, IM_END, save_tokenizer, train_tokenizer
from scratch_gpt.training.pretrain import pretraining
from scratch_gpt.training.pretrain.continued import base_config, load_base, read_base_run
from scratch_gpt.training.pretrain.loss import use_chunked_loss
from wording import shows, user_error


STAGE = Path(__file__).parents[3] / "train" / "pretrain.py"
FSDP2 = Path(__file__).parents[1] / "fsdp2_on_cpu.py"
SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
SHAPE |= {"num_key_value_heads": 2, "max_position_embeddings": 64}
STOCK = {
    "qwen3": (Qwen3ForCausalLM, Qwen3Config(vocab_size=512, head_dim=16, attention_dropout=0.1, **SHAPE)),
    "llama": (LlamaForCausalLM, LlamaConfig(vocab_size=512, tie_word_embeddings=True, **SHAPE)),
    "gpt2": (GPT2LMHeadModel, GPT2Config(vocab_size=512, n_embd=32, n_layer=2, n_head=2, n_positions=64)),
}
BASE = {"model_config": {}, "tokenizer": ""}  # of a run that begins with a model
BY_RULE = {"learning_rate": None, "warmup_steps": None}


@pytest.fixture(scope="session")
def stock_folder(trained_tokenizer, tmp_path_factory):
    """`stock_folder(name)`: a model of transformers' own class, with the tokenizer of the shards; never changed."""
    root = tmp_path_factory.mktemp("stock")

    def write(name: str) -> Path:
        if not (root / name).exists():
            torch.manual_seed(0)
            kind, config = STOCK[name]
            kind(config).save_pretrained(root / name)
            save_tokenizer(trained_tokenizer, root / name)
        return root / name

    return write


@pytest.fixture(scope="session")
def other_shards(data, tmp_path_factory) -> str:
    """Arithmetic for the tokenizer of `data`: shards of one source called sums."""
    folder = tmp_path_factory.mktemp("other")
    sums = "\n\n".join(f"{a} and {b} are {a + b}." for a in range(60) for b in range(40))
    (folder / "sums.txt").write_text(sums)
    write_shards(
        ShardsArguments(
            sources=[{"name": "sums", "path": str(folder / "sums.txt"), "filters": False}],
            tokenizer=data["tokenizer"],
            output_dir=str(folder / "shards"),
            sequence_length=64,
            validation_fraction=0.05,
        )
    )
    return str(folder / "shards")


def evaluations(folder: Path) -> list[dict]:
    return [row for row in RunLog(folder / "log.jsonl").rows() if "eval_loss" in row]


def training(folder: Path) -> list[dict]:
    clocks = ("elapsed_seconds", "tokens_per_second")
    rows = [row for row in RunLog(folder / "log.jsonl").rows() if "loss" in row]
    return [{name: value for name, value in row.items() if name not in clocks} for row in rows]


def test_a_run_begins_where_its_base_ended(
    stage, arguments_for, other_shards, data, tmp_path, capsys
) -> None:
    """Other shards: what is measured before the first step is the base; on the old held-out blocks, what its log says."""
    stage.main(arguments_for(tmp_path / "base", learning_rate=7e-3))
    capsys.readouterr()
    changes = {**BASE, **BY_RULE, "model_name_or_path": str(tmp_path / "base"), "shards": other_shards}
    changes["validation_shards"] = {"old": data["shards"]}
    stage.main(arguments_for(tmp_path / "adapted", **changes))
    last, rows = evaluations(tmp_path / "base")[-1], evaluations(tmp_path / "adapted")
    assert [row["step"] for row in rows] == [0, 3, 6]
    assert rows[0]["eval_bits_per_byte_old"] == pytest.approx(last["eval_bits_per_byte"], rel=1e-6)
    assert rows[0]["eval_loss_old"] == pytest.approx(last["eval_loss"], rel=1e-6)
    assert rows[-1]["eval_bits_per_byte"] < rows[0]["eval_bits_per_byte"]
    # re-warmed to the base's peak, over 1% of 6 steps
    assert training(tmp_path / "adapted")[0]["learning_rate"] == pytest.approx(7e-3)
    assert shows(capsys.readouterr().out, "learning_rate 0.007", "2403.08763", "warmup_steps 1")
    assert [record["folder"] for record in read_provenance(tmp_path / "adapted")] == ["base", "adapted"]
    with user_error("settings_conflict", "sums", setting="validation_shards"):
        stage.main(arguments_for(tmp_path / "x", **changes | {"validation_shards": {"sums": data["shards"]}}))


def test_a_checkpoint_of_the_stable_part_is_told_from_one_of_the_decay(
    stage, arguments_for, tmp_path
) -> None:
    """12 steps, 2 of warm-up, the last 5 of decay: step 6 is at the peak, step 10 is not."""
    stage.main(arguments_for(tmp_path / "base", max_steps=12, save_total_limit=9))
    found = {step: read_base_run(tmp_path / "base" / f"checkpoint-{step}") for step in (6, 10)}
    assert [found[step].is_stable for step in (6, 10)] == [True, False]
    assert (found[6].learning_rate, found[6].step) == (7e-3, 6)
    assert not read_base_run(tmp_path / "base").is_stable  # the finished model


@pytest.mark.parametrize("name", STOCK)
@pytest.mark.parametrize("optim", ["muon", "adamw"])
def test_a_stock_class_is_trained_and_saved_as_such(
    stage, arguments_for, stock_folder, tmp_path, monkeypatch, name, optim
) -> None:
    """The first loss is the class's own on the documents one by one; killed and resumed, the same bits."""
    if (name, optim) == ("llama", "adamw"):
        pytest.skip("as qwen3")
    folder, first = stock_folder(name), []
    settings = {**BASE, **BY_RULE, "model_name_or_path": str(folder), "optim": optim, "max_steps": 4}
    settings |= {"activation_checkpointing": True, "validation_shards": {}}
    read_step = pretraining.Pretraining.read_step

    def read(self):
        batches = read_step(self)
        first.append((self.step, batches))
        if self.step == 3 and len(first) == 8:
            raise KeyboardInterrupt
        return batches

    monkeypatch.setattr(pretraining.Pretraining, "read_step", read)
    stage.main(arguments_for(tmp_path / "straight", **settings))
    with pytest.raises(KeyboardInterrupt):
        stage.main(arguments_for(tmp_path / "killed", **settings))
    stage.main(arguments_for(tmp_path / "killed", **settings, resume_from_checkpoint="latest"))
    assert training(tmp_path / "straight") == training(tmp_path / "killed")
    weights = [(tmp_path / run / "model.safetensors").read_bytes() for run in ("straight", "killed")]
    assert weights[0] == weights[1]
    config = json.loads((tmp_path / "straight" / "config.json").read_text())
    assert config["architectures"] == [STOCK[name][0].__name__]
    assert "auto_map" not in config
    assert type(AutoModelForCausalLM.from_pretrained(tmp_path / "straight")) is STOCK[name][0]
    assert read_origin(tmp_path / "straight")["name"] == name
    if name == "llama":  # has no dropout
        (batch,) = first[0][1]
        model, nats, count = STOCK[name][0].from_pretrained(folder).requires_grad_(False), 0.0, 0
        for ids, positions in zip(batch["input_ids"], batch["position_ids"], strict=True):
            starts = [*(positions == 0).nonzero().flatten().tolist(), len(ids)]
            for start, stop in itertools.pairwise(starts):
                document = ids[start:stop][None]
                predicted = document[:, 1:] != 1  # padding
                if predicted.any():
                    losses = torch.nn.functional.cross_entropy(
                        model(document).logits[0, :-1], document[0, 1:], reduction="none"
                    )
                    nats, count = nats + float(losses[predicted[0]].sum()), count + int(predicted.sum())
        assert training(tmp_path / "straight")[0]["loss"] == pytest.approx(nats / count, rel=1e-4)


@pytest.mark.parametrize("name", STOCK)
def test_the_loss_of_a_stock_class_in_chunks(stock_folder, name) -> None:
    """Its own loss and gradients, of all logits at once."""
    config = AutoConfig.from_pretrained(stock_folder(name))
    for dropout in ("attention_dropout", "attn_pdrop", "embd_pdrop", "resid_pdrop"):
        if hasattr(config, dropout):
            setattr(config, dropout, 0.0)
    models = [load_base(stock_folder(name), config, "causal", "sdpa").train() for _ in range(2)]
    ids = torch.randint(4, 512, (2, 20), generator=torch.Generator().manual_seed(0))
    batch = {"input_ids": ids, "labels": ids, "num_items_in_batch": torch.tensor(38.0), "use_cache": False}
    use_chunked_loss(models[1], 7)
    losses = [model(**batch).loss for model in models]
    torch.testing.assert_close(losses[0], losses[1])
    for loss in losses:
        loss.backward()
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["qwen3", "llama"])
def test_the_context_may_be_extended(stock_folder, trained_tokenizer, name) -> None:
    """By positions, by theta, by YaRN: transformers' own class computes with it; what is not said stays."""
    folder = stock_folder(name)
    theta = AutoConfig.from_pretrained(folder).rope_parameters["rope_theta"]
    longer = {"max_position_embeddings": 128}
    config = base_config(folder, "causal", longer, trained_tokenizer, 128)
    assert config.max_position_embeddings == 128
    assert config.rope_parameters["rope_theta"] == theta
    yarn = {**longer, "rope_parameters": {"rope_type": "yarn", "factor": 2.0}}
    config = base_config(folder, "causal", yarn, trained_tokenizer, 128)
    assert config.rope_parameters["original_max_position_embeddings"] == 64
    model = load_base(folder, config, "causal", "sdpa").eval()
    reference = (
        STOCK[name][0]
        .from_pretrained(
            folder,
            max_position_embeddings=128,
            rope_parameters={
                "rope_type": "yarn",
                "factor": 2.0,
                "rope_theta": theta,
                "original_max_position_embeddings": 64,
            },
        )
        .eval()
    )
    ids = torch.arange(100)[None]
    torch.testing.assert_close(model(ids).logits, reference(ids).logits)
    plain = STOCK[name][0].from_pretrained(folder, max_position_embeddings=128).eval()
    assert (model(ids).logits - plain(ids).logits).abs().max() > 1e-5


@pytest.mark.parametrize(
    ("model_config", "code", "shown"),
    [
        ({"hidden_size": 64, "num_hidden_layers": 3}, "settings_conflict", "hidden_size, num_hidden_layers"),
        ({"hiden_size": 64}, "unknown_key", "hiden_size"),
        ({"rope_parameters": {"rope_type": "spiral"}}, "invalid_model_config", "spiral"),
        ({"rope_parameters": {"rope_type": "yarn", "factro": 2.0}}, "unknown_key", "factro"),
        ({"rope_parameters": {"rope_type": "linear"}}, "invalid_model_config", "factor"),
        ({"max_position_embeddings": 32}, "context_too_short", "32"),
    ],
)
def test_what_cannot_change(stock_folder, trained_tokenizer, model_config, code, shown) -> None:
    """The architecture, by name; a misspelled key; positions that are none."""
    with user_error(code, shown):
        base_config(stock_folder("qwen3"), "causal", model_config, trained_tokenizer, 64)


def test_learned_positions_are_as_many_as_they_are(stock_folder, trained_tokenizer) -> None:
    """Longer blocks, or more positions, for GPT-2."""
    with user_error("context_too_short", 128, max_position_embeddings=64):
        base_config(stock_folder("gpt2"), "causal", {}, trained_tokenizer, 128)
    with user_error("settings_conflict", setting="max_position_embeddings"):
        base_config(stock_folder("gpt2"), "causal", {"max_position_embeddings": 128}, trained_tokenizer, 128)


def test_folders_that_cannot_be_begun_with(
    stage, arguments_for, stock_folder, encoder_decoder_folder, data, trained_tokenizer, tmp_path
) -> None:
    """No model, no tokenizer, another tokenizer, an encoder, quantized weights, its own folder: nothing is written."""
    folder = stock_folder("qwen3")

    def begin(model, **changes):
        return stage.main(
            arguments_for(tmp_path / "out", **{**BASE, "model_name_or_path": str(model), **changes})
        )

    (tmp_path / "empty").mkdir()
    with user_error("no_model", tmp_path / "empty"):
        begin(tmp_path / "empty")
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        (bare / name).write_bytes((folder / name).read_bytes())
    with user_error("no_tokenizer", bare):
        begin(bare)
    other = train_tokenizer(["to be or not to be"], 512)
    save_tokenizer(other, bare)
    with user_error("another_tokenizer", "scratch-gpt shards", bare):  # shards of another vocabulary
        begin(bare)
    with user_error("another_tokenizer", "scratch-gpt shards", data["tokenizer"]):
        begin(bare, tokenizer=data["tokenizer"])
    with user_error("wrong_model", "ScratchGPTForConditionalGeneration"):
        begin(encoder_decoder_folder)
    with user_error("wrong_model", "Qwen3ForCausalLM"):
        begin(folder, objective="masked")
    save_tokenizer(trained_tokenizer, bare)
    config = json.loads((folder / "config.json").read_text())
    (bare / "config.json").write_text(
        json.dumps({**config, "quantization_config": {"quant_method": "gptq", "bits": 4}})
    )
    with user_error("quantized_model", bare):
        begin(bare)
    (bare / "config.json").write_text(json.dumps({**config, "vocab_size": 500}))
    with user_error("vocab_size_too_small", vocab_size=500, needed=512):
        begin(bare)
    assert not (tmp_path / "out").exists()
    with user_error("settings_conflict", setting="output_dir"):
        arguments_for(folder, **BASE, model_name_or_path=str(folder))


def test_a_class_whose_documents_see_each_other_is_refused(trained_tokenizer, tmp_path) -> None:
    """BLOOM's positions are distances alone: nothing tells it where a document begins."""
    BloomForCausalLM(BloomConfig(vocab_size=512, hidden_size=32, n_layer=1, n_head=2)).save_pretrained(
        tmp_path
    )
    config = base_config(tmp_path, "causal", {}, trained_tokenizer, 64)
    with user_error("documents_mix", "BloomForCausalLM", folder=tmp_path):
        load_base(tmp_path, config, "causal", "eager")


def test_a_chat_model_becomes_a_base_model(stage, arguments_for, chat_folder, tmp_path, capsys) -> None:
    """Documents end as the shards' do, which a line says; what comes out stops there too."""
    stage.main(arguments_for(tmp_path / "out", **BASE, model_name_or_path=str(chat_folder), max_steps=1))
    assert shows(capsys.readouterr().out, "chat model", "scratch-gpt sft")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tmp_path / "out")
    assert tokenizer.eos_token == END_OF_TEXT
    stops = json.loads((tmp_path / "out" / "generation_config.json").read_text())["eos_token_id"]
    assert set(stops) == set(tokenizer.convert_tokens_to_ids([END_OF_TEXT, IM_END]))


def test_shards_and_a_run_with_the_tokenizer_of_a_published_model(
    stage, arguments_for, trained_tokenizer, tmp_path
) -> None:
    """As Llama's: other special tokens, none for padding, which the end of a document then does."""
    text = trained_tokenizer.backend_tokenizer.to_str().replace("<|endoftext|>", "<|end_of_text|>")
    text = text.replace("<|pad|>", "<|fill|>").replace("<|im_start|>", "<|a|>").replace("<|im_end|>", "<|b|>")
    (tmp_path / "tokenizer.json").write_text(text)
    PreTrainedTokenizerFast(
        tokenizer_file=str(tmp_path / "tokenizer.json"), eos_token="<|end_of_text|>"
    ).save_pretrained(tmp_path / "llama")
    kind, config = STOCK["llama"]
    kind(config).save_pretrained(tmp_path / "llama")
    tokenizer = load_document_tokenizer(tmp_path / "llama")
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == 0
    documents = [f"The cat number {number} sat on the mat." for number in range(400)]
    (tmp_path / "text.txt").write_text("\n\n".join(documents))
    write_shards(
        ShardsArguments(
            sources=[{"name": "cats", "path": str(tmp_path / "text.txt"), "filters": False}],
            tokenizer=str(tmp_path / "llama"),
            output_dir=str(tmp_path / "shards"),
            sequence_length=64,
            validation_fraction=0.05,
        )
    )
    blocks = PackedBlocks(tmp_path / "shards" / "train", tokenizer)
    tokens = np.concatenate([blocks[index] for index in range(len(blocks))])
    ends = (tokens == 0) & (np.append(-1, tokens[:-1]) != 0)
    assert ends.sum() == blocks.manifest["documents"]
    settings = {**BASE, "model_name_or_path": str(tmp_path / "llama"), "shards": str(tmp_path / "shards")}
    stage.main(arguments_for(tmp_path / "out", **settings, max_steps=2))
    assert len(evaluations(tmp_path / "out")) == 2


@pytest.mark.slow
@pytest.mark.parametrize("script", [STAGE, FSDP2], ids=["ddp", "fsdp2"])
@pytest.mark.parametrize("name", ["qwen3", "gpt2"])
def test_two_processes_train_a_stock_class_as_one(start, stock_folder, tmp_path, script, name) -> None:
    """Losses, norms and evaluations within float error; with sharded weights, the loss in chunks too."""
    folder = tmp_path / "model"
    model = STOCK[name][0].from_pretrained(stock_folder(name))
    for dropout in ("attention_dropout", "attn_pdrop", "embd_pdrop", "resid_pdrop"):
        if hasattr(model.config, dropout):
            setattr(model.config, dropout, 0.0)
    model.save_pretrained(folder)
    load_document_tokenizer(stock_folder(name)).save_pretrained(folder)
    settings = {**BASE, "model_name_or_path": str(folder), "max_steps": 4}
    for run, processes, file in (("one", 1, STAGE), ("two", 2, script)):
        batch = {"per_device_train_batch_size": 8 // processes}
        process = start(tmp_path / run, processes, file, **settings, **batch)
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    for one, two in zip(*(training(tmp_path / run) for run in ("one", "two")), strict=True):
        assert one["token_hash"] == two["token_hash"]
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
        assert two["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-4)
    for one, two in zip(*(evaluations(tmp_path / run) for run in ("one", "two")), strict=True):
        assert two["eval_bits_per_byte"] == pytest.approx(one["eval_bits_per_byte"], rel=1e-5)
    assert type(AutoModelForCausalLM.from_pretrained(tmp_path / "two")) is STOCK[name][0]
