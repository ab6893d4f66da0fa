# SPDX-License-Identifier: Apache-2.0
"""Loading, checks and saving of the stages on top of TRL, and what TRL computes from our models."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl.trainer.utils import add_fused_lm_head

from scratch_gpt.errors import UserError
from scratch_gpt.training.posttraining import (
    check_chat_format,
    context_length,
    load_chat_model,
    make_chat_model,
)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_trl_computes_the_log_probabilities_of_our_logits(tiny_model: Any, temperature: float) -> None:
    """The head that TRL fuses into the loss, past our forward, gives the log-softmax of our forward's logits."""
    torch.manual_seed(0)
    input_ids = torch.randint(4, 500, (3, 17))
    attention_mask = torch.ones_like(input_ids)
    attention_mask[0, :5] = 0
    labels = input_ids.masked_fill(attention_mask == 0, -100)
    with torch.no_grad():
        logits = tiny_model(input_ids=input_ids, attention_mask=attention_mask).logits
        expected = (logits[:, :-1] / temperature).log_softmax(-1).gather(2, input_ids[:, 1:, None])[:, :, 0]
        add_fused_lm_head(tiny_model, temperature=temperature)
        fused = tiny_model(
            input_ids=input_ids, attention_mask=attention_mask, labels=labels, fused_lm_head=True
        ).log_probs
        again = tiny_model(input_ids=input_ids, attention_mask=attention_mask).logits
    predicted = labels[:, 1:] != -100
    torch.testing.assert_close(fused[predicted], expected[predicted], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(again, logits)


def test_a_chat_model_stops_at_the_end_of_its_turn(
    tiny_model: Any, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    """Saved and loaded, `generate` alone stops after <|im_end|>."""
    make_chat_model(tiny_model, tiny_tokenizer)
    tiny_model.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    im_end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert tokenizer.eos_token_id == model.config.eos_token_id == im_end
    # every logit grows with the hidden state's first entry alone, and that token has the largest weight
    torch.nn.init.zeros_(model.lm_head.weight)
    model.model.norm.register_forward_hook(lambda module, inputs, output: torch.ones_like(output))
    torch.nn.init.ones_(model.lm_head.weight[im_end])
    generated = model.generate(torch.tensor([[5, 6]]), attention_mask=torch.ones(1, 2, dtype=torch.long))
    assert generated.tolist() == [[5, 6, im_end]]


def test_tokenizers_that_cannot_write_conversations_are_refused(tiny_tokenizer: Any) -> None:
    """No chat template, no mark of the assistant's part, no end-of-turn token: each is said."""
    check_chat_format(tiny_tokenizer, "folder")
    template = tiny_tokenizer.chat_template
    tiny_tokenizer.chat_template = template.replace("generation %}", "if true %}", 1).replace(
        "endgeneration", "endif"
    )
    with pytest.raises(UserError, match="does not mark the assistant's part"):
        check_chat_format(tiny_tokenizer, "folder")
    tiny_tokenizer.chat_template = None
    with pytest.raises(UserError, match="no chat template"):
        check_chat_format(tiny_tokenizer, "folder")


def test_a_base_model_is_no_chat_model(base_folder: Path) -> None:
    """The stages after sft name the stage that is missing."""
    with pytest.raises(UserError, match="run the sft stage first"):
        load_chat_model(str(base_folder))


def test_context_length(tiny_model: Any) -> None:
    """The model's context bounds the rows; less may be asked for, more may not."""
    assert context_length(tiny_model, None) == 128
    assert context_length(tiny_model, 64) == 64
    with pytest.raises(UserError, match="129 is longer than the model's context of 128"):
        context_length(tiny_model, 129)
