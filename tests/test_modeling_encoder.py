# SPDX-License-Identifier: Apache-2.0
"""The decoder without its causal mask: against the stock classes, then heads, padding, packing, saving, mistakes."""

import copy

import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    EuroBertConfig,
    EuroBertForMaskedLM,
    PreTrainedModel,
    pipeline,
)
from transformers.pipelines import PipelineException

from scratch_gpt import (
    ScratchGPTConfig,
    ScratchGPTForCausalLM,
    ScratchGPTForMaskedLM,
    ScratchGPTForQuestionAnswering,
    ScratchGPTForSequenceClassification,
    ScratchGPTForTokenClassification,
    ScratchGPTModel,
)
from scratch_gpt.export.interop import to_stock
from scratch_gpt.modeling_scratch_gpt_inputs import CACHE_NAME


DIALECTS = ["qwen3", "llama", "gpt2"]
PAD = 0


@pytest.fixture(params=DIALECTS)
def encoder(request, small_model) -> ScratchGPTForMaskedLM:
    """A small masked language model of each dialect."""
    grouped = {} if request.param == "gpt2" else {"num_key_value_heads": 2}
    return small_model(ScratchGPTForMaskedLM, dialect=request.param, is_causal=False, **grouped)


def stock_twin(encoder: ScratchGPTForMaskedLM) -> PreTrainedModel:
    """The stock decoder with the same weights, told by transformers' own switch to look both ways."""
    config = copy.deepcopy(encoder.config)
    config.is_causal = True
    decoder = ScratchGPTForCausalLM(config)
    decoder.load_state_dict(encoder.state_dict())
    stock = to_stock(decoder.eval())
    stock.config.is_causal = False
    return stock


def padded(input_ids: torch.Tensor, side: str, width: int = 4) -> dict[str, torch.Tensor]:
    """The rows with padding at one side, their mask, and positions that do not count it."""
    padding = torch.full((input_ids.shape[0], width), PAD)
    rows = torch.cat([padding, input_ids] if side == "left" else [input_ids, padding], dim=1)
    mask = (rows != PAD).long()
    return {
        "input_ids": rows,
        "attention_mask": mask,
        "position_ids": (mask.cumsum(-1) - 1).clamp(min=0),
    }


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_logits_equal_the_stock_class(encoder, some_ids, implementation) -> None:
    """Each logit is that of the stock decoder class without its causal mask, with padding too."""
    stock = stock_twin(encoder)
    for each in (encoder, stock):
        each.set_attn_implementation(implementation)
    inputs = padded(some_ids(), "right")
    with torch.no_grad():
        for given in ({"input_ids": some_ids()}, inputs):
            ours, theirs = encoder(**given).logits, stock(**given, use_cache=False).logits
            assert theirs.abs().max() > 0.3
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_llama_dialect_equals_eurobert(small_model, some_ids) -> None:
    """The bidirectional Llama that transformers has: logits, loss and the gradient of the word embedding."""
    model = small_model(ScratchGPTForMaskedLM, dialect="llama", is_causal=False, num_key_value_heads=2)
    names = [
        *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
        *("num_key_value_heads", "head_dim", "rms_norm_eps", "rope_parameters", "pad_token_id"),
        *("tie_word_embeddings", "max_position_embeddings"),
    ]
    stock = EuroBertForMaskedLM(EuroBertConfig(**{name: getattr(model.config, name) for name in names}))
    stock.load_state_dict(model.state_dict())
    labels = some_ids()
    labels[:, ::3] = -100
    losses = []
    for each in (model, stock):
        output = each(**padded(some_ids(), "left"), labels=padded(labels, "left")["input_ids"])
        output.loss.backward()
        losses.append(output)
    mask = padded(some_ids(), "left")["attention_mask"].bool()
    torch.testing.assert_close(losses[0].logits[mask], losses[1].logits[mask], atol=1e-5, rtol=0)
    torch.testing.assert_close(losses[0].loss, losses[1].loss, atol=1e-6, rtol=0)
    ours, theirs = (each.get_input_embeddings().weight.grad for each in (model, stock))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_loss_is_the_cross_entropy_at_the_labels_own_positions(encoder, some_ids) -> None:
    """No shift; -100 is left out; with `num_items_in_batch` the sum over that number."""
    input_ids, labels = some_ids(), some_ids()
    labels[:, 2:] = -100
    with torch.no_grad():
        output = encoder(input_ids, labels=labels)
        shared = encoder(input_ids, labels=labels, num_items_in_batch=10).loss
    log_probs = output.logits.log_softmax(-1)
    expected = torch.stack([-log_probs[row, t, labels[row, t]] for row in range(2) for t in range(2)])
    torch.testing.assert_close(output.loss, expected.mean())
    torch.testing.assert_close(shared, expected.sum() / 10)


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning"
)  # of torch's compiler, in transformers' call of flex
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("implementation", ["sdpa", "flex_attention"])
def test_attention_implementations_agree(encoder, some_ids, implementation) -> None:
    """The written-out attention gives what the fused kernels give: plain, padded, packed."""
    packed = {"input_ids": some_ids(1), "position_ids": torch.cat([torch.arange(6), torch.arange(7)])[None]}
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        for inputs in ({"input_ids": some_ids()}, padded(some_ids(), "left"), packed):
            keep = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"])).bool()
            logits = []
            for each in ("eager", implementation):
                encoder.set_attn_implementation(each)
                logits.append(encoder(**inputs).logits[keep])
            torch.testing.assert_close(*logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(encoder, some_ids, side) -> None:
    """A padded row has the logits of the row alone; rotary positions need not be told."""
    inputs = padded(some_ids(), side)
    if encoder.config.dialect != "gpt2":
        del inputs["position_ids"]
    with torch.no_grad():
        alone = encoder(some_ids()).logits
        kept = encoder(**inputs).logits[inputs["attention_mask"].bool()]
    torch.testing.assert_close(kept, alone.flatten(0, 1), atol=1e-5, rtol=0)


def test_packed_documents_do_not_see_each_other(encoder, some_ids) -> None:
    """Where positions restart, a document ends, in both directions; with a mask that is not looked at."""
    first, second = some_ids(1, 6), some_ids(1, 7) % 50 + 1
    packed = torch.cat([first, second], dim=1)
    position_ids = torch.cat([torch.arange(6), torch.arange(7)])[None]
    with torch.no_grad():
        alone = torch.cat([encoder(first).logits, encoder(second).logits], dim=1)
        kept = encoder(packed, position_ids=position_ids).logits
        mixed = encoder(packed, position_ids=position_ids, attention_mask=torch.ones_like(packed)).logits
    torch.testing.assert_close(kept, alone, atol=1e-5, rtol=0)
    assert (mixed[:, :6] - alone[:, :6]).abs().max() > 1e-2


def test_an_encoder_has_no_cache(encoder, some_ids) -> None:
    """None comes back, whatever is asked for, and none is taken; attention kernels read off each layer that it is none."""
    assert not any(layer.self_attn.is_causal for layer in encoder.model.layers)
    with torch.no_grad():
        assert encoder.model(some_ids(), use_cache=True).past_key_values is None
    decoder = ScratchGPTModel(ScratchGPTConfig(vocab_size=99, hidden_size=64, num_attention_heads=4))
    with pytest.raises(ValueError, match=r"an encoder \(is_causal=False\) has no cache"):
        cache = decoder(some_ids(), use_cache=True).past_key_values
        encoder.model(some_ids(), **{CACHE_NAME: cache})


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning"
)  # of torch's compiler, in the mask of packed documents
def test_gradient_checkpointing_and_compilation_change_nothing(encoder, some_ids) -> None:
    """The same gradients from recomputed activations; one graph without a break, packed documents included."""
    position_ids = torch.cat([torch.arange(6), torch.arange(7)]).expand(2, -1)
    inputs = {"input_ids": some_ids(), "labels": some_ids(), "position_ids": position_ids}
    encoder.train()(**inputs).loss.backward()
    plain = [parameter.grad.clone() for parameter in encoder.parameters()]
    encoder.zero_grad()
    encoder.activation_checkpointing_enable()
    encoder(**inputs).loss.backward()
    for parameter, gradient in zip(encoder.parameters(), plain, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
    encoder.activation_checkpointing_disable()
    compiled = torch.compile(encoder.eval(), fullgraph=True, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(**inputs).logits, encoder(**inputs).logits, atol=1e-5, rtol=0)


def test_recorded_outputs(encoder, some_ids) -> None:
    """Hidden states are layers + 1; each row of attention weights sums to one and is nowhere zero."""
    encoder.set_attn_implementation("eager")
    with torch.no_grad():
        output = encoder(some_ids(), output_hidden_states=True, output_attentions=True)
        plain = encoder(some_ids(), return_dict=False)
    assert len(output.hidden_states) == 3
    assert len(output.attentions) == 2
    torch.testing.assert_close(encoder.lm_head(output.hidden_states[-1]), output.logits)
    torch.testing.assert_close(output.attentions[0].sum(-1), torch.ones(2, 4, 13))
    assert output.attentions[0].min() > 0
    assert torch.equal(plain[0], output.logits)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_classifier_scores_the_last_token_of_the_text(small_model, some_ids, dialect, side) -> None:
    """It has seen the whole text; padding at either side changes nothing."""
    model = small_model(ScratchGPTForSequenceClassification, dialect=dialect, is_causal=False, num_labels=3)
    with torch.no_grad():
        alone = model(some_ids()).logits
        expected = model.score(model.model(some_ids()).last_hidden_state[:, -1])
        kept = model(**padded(some_ids(), side)).logits
        changed = some_ids()
        changed[:, 0] = changed[:, 0] % 98 + 1
        assert not torch.allclose(model(changed).logits, alone, atol=1e-3)
    torch.testing.assert_close(alone, expected)
    torch.testing.assert_close(kept, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "saved_as",
    [
        *(ScratchGPTModel, ScratchGPTForMaskedLM, ScratchGPTForSequenceClassification),
        *(ScratchGPTForTokenClassification, ScratchGPTForQuestionAnswering),
    ],
)
def test_each_head_opens_by_the_encoders_doors(small_model, some_ids, tmp_path, saved_as) -> None:
    """Whatever head was saved, AutoModel and AutoModelForMaskedLM open the folder, with the same encoder."""
    model = small_model(saved_as, is_causal=False)
    model.save_pretrained(tmp_path)
    auto_classes = {AutoModel: ScratchGPTModel, AutoModelForMaskedLM: ScratchGPTForMaskedLM}
    assert set(model.config.auto_map) >= {door.__name__ for door in auto_classes}
    assert "AutoModelForCausalLM" not in model.config.auto_map
    with torch.no_grad():
        expected = model.base_model(some_ids()).last_hidden_state
        for door, kind in auto_classes.items():
            loaded = door.from_pretrained(tmp_path)
            assert type(loaded) is kind
            assert torch.equal(loaded.base_model(some_ids()).last_hidden_state, expected)
            half = door.from_pretrained(tmp_path, dtype=torch.bfloat16).base_model(some_ids())
            torch.testing.assert_close(half.last_hidden_state.float(), expected, atol=0.3, rtol=0.1)


@pytest.mark.parametrize("tied", [True, False])
def test_weights_stay_tied(small_model, some_ids, tmp_path, tied) -> None:
    """Head and embedding are one tensor or two, saved, loaded and resized."""
    model = small_model(ScratchGPTForMaskedLM, is_causal=False, tie_word_embeddings=tied)
    model.save_pretrained(tmp_path)
    loaded, resized = ScratchGPTForMaskedLM.from_pretrained(tmp_path), copy.deepcopy(model)
    resized.resize_token_embeddings(111)
    with torch.no_grad():
        expected = model(some_ids()).logits
        assert torch.equal(loaded(some_ids()).logits, expected)
        torch.testing.assert_close(resized(some_ids()).logits[..., :99], expected)
    for each in (loaded, resized):
        assert (each.lm_head.weight is each.model.embed_tokens.weight) is tied
    assert resized.config.vocab_size == 111


def test_a_head_of_the_other_kind_is_refused(small_model, tmp_path) -> None:
    """One error that names the head and the setting, when building and when loading."""
    config = {"vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    causal, masked = (
        "ScratchGPTForCausalLM needs is_causal=True",
        "ScratchGPTForMaskedLM needs is_causal=False",
    )
    with pytest.raises(ValueError, match=causal):
        ScratchGPTForCausalLM(ScratchGPTConfig(**config, is_causal=False))
    with pytest.raises(ValueError, match=masked):
        ScratchGPTForMaskedLM(ScratchGPTConfig(**config))
    ScratchGPTModel(ScratchGPTConfig(**config, is_causal=False)).save_pretrained(tmp_path / "encoder")
    ScratchGPTModel(ScratchGPTConfig(**config)).save_pretrained(tmp_path / "decoder")
    with pytest.raises(ValueError, match=causal):
        AutoModelForCausalLM.from_pretrained(tmp_path / "encoder")
    with pytest.raises(ValueError, match=masked):
        AutoModelForMaskedLM.from_pretrained(tmp_path / "decoder")


def test_what_is_not_in_a_table_is_refused_by_value(small_model, some_ids) -> None:
    """A text longer than the learned positions, labels of another vocabulary."""
    short = small_model(ScratchGPTForMaskedLM, is_causal=False, dialect="gpt2", max_position_embeddings=8)
    with pytest.raises(IndexError, match="position_ids must be from 0 to 7, got 0 to 12"):
        short(some_ids())
    with pytest.raises(IndexError, match="Target 120 is out of bounds"):
        small_model(ScratchGPTForMaskedLM, is_causal=False)(some_ids(), labels=some_ids() * 0 + 120)


def test_fill_mask_pipeline(small_model, tiny_tokenizer) -> None:
    """It gives the most likely tokens at the mask; without a mask token, or a mask, one error."""
    mask, tiny_tokenizer.mask_token = tiny_tokenizer.mask_token, None
    with pytest.raises(PipelineException, match="mask_token"):
        pipeline(
            "fill-mask", model=small_model(ScratchGPTForMaskedLM, is_causal=False), tokenizer=tiny_tokenizer
        )
    tiny_tokenizer.mask_token = mask
    model = small_model(ScratchGPTForMaskedLM, is_causal=False, vocab_size=len(tiny_tokenizer))
    mask_token, tiny_tokenizer.mask_token = tiny_tokenizer.mask_token, None
    with pytest.raises(PipelineException, match="mask_token"):
        pipeline("fill-mask", model=model, tokenizer=tiny_tokenizer)
    tiny_tokenizer.mask_token = mask_token
    fill = pipeline("fill-mask", model=model, tokenizer=tiny_tokenizer)
    text = "A bee lives in a <|mask|>."
    inputs = tiny_tokenizer(text, return_tensors="pt")
    at = (inputs["input_ids"][0] == tiny_tokenizer.mask_token_id).nonzero().item()
    with torch.no_grad():
        expected = model(**inputs).logits[0, at].softmax(-1).topk(3)
    answers = fill(text, top_k=3)
    assert [answer["token"] for answer in answers] == expected.indices.tolist()
    assert [answer["score"] for answer in answers] == pytest.approx(expected.values.tolist(), rel=1e-4)
    with pytest.raises(PipelineException, match="No mask_token"):
        fill("A bee lives in a hive.")
