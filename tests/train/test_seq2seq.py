# SPDX-License-Identifier: Apache-2.0
"""The seq2seq stage on a tiny model: what it writes and logs, that it learns, and that resuming is exact."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from files_page import not_on_the_page
from scratch_gpt.inference.generation import generate_answers
from scratch_gpt.inference.loading import load_model
from scratch_gpt.runs.log import RunLog
from wording import shows, user_error


@pytest.fixture
def seq2seq(run, encoder_decoder_folder: Path, tmp_path: Path) -> Callable[..., None]:
    """Runs the stage as its command line would, on 40 translations of one word each."""
    words = ["Hund", "Katze", "Baum", "Haus"]
    rows = [{"en": f"What is {number}?", "de": words[number % 4]} for number in range(40)]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "model_name_or_path": str(encoder_decoder_folder),
        "sources": [{"name": "mine", "path": str(file), "columns": {"prompt": "en", "response": "de"}}],
        "per_device_train_batch_size": 8,
        "logging_steps": 1,
        "warmup_steps": 1,
        "held_out_fraction": 0.2,
        "eval_strategy": "steps",
        "eval_steps": 2,
        "num_threads": 1,
    }

    return lambda **more: run("seq2seq", **{**settings, **more})


def training_rows(folder: Path) -> list[dict]:
    return [row for row in RunLog(folder / "log.jsonl").rows() if "loss" in row]


def test_it_learns_and_leaves_a_complete_folder(seq2seq, tmp_path) -> None:
    """The fixed keys are logged, the loss falls, and the answers of the loaded folder are words that were taught."""
    output = tmp_path / "out"
    seq2seq(output_dir=str(output), max_steps=45, learning_rate=5e-3)
    rows = training_rows(output)
    keys = ["step", "tokens", "loss", "learning_rate", "grad_norm", "tokens_per_second", "elapsed_seconds"]
    assert list(rows[0])[: len(keys)] == keys
    assert rows[-1]["loss"] < rows[0]["loss"] - 1
    assert any("eval_loss" in row for row in RunLog(output / "log.jsonl").rows())
    names = {path.name for path in output.iterdir()}
    code = {
        "modeling_scratch_gpt_encoder_decoder.py",
        "modeling_scratch_gpt.py",
        "modeling_scratch_gpt_inputs.py",
        "configuration_scratch_gpt.py",
    }
    assert code | {"model.safetensors", "generation_config.json", "tokenizer.json", "run.yaml"} <= names
    assert not_on_the_page(output) == []
    model, tokenizer = load_model(output, allow_encoder_decoder=True)
    answers = generate_answers(model, tokenizer, ["What is 3?", "What is 16?"], chat=False, max_new_tokens=12)
    assert {answer.text for answer in answers} <= {"Hund", "Katze", "Baum", "Haus"}
    assert all(answer.finished for answer in answers)
    # what plain transformers makes of it
    inputs = AutoTokenizer.from_pretrained(output)("What is 3?<|endoftext|>", return_tensors="pt")
    written = AutoModelForSeq2SeqLM.from_pretrained(output).generate(**inputs, max_new_tokens=8)
    assert tokenizer.decode(written[0], skip_special_tokens=True).rstrip("\ufffd") == answers[0].text


def test_resuming_gives_the_same_run(seq2seq, tmp_path) -> None:
    """Stopped after step 4 of 6, with dropout and micro-batches: the losses and weights of the straight run."""
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    more = {
        "max_steps": 6,
        "save_steps": 4,
        "gradient_accumulation_steps": 2,
        "per_device_train_batch_size": 4,
    }
    seq2seq(output_dir=str(straight), **more)
    shutil.copytree(straight, resumed)
    shutil.rmtree(resumed / "checkpoint-6")
    for name in ("run.yaml", "model.safetensors"):
        (resumed / name).unlink()
    seq2seq(output_dir=str(resumed), resume_from_checkpoint="latest", **more)
    before, after = training_rows(straight), training_rows(resumed)
    for key in ("step", "loss", "grad_norm", "tokens", "learning_rate"):
        assert [row[key] for row in after] == [row[key] for row in before]
    assert (resumed / "model.safetensors").read_bytes() == (straight / "model.safetensors").read_bytes()


def test_long_pairs_are_left_out_and_told(seq2seq, tmp_path, capsys) -> None:
    """A side over the model's positions: counted, and the first is named by its place."""
    file = tmp_path / "pairs.jsonl"
    rows = file.read_text().splitlines()
    long = json.dumps({"en": "What " * 300, "de": "Hund"})
    file.write_text("\n".join([*rows, long, ""]))
    seq2seq(output_dir=str(tmp_path / "out"), max_steps=1)
    told = " ".join(capsys.readouterr().out.split())
    assert shows(told, "1 over 128 tokens", "pairs.jsonl:41")


def test_an_unfinished_run_and_a_decoder_are_refused(seq2seq, base_folder, tmp_path) -> None:
    """The guards of the other stages."""
    output = tmp_path / "out"
    seq2seq(output_dir=str(output), max_steps=1)
    (output / "run.yaml").unlink()
    with user_error("unfinished_run", folder=output):
        seq2seq(output_dir=str(output), max_steps=1)
    with user_error("wrong_model", base_folder):
        seq2seq(output_dir=str(tmp_path / "other"), model_name_or_path=str(base_folder))
