# SPDX-License-Identifier: Apache-2.0
"""The callback that lets a model speak while it is taught."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from scratch_gpt.runs.log import RunLog
from scratch_gpt.training.posttrain.samples import Samples


PROMPTS = ["Hello", "Как дела?"]


def tell(samples: Samples, model: Any, step: int, main: bool = True, **logs: float) -> None:
    """A row that the Trainer logs at `step`."""
    state = SimpleNamespace(global_step=step, is_world_process_zero=main)
    samples.on_log(None, state, None, logs, model=model)


def test_answers_are_written_once_for_each_evaluation(chat_folder: Path, tmp_path: Path) -> None:
    """What `generate` says greedily to the chat template, with its step; randomness and mode are as before."""
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(chat_folder),
        AutoTokenizer.from_pretrained(chat_folder),
    )
    log = RunLog(tmp_path / "samples.jsonl")
    samples = Samples(log, PROMPTS, tokenizer)
    model.train()
    before = torch.get_rng_state()
    tell(samples, model, 1, loss=3.0)
    assert log.rows() == []
    tell(samples, model, 2, eval_loss=2.0)
    tell(samples, model, 2, eval_loss=2.0)
    tell(Samples(log, PROMPTS, tokenizer), model, 2, eval_loss=2.0)  # resumed there
    tell(samples, model, 3, main=False, eval_loss=2.0)
    assert model.training
    assert torch.equal(torch.get_rng_state(), before)
    model.eval()
    expected = []
    for prompt in PROMPTS:
        inputs = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}],
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
        )
        said = model.generate(**inputs, do_sample=False, max_new_tokens=64)[0, inputs["input_ids"].shape[1] :]
        expected.append({"step": 2, "text": f"{prompt}\n{tokenizer.decode(said, skip_special_tokens=True)}"})
    assert log.rows() == expected
