# SPDX-License-Identifier: Apache-2.0
"""A model that knows conversations in five scripts by heart."""

from pathlib import Path

import pytest
import torch

from scratch_gpt import ScratchGPTConfig, ScratchGPTForCausalLM
from scratch_gpt.tokenization import IM_END, train_tokenizer


CONVERSATIONS = {
    "Où est la clé ?": "Elle est là-bas, près du café.",
    "Где ключ?": "Ключ лежит на столе, рядом с книгой.",
    "أين المفتاح؟": "المفتاح على الطاولة بجانب الكتاب.",
    "钥匙在哪里？": "钥匙在桌子上，书的旁边。",
    "🔑?": "🗝️👩‍🚀 here",
}


@pytest.fixture(scope="session")
def conversations() -> dict[str, str]:
    """Questions with their answers: Latin, Cyrillic, Arabic, Chinese, emoji."""
    return CONVERSATIONS


@pytest.fixture(scope="session")
def polyglot_folder(tmp_path_factory) -> Path:
    """A chat model trained on the conversations until it repeats them; its tokenizer knows no other text."""
    tokenizer = train_tokenizer([*CONVERSATIONS, *CONVERSATIONS.values()], vocab_size=320)
    tokenizer.eos_token = IM_END
    torch.manual_seed(0)
    model = ScratchGPTForCausalLM(
        ScratchGPTConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=256,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    rows = [
        [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        for question, answer in CONVERSATIONS.items()
    ]
    batch = tokenizer.apply_chat_template(rows, padding=True, return_dict=True, return_tensors="pt")
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(150):
        model(**batch, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.generation_config.update(do_sample=False, max_new_tokens=120)
    folder = tmp_path_factory.mktemp("polyglot") / "chat"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
