# SPDX-License-Identifier: Apache-2.0
"""Loading, checks and saving of the stages on top of TRL, and what TRL computes from our models."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTTrainer
from trl.trainer.utils import add_fused_lm_head

from scratch_gpt.inference.chat_format import context_length, encode_conversation
from scratch_gpt.inference.loading import load_chat_model
from scratch_gpt.runs.folders import read_yaml, write_run_yaml
from scratch_gpt.training.posttrain.arguments import DPOArguments, RewardArguments, SFTArguments
from scratch_gpt.training.posttrain.callbacks import FiniteGradients
from scratch_gpt.training.posttrain.posttraining import (
    make_chat_model,
    use_faster_attention,
)
from scratch_gpt.training.posttrain.resume import is_finished
from wording import user_error


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


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_rows_have_the_loss_of_rows_alone(
    attention: str, tiny_model: Any, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    """Packed by TRL, rows cannot see each other, and the answers alone are learned: the loss is that of each alone."""
    make_chat_model(tiny_model, tiny_tokenizer)
    tiny_model.set_attn_implementation(attention)
    texts = [
        ("Who?", "Me."),
        ("What is it?", "A tree, and a tall one. " * 3),
        ("Why?", "So."),
        ("Hm.", "Ha!"),
    ]
    rows = [
        encode_conversation(
            tiny_tokenizer,
            {
                "messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}],
                "place": "f:1",
            },
        )
        for q, a in texts
    ]
    nats = learned = 0.0
    for row in rows:
        logits = tiny_model(input_ids=torch.tensor([row["input_ids"]])).logits
        labels = torch.tensor(row["labels"])[1:]
        nats += torch.nn.functional.cross_entropy(logits[0, :-1], labels, reduction="sum").item()
        learned += (labels != -100).sum().item()
    arguments = SFTArguments(
        model_name_or_path="base",
        sources=[{"name": "p", "path": "primer"}],
        output_dir=str(tmp_path),
        packing=True,
        max_length=sum(row["length"] for row in rows) - rows[0]["length"],
        per_device_train_batch_size=2,
    )
    trainer = SFTTrainer(
        model=tiny_model,
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=tiny_tokenizer,
    )
    (batch,) = trainer.get_train_dataloader()
    assert batch["input_ids"].numel() == sum(row["length"] for row in rows)
    assert (batch["position_ids"] == 0).sum() == len(rows) and len(trainer.train_dataset) == 2
    trainer.model.eval()
    with torch.no_grad():
        loss = trainer.compute_loss(trainer.model, dict(batch))
    assert loss.item() == pytest.approx(nats / learned, abs=1e-5)


@pytest.mark.parametrize(
    ("stage", "settings", "positions", "attention"),
    [
        (SFTArguments, {"bf16": True}, 512, "eager"),
        (RewardArguments, {"bf16": True}, 512, "eager"),
        (SFTArguments, {"bf16": True}, 1024, "sdpa"),
        (SFTArguments, {"bf16": False}, 512, "sdpa"),
        (SFTArguments, {"bf16": True, "use_cpu": False}, 512, "sdpa"),
        (DPOArguments, {"bf16": True}, 512, "sdpa"),  # its reference model rounds as the one on the disk does
    ],
)
def test_short_contexts_on_a_cpu_in_bfloat16_train_by_plain_products(
    stage: Any, settings: dict[str, bool], positions: int, attention: str, tiny_model: Any, tmp_path: Path
) -> None:
    """Where the fused attention is slow, and no distance from a model before is measured."""
    sources = [{"name": "p", "path": "primer"}]
    arguments = stage(model_name_or_path="base", sources=sources, output_dir=str(tmp_path))
    vars(arguments).update({"use_cpu": True, **settings})
    tiny_model.set_attn_implementation("sdpa")
    tiny_model.config.max_position_embeddings = positions
    use_faster_attention(tiny_model, arguments)
    assert tiny_model.config._attn_implementation == attention


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
    mask = torch.ones(1, 2, dtype=torch.long)
    generated = model.generate(torch.tensor([[5, 6]]), attention_mask=mask, max_new_tokens=5)
    assert generated.tolist() == [[5, 6, im_end]]


def test_a_base_model_is_no_chat_model(base_folder: Path) -> None:
    """The stages after sft name the stage that is missing."""
    with user_error("base_model", "sft", model=base_folder):
        load_chat_model(str(base_folder))


def test_context_length(tiny_model: Any) -> None:
    """The model's context bounds the rows; less may be asked for, more may not."""
    assert context_length(tiny_model, None) == 128
    assert context_length(tiny_model, 64) == 64
    with user_error("too_long", length=129, limit=128):
        context_length(tiny_model, 129)


def test_gradients_must_be_finite() -> None:
    """One number that is none among all gradients is enough; in fp16 the gradient scaler leaves the step out."""
    model = torch.nn.Linear(3, 3)
    model(torch.ones(1, 3)).sum().backward()
    FiniteGradients().on_pre_optimizer_step(SimpleNamespace(fp16=False), None, None, model=model)
    model.bias.grad[1] = math.inf
    with user_error("gradient_not_finite", value=math.inf):
        FiniteGradients().on_pre_optimizer_step(SimpleNamespace(fp16=False), None, None, model=model)
    FiniteGradients().on_pre_optimizer_step(SimpleNamespace(fp16=True), None, None, model=model)


def test_settings_younger_than_a_finished_run_are_at_their_default(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run of an older version is complete; with another value than the default it is another run."""
    arguments = SFTArguments(
        model_name_or_path="base",
        output_dir=str(tmp_path),
        sources=[{"name": "primer", "path": "primer"}],
        resume_from_checkpoint="latest",
    )
    write_run_yaml(arguments, tmp_path)
    settings = read_yaml(tmp_path / "run.yaml")
    for name in ("max_eval_prompts", "load_in_4bit"):
        del settings[name]
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    assert is_finished(arguments)
    assert "complete already" in capsys.readouterr().out
    arguments.max_eval_prompts = 3
    with user_error("finished_run_differs", 64, 3, settings=["max_eval_prompts"]):
        is_finished(arguments)
