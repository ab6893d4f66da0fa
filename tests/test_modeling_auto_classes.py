# SPDX-License-Identifier: Apache-2.0
"""Saving and loading by every door (as remote code: test_remote_code.py), the heads, and what other programs read from the classes."""

import copy
import json
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
)

from scratch_gpt import (
    ScratchGPTConfig,
    ScratchGPTForCausalLM,
    ScratchGPTForMultipleChoice,
    ScratchGPTForQuestionAnswering,
    ScratchGPTForSequenceClassification,
    ScratchGPTForTokenClassification,
    ScratchGPTModel,
)


DIALECTS = ["qwen3", "llama", "gpt2"]
DOORS = {
    AutoModel: ScratchGPTModel,
    AutoModelForCausalLM: ScratchGPTForCausalLM,
    AutoModelForSequenceClassification: ScratchGPTForSequenceClassification,
    AutoModelForTokenClassification: ScratchGPTForTokenClassification,
    AutoModelForQuestionAnswering: ScratchGPTForQuestionAnswering,
    AutoModelForMultipleChoice: ScratchGPTForMultipleChoice,
}


def equal_weights(ours: PreTrainedModel, theirs: PreTrainedModel) -> None:
    """The decoders are equal, name by name and bit by bit."""
    expected = ours.base_model.state_dict()
    loaded = theirs.base_model.state_dict()
    assert loaded.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(loaded[name], tensor), name


@pytest.mark.parametrize("saved_as", DOORS.values())
def test_each_head_opens_by_every_door(small_model, tmp_path, saved_as) -> None:
    """Whatever head was saved, each Auto class opens the folder, with the same decoder."""
    model = small_model(saved_as)
    model.save_pretrained(tmp_path)
    for auto_class, model_class in DOORS.items():
        loaded = auto_class.from_pretrained(tmp_path)
        assert type(loaded) is model_class
        equal_weights(model, loaded)
        if model_class is saved_as:
            assert all(
                torch.equal(a, b) for a, b in zip(loaded.parameters(), model.parameters(), strict=True)
            )


@pytest.mark.parametrize("tied", [True, False])
def test_weights_stay_tied_after_every_load_path(small_model, some_ids, tmp_path, tied) -> None:
    """Plain, sharded, bfloat16, without a state dict's copy, resized, copied, from a headless folder: one tensor or two."""
    model = small_model(tie_word_embeddings=tied)
    model.save_pretrained(tmp_path / "whole")
    model.save_pretrained(tmp_path / "sharded", max_shard_size="50KB")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 2
    loaded = {
        "whole": ScratchGPTForCausalLM.from_pretrained(tmp_path / "whole"),
        "sharded": AutoModelForCausalLM.from_pretrained(tmp_path / "sharded"),
        "bfloat16": AutoModelForCausalLM.from_pretrained(tmp_path / "whole", dtype=torch.bfloat16),
        "device map": AutoModelForCausalLM.from_pretrained(tmp_path / "whole", device_map={"": "cpu"}),
        "copy": copy.deepcopy(model),
        "state dict": ScratchGPTForCausalLM(model.config),
        "resized": copy.deepcopy(model),
    }
    loaded["state dict"].load_state_dict(model.state_dict())
    loaded["resized"].resize_token_embeddings(111)
    for path, each in loaded.items():
        weights = each.lm_head.weight, each.model.embed_tokens.weight
        assert (weights[0].data_ptr() == weights[1].data_ptr()) is tied, path
        if path not in ("bfloat16", "resized"):
            equal_weights(model, each)
            assert torch.equal(each.lm_head.weight, model.lm_head.weight)
    with torch.no_grad():
        expected = model(some_ids()).logits
        assert torch.equal(loaded["sharded"](some_ids()).logits, expected)
        half = loaded["bfloat16"](some_ids()).logits
        torch.testing.assert_close(loaded["resized"](some_ids()).logits[..., :99], expected)
    assert half.dtype == torch.bfloat16
    assert loaded["resized"].config.vocab_size == loaded["resized"].vocab_size == 111
    torch.testing.assert_close(half.float(), expected, atol=0.15, rtol=0.1)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_meta_device_load_equals_a_plain_one(small_model, some_ids, tmp_path, dialect) -> None:
    """Built without memory, then filled: buffers that no file holds (rotary frequencies) are right too."""
    model = small_model(dialect=dialect)
    model.save_pretrained(tmp_path)
    with torch.device("meta"):
        empty = ScratchGPTForCausalLM(model.config)
    assert all(parameter.is_meta for parameter in empty.parameters())
    with torch.no_grad():
        loaded = ScratchGPTForCausalLM.from_pretrained(tmp_path)
        assert torch.equal(loaded(some_ids()).logits, model(some_ids()).logits)
        broken = dict(model.state_dict())
        del broken["model.layers.1.mlp.down_proj.weight"]
        partly, info = ScratchGPTForCausalLM.from_pretrained(
            None, config=model.config, state_dict=broken, output_loading_info=True
        )
    assert set(info["missing_keys"]) == {"model.layers.1.mlp.down_proj.weight"}
    assert partly.model.layers[1].mlp.down_proj.weight.std().item() == pytest.approx(0.1 / 2, rel=0.1)


def damage(folder: Path, how: str) -> None:
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    if how == "truncated":
        weights.write_bytes(content[: len(content) // 2])
    elif how == "not safetensors":
        weights.write_bytes(b"PK\x03\x04" + content[4:])
    else:
        weights.unlink()


@pytest.mark.parametrize(
    ("how", "error"),
    [("truncated", SafetensorError), ("not safetensors", SafetensorError), ("missing", OSError)],
)
def test_damaged_weights_are_refused(small_model, tmp_path, how, error) -> None:
    """No model comes back from a file that is not whole."""
    small_model().save_pretrained(tmp_path)
    damage(tmp_path, how)
    with pytest.raises(error):
        AutoModelForCausalLM.from_pretrained(tmp_path)


def test_weights_of_another_shape_are_refused(small_model, tmp_path) -> None:
    """A config that does not fit the weights beside it: the error names the first tensor that differs."""
    small_model().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "intermediate_size": 32}))
    with pytest.raises(RuntimeError, match="size"):
        AutoModelForCausalLM.from_pretrained(tmp_path)


def test_a_config_of_another_model_type_is_refused(small_model, tmp_path) -> None:
    """Another architecture's folder is not read as ours."""
    small_model().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "bert"}))
    with pytest.raises(ValueError, match="model type 'bert', not 'scratch_gpt'"):
        ScratchGPTForCausalLM.from_pretrained(tmp_path)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("padding_side", ["left", "right"])
def test_sequence_score_is_of_the_last_token_whatever_the_padding(
    small_model, some_ids, dialect, padding_side
) -> None:
    """The reward of a padded row is that of the row alone."""
    model = small_model(ScratchGPTForSequenceClassification, dialect=dialect, num_labels=1)
    row, padding = some_ids(1, 6), torch.zeros(1, 4, dtype=torch.long)
    padded = torch.cat([padding, row] if padding_side == "left" else [row, padding], dim=1)
    mask = (padded != 0).long()
    positions = {"position_ids": (mask.cumsum(-1) - 1).clamp(min=0)} if dialect == "gpt2" else {}
    with torch.no_grad():
        alone = model(row).logits
        score = model(padded, attention_mask=mask, **positions).logits
        hidden = model.model(row).last_hidden_state[:, -1]
    torch.testing.assert_close(score, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(alone, hidden @ model.score.weight.T)


def test_token_and_answer_heads_score_every_token(small_model, some_ids) -> None:
    """Logits are the linear map of each hidden state; the losses are cross-entropies."""
    input_ids, labels = some_ids(), some_ids() % 3
    tagger = small_model(ScratchGPTForTokenClassification, num_labels=3)
    reader = small_model(ScratchGPTForQuestionAnswering)
    start, end = torch.tensor([2, 3]), torch.tensor([4, 5])
    with torch.no_grad():
        tagged = tagger(input_ids, labels=labels)
        answer = reader(input_ids, start_positions=start, end_positions=end)
        hidden = reader.model(input_ids).last_hidden_state
        torch.testing.assert_close(tagged.logits, tagger.score(tagger.model(input_ids).last_hidden_state))
        torch.testing.assert_close(answer.end_logits, reader.qa_outputs(hidden)[..., 1])
    entropy = torch.nn.functional.cross_entropy
    torch.testing.assert_close(tagged.loss, entropy(tagged.logits.flatten(0, 1), labels.flatten()))
    expected = (entropy(answer.start_logits, start) + entropy(answer.end_logits, end)) / 2
    torch.testing.assert_close(answer.loss, expected)


@pytest.mark.parametrize("is_causal", [True, False])
def test_each_choice_is_scored_as_it_is_alone(small_model, some_ids, is_causal) -> None:
    """Three choices of two questions, padded: the score is linear in each choice's own last state."""
    model = small_model(ScratchGPTForMultipleChoice, is_causal=is_causal)
    choices, right = some_ids(6, 9), torch.tensor([2, 0])
    choices[1::2, 6:] = 0
    mask = (choices != 0).long()
    with torch.no_grad():
        given = {"input_ids": choices.view(2, 3, 9), "attention_mask": mask.view(2, 3, 9)}
        output = model(**given, labels=right)
        alone = [model.model(row[row != 0][None]).last_hidden_state[0, -1] for row in choices]
        expected = model.classifier(torch.stack(alone)).view(2, 3)
        plain = model(**given, return_dict=False)
    torch.testing.assert_close(output.logits, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(output.loss, torch.nn.functional.cross_entropy(expected, right))
    assert torch.equal(plain[0], output.logits)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_parallel_plans_name_existing_modules(small_model, dialect) -> None:
    """Each entry of the tensor, pipeline and FSDP plans is a module; each projection of a layer is sharded."""
    model = small_model(dialect=dialect)
    modules = {
        ".".join("*" if part.isdigit() else part for part in name.split("."))
        for name, _ in model.named_modules()
    }
    for plan in (model.tp_plan, model.pp_plan, model.fsdp_plan):
        assert set(plan) <= modules
    projections = {name for name in modules if name.endswith("_proj")}
    assert projections <= set(model.tp_plan)
    assert {"lm_head", "model.embed_tokens"} <= set(model.tp_plan)
    assert ("model.layers.*.self_attn.q_norm" in model.tp_plan) is (dialect == "qwen3")
    assert ("model.layers" in model.pp_plan) is (dialect != "gpt2")
    assert model.supports_tp_plan


@pytest.mark.filterwarnings("ignore")  # of torch's exporter
@pytest.mark.parametrize("dialect", [pytest.param("qwen3", marks=pytest.mark.slow), "gpt2"])
def test_torch_export_with_dynamic_shapes(small_model, some_ids, dialect) -> None:
    """One exported program for every batch and length gives the model's logits."""
    model = small_model(dialect=dialect, num_hidden_layers=1)
    shape = {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}
    program = torch.export.export(
        model,
        (),
        kwargs={"input_ids": some_ids(), "use_cache": False},
        dynamic_shapes={"input_ids": shape, "use_cache": None},
        strict=False,
    )
    with torch.no_grad():
        for ids in (some_ids(), some_ids(3, 20)):
            exported = program.module()(input_ids=ids, use_cache=False)["logits"]
            torch.testing.assert_close(exported, model(ids).logits, atol=1e-5, rtol=0)


def test_checkpoints_of_before_the_third_dialect_load(small_model, some_ids, tmp_path) -> None:
    """A config.json without the switches that gpt2 brought gives the same model."""
    model = small_model(dialect="llama", num_key_value_heads=2)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    new = ["position_embedding_type", "norm_type", "gated_mlp", "layer_norm_eps"]
    for name in [*new, "embedding_dropout", "residual_dropout"]:
        del config[name]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert isinstance(AutoConfig.from_pretrained(tmp_path), ScratchGPTConfig)
    with torch.no_grad():
        assert torch.equal(
            AutoModelForCausalLM.from_pretrained(tmp_path)(some_ids()).logits, model(some_ids()).logits
        )
