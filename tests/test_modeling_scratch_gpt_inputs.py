# SPDX-License-Identifier: Apache-2.0
"""Keywords of a forward pass: what nothing reads is refused by every head, what other programs pass is taken."""

import pytest
import torch
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, AttentionInterface
from transformers.utils import TransformersKwargs

from scratch_gpt import (
    ScratchGPTEncoderDecoderConfig,
    ScratchGPTEncoderDecoderForSequenceClassification,
    ScratchGPTEncoderDecoderModel,
    ScratchGPTForCausalLM,
    ScratchGPTForConditionalGeneration,
    ScratchGPTForMaskedLM,
    ScratchGPTForMultipleChoice,
    ScratchGPTForQuestionAnswering,
    ScratchGPTForSequenceClassification,
    ScratchGPTForTokenClassification,
    ScratchGPTModel,
)


HEADS = [
    ScratchGPTModel,
    ScratchGPTForCausalLM,
    ScratchGPTForMaskedLM,
    ScratchGPTForMultipleChoice,
    ScratchGPTForQuestionAnswering,
    ScratchGPTForSequenceClassification,
    ScratchGPTForTokenClassification,
    ScratchGPTEncoderDecoderForSequenceClassification,
    ScratchGPTEncoderDecoderModel,
    ScratchGPTForConditionalGeneration,
]


@pytest.fixture(params=HEADS, ids=lambda head: head.__name__)
def call(request, small_model, some_ids) -> tuple[PreTrainedModel, dict[str, torch.Tensor]]:
    """A model with each head, and what a plain call of it needs."""
    head, inputs = request.param, {"input_ids": some_ids()}
    if head.config_class is ScratchGPTEncoderDecoderConfig:
        config = ScratchGPTEncoderDecoderConfig(
            vocab_size=99,
            hidden_size=64,
            num_hidden_layers=1,
            num_attention_heads=4,
            decoder_start_token_id=0,
        )
        if head is not ScratchGPTEncoderDecoderForSequenceClassification:
            inputs["decoder_input_ids"] = some_ids()
        return head(config).eval(), inputs
    if head is ScratchGPTForMultipleChoice:
        inputs["input_ids"] = inputs["input_ids"][None]
    return small_model(head, is_causal=head is not ScratchGPTForMaskedLM), inputs


@pytest.mark.parametrize("name", ["cach", "past_key_value", "token_type_ids", "head_mask"])
def test_an_unknown_keyword_is_refused_by_name(call, name) -> None:
    """A misspelled, renamed or foreign argument is an error in every head, not an answer to another question."""
    model, inputs = call
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
        model(**inputs, **{name: None})


def test_the_keywords_of_transformers_are_taken(call) -> None:
    """Those of its type, the loss's, continuous batching's and `return_dict`: the outputs of the plain call."""
    model, inputs = call
    known = {
        *TransformersKwargs.__annotations__,
        "ignore_index",
        "shift_labels",
        "block_table",
        "write_index",
    }
    given = dict.fromkeys(known - {"position_ids", "is_causal"})
    with torch.no_grad():
        expected = model(**inputs).to_tuple()[0]
        assert torch.equal(model(**inputs, **given, return_dict=False)[0], expected)


def test_shifted_labels_and_the_ignored_label_reach_the_loss(small_model, some_ids) -> None:
    """Sequence parallelism shifts the labels before it splits them."""
    model, ids = small_model(), some_ids()
    shifted = torch.nn.functional.pad(ids[:, 1:], (0, 1), value=-100)
    with torch.no_grad():
        plain = model(ids, labels=ids)
        torch.testing.assert_close(model(ids, labels=ids, shift_labels=shifted).loss, plain.loss)
        ignored = model(ids, labels=ids, ignore_index=int(ids[0, 4])).loss
    assert not torch.allclose(ignored, plain.loss)


def test_an_attention_of_another_program_has_keywords_of_its_own(small_model, some_ids, monkeypatch) -> None:
    """A serving engine registers an attention and passes what that needs, through every layer."""
    model, seen = small_model(), []

    def engine(*inputs, blocks=None, **kwargs):
        seen.append(blocks)
        return ALL_ATTENTION_FUNCTIONS["sdpa"](*inputs, **kwargs)

    monkeypatch.setattr(AttentionInterface, "_global_mapping", dict(AttentionInterface._global_mapping))
    AttentionInterface.register("engine", engine)
    model.set_attn_implementation("engine")
    with torch.no_grad():
        model(some_ids(), blocks="b")
    assert seen == ["b", "b"]
