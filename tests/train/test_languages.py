# SPDX-License-Identifier: Apache-2.0
"""Three scripts through the real stages, from raw text to chat: what was trained on comes back byte for byte."""

import json
from pathlib import Path

import pytest

from scratch_gpt.data.shards.blocks import PackedBlocks
from scratch_gpt.inference.sampling import Sampling
from scratch_gpt.serving.chat import ChatSession, StreamingModel
from scratch_gpt.tokenization import load_tokenizer


CONVERSATIONS = {
    "Où est la clé ?": "Elle est là-bas, près du café.",
    "Где ключ?": "Ключ лежит на столе, рядом с книгой.",
    "أين المفتاح؟": "المفتاح على الطاولة بجانب الكتاب.",
    "钥匙在哪里？": "钥匙在桌子上，书的旁边。",
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_three_scripts_come_through_every_stage(run, tmp_path: Path, monkeypatch) -> None:
    """Each document is whole in the blocks; after training, each question gets the answer that was taught."""
    monkeypatch.chdir(tmp_path)
    documents = [f"{question}\n{answer}" for question, answer in CONVERSATIONS.items()]
    Path("text.txt").write_text("\n\n".join(documents), encoding="utf-8")
    Path("other.txt").write_text("Anything else.\n\nA cat and a dog.", encoding="utf-8")
    rows = [{"prompt": question, "completion": answer} for question, answer in CONVERSATIONS.items()]
    rows += [{"prompt": f"What is {number}?", "completion": f"It is {number}."} for number in range(24)]
    Path("rows.jsonl").write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8")
    text = [{"name": "text", "path": "text.txt"}]
    other = [{"name": "other", "path": "other.txt", "held_out": True}]
    run("tokenizer", sources=text, vocab_size=340, output_dir="tokenizer")
    run(
        "shards",
        sources=text + other,
        tokenizer="tokenizer",
        output_dir="shards",
        sequence_length=128,
    )
    tokenizer = load_tokenizer("tokenizer")
    blocks = "".join(tokenizer.decode(row, skip_special_tokens=True) for row in PackedBlocks("shards/train"))
    assert [document for document in documents if document not in blocks] == []
    run(
        "pretrain",
        shards="shards",
        tokenizer="tokenizer",
        output_dir="base",
        model_config={
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 256,
        },
        max_steps=20,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=1,
        num_threads=1,
        mixed_precision="no",
    )
    run(
        "sft",
        model_name_or_path="base",
        sources=[{"name": "rows", "path": "rows.jsonl"}],
        output_dir="chat",
        held_out_fraction=0.1,
        seed=3,  # by which the conversations above are on the side of the training
        max_steps=200,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=1,
        learning_rate=5e-3,
        use_cpu=True,
    )
    speaker = StreamingModel.load("chat")
    for question, answer in CONVERSATIONS.items():
        said = "".join(ChatSession(speaker, Sampling(temperature=0.0, max_new_tokens=120)).ask(question))
        assert said == answer
