# SPDX-License-Identifier: Apache-2.0
"""The objectives: exact resuming, figures against plain loops over single documents, stock classes, wrong settings."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoModelForSeq2SeqLM

from scratch_gpt.data.shards.blocks import PackedBlocks
from scratch_gpt.inference.masked import pseudo_nll, sampled_pseudo_nll
from scratch_gpt.runs.log import RunLog
from scratch_gpt.tokenization import load_tokenizer
from scratch_gpt.training.pretrain import pretraining
from scratch_gpt.training.pretrain.objectives import OBJECTIVES
from wording import user_error


SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
MODERNBERT = {"model_type": "modernbert", **SMALL, "intermediate_size": 64}
AUTO_CLASSES = {"masked": AutoModelForMaskedLM, "span": AutoModelForSeq2SeqLM}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def blocks(data) -> list[np.ndarray]:
    """Six held-out blocks of several documents."""
    held_out = PackedBlocks(Path(data["shards"]) / "validation")
    return [held_out[number] for number in range(6)]


@pytest.fixture
def made(fresh):
    """`made(objective, **changes)`: the objective and its model, in evaluation mode, larger than initial weights."""

    def make(objective, **changes):
        torch.manual_seed(0)
        made, model = fresh(objective, **{"model_config": SMALL, **changes})
        model.eval()
        with torch.no_grad():
            for weight in model.parameters():
                weight.mul_(3.0) if weight.ndim == 2 else None
        return made, model

    return make


class Killed(BaseException):
    """Ends the run where it stands, as a kill does."""


@pytest.mark.parametrize("objective", ["masked", "span"])
def test_a_killed_run_equals_the_one_left_alone(
    objective, stage, arguments_for, tmp_path, monkeypatch
) -> None:
    """With dropout and micro-batches: every logged number and every weight, bit for bit; and it has learned."""
    settings = {"objective": objective, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    stage.main(arguments_for(tmp_path / "straight", **settings))
    read_step = pretraining.Pretraining.read_step

    def read(self):
        if self.step == 5:
            raise Killed
        return read_step(self)

    monkeypatch.setattr(pretraining.Pretraining, "read_step", read)
    with pytest.raises(Killed):
        stage.main(arguments_for(tmp_path / "killed", **settings))
    monkeypatch.setattr(pretraining.Pretraining, "read_step", read_step)
    stage.main(arguments_for(tmp_path / "killed", **settings, resume_from_checkpoint="latest"))
    logs = []
    for name in ("straight", "killed"):
        logs.append(
            [
                {
                    key: value
                    for key, value in row.items()
                    if key not in ("elapsed_seconds", "tokens_per_second")
                }
                for row in RunLog(tmp_path / name / "log.jsonl").rows()
            ]
        )
    assert logs[0] == logs[1]
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("straight", "killed")]
    assert weights[0] == weights[1]
    losses = [row["loss"] for row in logs[0] if "loss" in row]
    assert losses[0] == pytest.approx(math.log(512), abs=0.3)
    assert losses[-1] < losses[0] - 0.1
    AUTO_CLASSES[objective].from_pretrained(tmp_path / "straight")


def test_micro_batches_do_not_change_the_step(stage, arguments_for, tmp_path) -> None:
    """8 blocks at once or 4 times 2: the same corruption, and the same loss within float32 rounding.

    With AdamW: Muon computes in bfloat16, where a rounding of the gradient can become a step of 2^-8.
    """
    logs = []
    for size in (8, 2):
        output = tmp_path / str(size)
        settings = {"objective": "span", "optim": "adamw", "model_config": SMALL, "max_steps": 2}
        parts = {"per_device_train_batch_size": size, "gradient_accumulation_steps": 8 // size}
        stage.main(arguments_for(output, **settings, **parts))
        logs.append([row["loss"] for row in RunLog(output / "log.jsonl").rows() if "loss" in row])
    assert logs[0] == pytest.approx(logs[1], rel=1e-5)


def single_documents(tokenizer, block) -> list[list[int]]:
    """The documents of a block, each with its end."""
    text = block[block != tokenizer.pad_token_id]
    parts = np.split(text, np.flatnonzero(text == tokenizer.eos_token_id) + 1)
    return [part.tolist() for part in parts if len(part)]


@pytest.mark.parametrize("model_config", [SMALL, MODERNBERT], ids=["ours", "modernbert"])
def test_pseudo_perplexity_equals_a_plain_loop(made, blocks, trained_tokenizer, model_config) -> None:
    """Each text token of each document hidden alone, one forward pass a token; packed documents stay apart.

    transformers' own class gets the mask that its positions do not give it.
    """
    objective, model = made("masked", model_config=model_config)
    expected, count = 0.0, 0
    for document in single_documents(trained_tokenizer, blocks[0]):
        for place, token in enumerate(document):
            if token == trained_tokenizer.eos_token_id:
                continue
            hidden = torch.tensor([document])
            hidden[0, place] = trained_tokenizer.mask_token_id
            positions = torch.arange(len(document))[None]
            with torch.no_grad():
                log_probs = model(input_ids=hidden, position_ids=positions).logits[0, place].log_softmax(-1)
            expected -= log_probs[token].item()
            count += 1
    nats, tokens = pseudo_nll(model, blocks[0], objective.held_out, CPU, batch_size=7)
    assert tokens == count
    assert nats == pytest.approx(expected, rel=1e-4)


def test_the_sampled_pseudo_perplexity_estimates_the_whole(made, blocks) -> None:
    """Over 400 draws of one token a document, the mean is that of all tokens within 2%."""
    objective, model = made("masked")
    nats, tokens = pseudo_nll(model, blocks[0], objective.held_out, CPU, batch_size=64)
    nll = sampled_pseudo_nll(model, [blocks[0]] * 400, range(400), objective.held_out, CPU)
    assert nll[:, 1].tolist() == [tokens] * 400
    assert (nll[:, 0] / nll[:, 1]).mean().item() == pytest.approx(nats / tokens, rel=0.02)


def test_masked_figures_equal_a_plain_loop(made, blocks, trained_tokenizer) -> None:
    """Loss and accuracy at the hidden tokens, of documents one by one."""
    objective, model = made("masked")
    metrics = objective.metrics(objective.nll(model, blocks, list(range(6)), CPU).sum(0))
    batch = objective.held_out(blocks, range(6))
    nats, right = [], []
    for ids, labels, positions in zip(
        *(batch[name] for name in ("input_ids", "labels", "position_ids")), strict=True
    ):
        starts = [*torch.where(positions == 0)[0].tolist(), len(ids)]
        for first, last in itertools.pairwise(starts):
            with torch.no_grad():
                log_probs = model(input_ids=ids[None, first:last]).logits[0].log_softmax(-1)
            for log_prob, label in zip(log_probs, labels[first:last].tolist(), strict=True):
                if label != -100:
                    nats.append(-log_prob[label].item())
                    right.append(log_prob.argmax().item() == label)
    assert metrics["eval_loss"] == pytest.approx(np.mean(nats), rel=1e-4)
    assert metrics["eval_masked_accuracy"] == pytest.approx(np.mean(right))
    assert set(metrics) == {"eval_loss", "eval_masked_accuracy", "eval_pseudo_perplexity"}


@pytest.mark.parametrize("objective", ["causal", "masked", "span"])
@pytest.mark.parametrize("prompt", ["The", "The cat sat on the mat. " * 20], ids=["short", "long"])
def test_a_sample_ends_where_the_positions_do(made, objective, prompt) -> None:
    """In a model that learns a table of 64 positions; the text begins as the prompt does."""
    drawer, model = made(objective, model_config={**SMALL, "dialect": "gpt2"})
    with torch.no_grad():
        assert drawer.sample(model, prompt).startswith(prompt[:20])


def test_span_loss_equals_a_plain_loop(made, blocks) -> None:
    """Of each document alone, without padding; and the NLL of a block is that of its documents."""
    objective, model = made("span")
    nll = objective.nll(model, blocks, list(range(6)), CPU)
    for number, block in enumerate(blocks):
        batch = objective.held_out([block], [number])
        nats = tokens = 0
        for ids, mask, labels in zip(*batch.values(), strict=True):
            labels = labels[labels != -100]
            with torch.no_grad():
                nats += model(input_ids=ids[mask == 1][None], labels=labels[None]).loss.item() * len(labels)
            tokens += len(labels)
        assert nll[number, 0].item() == pytest.approx(nats, rel=1e-4)
        assert nll[number, 1].item() == tokens
    assert objective.metrics(nll.sum(0)) == {"eval_loss": (nll[:, 0].sum() / nll[:, 1].sum()).item()}


def test_a_stock_class_is_trained_by_the_same_loop(stage, arguments_for, tmp_path) -> None:
    """`model_type` in model_config; the folder opens as that class, and its loss falls."""
    settings = {"objective": "masked", "model_config": MODERNBERT, "max_steps": 30, "learning_rate": 1e-2}
    stage.main(arguments_for(tmp_path / "stock", **settings))
    losses = [row["loss"] for row in RunLog(tmp_path / "stock" / "log.jsonl").rows() if "loss" in row]
    assert losses[-1] < losses[0] - 0.5
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "stock")
    assert type(model).__name__ == "ModernBertForMaskedLM"


def test_large_vocabularies_of_an_encoder_get_their_loss_in_chunks(made, blocks, monkeypatch) -> None:
    """The same loss and gradients as at once."""
    objective, model = made("masked")
    batch = objective.collator(blocks, range(6))
    model.train()
    model(**batch, num_items_in_batch=torch.tensor(7), use_cache=False).loss.backward()
    monkeypatch.setattr("scratch_gpt.training.pretrain.loss.PLAIN_LOGITS_BYTES", 1 << 10)
    monkeypatch.setattr("scratch_gpt.training.pretrain.loss.CHUNK_LOGITS_BYTES", 1 << 14)
    _, chunked = made("masked")
    output = chunked.train()(**batch, num_items_in_batch=torch.tensor(7), use_cache=False)
    assert output.logits is None
    output.loss.backward()
    for (name, weight), other in zip(model.named_parameters(), chunked.parameters(), strict=True):
        torch.testing.assert_close(other.grad, weight.grad, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"objective": "masked", "model_config": {"is_causal": True}},
            user_error("settings_conflict", True, "masked", setting="is_causal", other="objective"),
        ),
        (
            {"objective": "causal", "model_config": {"is_causal": False}},
            user_error("settings_conflict", False, "causal", setting="is_causal", other="objective"),
        ),
        (
            {"objective": "masked", "model_config": {"model_type": "nobody"}},
            user_error("wrong_value", setting="model_type", value="nobody"),
        ),
        (
            {"objective": "masked", "model_config": {"model_type": "t5"}},
            user_error("invalid_model_config", "masked"),
        ),
        (
            {"model_config": {"hiden_size": 64}},
            user_error("unknown_key", "model_config", "ScratchGPTConfig", key="hiden_size"),
        ),
        (
            {"model_config": {"model_type": "gpt2", "n_ctx": 64}},
            user_error("unknown_key", "GPT2Config", key="n_ctx"),
        ),
        (
            {"model_config": {**SMALL, "hidden_size": 63}},
            user_error("invalid_model_config", "hidden_size 63"),
        ),
    ],
)
def test_model_configs_that_cannot_be_are_refused(fresh, changes, expected) -> None:
    """One line that names the setting."""
    with expected:
        fresh(**{"objective": "causal", **changes})


def test_unknown_settings_are_refused(arguments_for, tmp_path) -> None:
    """An objective that does not exist; whole words where no word is hidden."""
    with user_error("wrong_value", "causal", "masked", "span", setting="objective", value="mlm"):
        arguments_for(tmp_path, objective="mlm")
    with user_error("settings_conflict", "span", setting="whole_words", other="objective"):
        arguments_for(tmp_path, objective="span", whole_words=True)


def test_old_tokenizers_serve_the_causal_objective_alone(stage, arguments_for, data, tmp_path) -> None:
    """Without mask token and sentinels the new objectives say what is missing."""
    for path in Path(data["tokenizer"]).iterdir():
        text = path.read_text().replace("<|extra_", "<|reserved_x").replace('"mask_token"', '"no_mask_token"')
        (tmp_path / path.name).write_text(text)
    old = load_tokenizer(tmp_path)
    settings = {"seed": 0, "attn_implementation": "sdpa"}
    OBJECTIVES["causal"](old, 64, **settings)
    for objective, token in (("masked", "mask"), ("span", "<|extra_0|>")):
        with user_error("token_missing", token=token):
            OBJECTIVES[objective](old, 64, **settings)
