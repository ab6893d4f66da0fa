# SPDX-License-Identifier: Apache-2.0
"""Latin, Cyrillic, Arabic and CJK text on its way through tokenizer, training and chat; test_web.py shows it."""

from pathlib import Path

import torch

from scratch_gpt import ScratchGPTConfig, ScratchGPTForCausalLM
from scratch_gpt.chat import ChatSession, Sampling, StreamingModel
from scratch_gpt.tokenization import IM_END, encode_plain, train_tokenizer


CONVERSATIONS = {
    "Où est la clé ?": "Elle est là-bas, près du café.",
    "Где ключ?": "Ключ лежит на столе, рядом с книгой.",  # noqa: RUF001
    "أين المفتاح؟": "المفتاح على الطاولة بجانب الكتاب.",
    "钥匙在哪里？": "钥匙在桌子上，书的旁边。",  # noqa: RUF001
    "🔑?": "🗝️👩‍🚀 here",
}


def test_text_comes_through_unharmed(tmp_path: Path) -> None:
    """What a tiny model learned by heart in each language comes back from a chat, byte for byte, in whole characters."""
    tokenizer = train_tokenizer([*CONVERSATIONS, *CONVERSATIONS.values()], vocab_size=320)
    for text in (*CONVERSATIONS, *CONVERSATIONS.values()):
        assert tokenizer.decode(encode_plain(tokenizer, [text])[0]) == text
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
    model.save_pretrained(tmp_path / "chat")
    tokenizer.save_pretrained(tmp_path / "chat")
    speaker = StreamingModel.load(str(tmp_path / "chat"))
    for question, answer in CONVERSATIONS.items():
        pieces = list(ChatSession(speaker, Sampling(temperature=0.0, max_new_tokens=120)).ask(question))
        assert "".join(pieces) == answer
        assert len(pieces) > 3
        assert "\ufffd" not in "".join(pieces)
