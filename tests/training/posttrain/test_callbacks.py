# SPDX-License-Identifier: Apache-2.0
"""The log, the bar and the samples of the stages on top of Trainer."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from scratch_gpt.runs.log import RunLog, progress_bar
from scratch_gpt.training.posttrain import callbacks
from scratch_gpt.training.posttrain.callbacks import NO_SIGNAL, NoSignal, Samples, StageLog


class Run:
    """A trainer's calls, with a clock that only moves when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.now = 100.0
        monkeypatch.setattr(callbacks.time, "perf_counter", lambda: self.now)
        self.log = RunLog(folder / "log.jsonl")
        self.callback = StageLog(self.log, progress_bar(False), "sft")
        self.state = SimpleNamespace(
            global_step=0, max_steps=5, num_input_tokens_seen=0, is_world_process_zero=True
        )

    def begin(self, step: int = 0, tokens: int = 0) -> None:
        self.state.global_step, self.state.num_input_tokens_seen = step, tokens
        self.callback.on_train_begin(None, self.state, None)

    def step(self, seconds: float, tokens: int) -> None:
        self.callback.on_step_begin(None, self.state, None)
        self.now += seconds
        self.state.global_step += 1
        self.state.num_input_tokens_seen += tokens
        self.callback.on_step_end(None, self.state, None)

    def tell(self, **logs: Any) -> None:
        self.callback.on_log(None, self.state, None, logs)


def test_rows_tell_speed_and_time_of_the_steps_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Tokens a second are those since the row before; time between steps, as for evaluation, is not counted."""
    run = Run(monkeypatch, tmp_path)
    run.begin()
    run.step(2.0, 100)
    run.tell(loss=3.0, learning_rate=0.1, grad_norm=1.0, epoch=0.1, num_tokens=9, accuracy=0.5)
    run.now += 50.0
    run.tell(eval_loss=2.5, eval_accuracy=0.75, eval_runtime=50.0, eval_samples_per_second=1.0, epoch=0.1)
    run.step(1.0, 100)
    run.step(1.0, 200)
    run.tell(loss=2.0, learning_rate=0.2, grad_norm=2.0, epoch=0.3)
    run.tell(train_runtime=60.0, train_loss=2.3, epoch=0.3)
    first, evaluation, second = run.log.rows()
    assert first == {
        "step": 1,
        "tokens": 100,
        "loss": 3.0,
        "learning_rate": 0.1,
        "grad_norm": 1.0,
        "tokens_per_second": 50.0,
        "elapsed_seconds": 2.0,
        "accuracy": 0.5,
    }
    assert evaluation == {"step": 1, "elapsed_seconds": 2.0, "eval_loss": 2.5, "eval_accuracy": 0.75}
    assert (second["step"], second["tokens"], second["tokens_per_second"]) == (3, 400, 150.0)
    assert second["elapsed_seconds"] == 4.0


def test_a_resumed_run_goes_on_with_the_clock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """After a resume, seconds and tokens are added to those of the rows before."""
    RunLog(tmp_path / "log.jsonl").write(step=2, elapsed_seconds=30.0)
    run = Run(monkeypatch, tmp_path)
    run.begin(step=2, tokens=500)
    run.step(4.0, 100)
    run.tell(loss=1.0, learning_rate=0.1, grad_norm=1.0)
    row = run.log.rows()[-1]
    assert (row["step"], row["elapsed_seconds"], row["tokens"], row["tokens_per_second"]) == (
        3,
        34.0,
        600,
        25.0,
    )


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


EQUAL = {"frac_reward_zero_std": 1.0, "completions/clipped_ratio": 0.5, "grad_norm": 0.1}
CUT_OFF = {"frac_reward_zero_std": 0.0, "completions/clipped_ratio": 1.0, "grad_norm": 0.1}


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        (EQUAL, "same reward"),
        (CUT_OFF, "max_completion_length"),
        ({"grad_norm": 1e-8}, "gradient was 0"),
        (EQUAL | {"frac_reward_zero_std": 0.9}, None),
        (CUT_OFF | {"completions/clipped_ratio": 0.9}, None),
        ({"grad_norm": 0.1}, None),
        ({"grad_norm": math.nan}, None),
    ],
)
def test_steps_without_a_signal_are_marked_and_told_once(
    row: dict[str, float], shown: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two measurements behind such steps are marked, that before them and one behind a step with a signal are not."""
    log = RunLog(tmp_path / "log.jsonl")
    callback = NoSignal(log, mask_truncated=True)
    marks = []
    for step, logs in enumerate([{"eval_score": 0}, row, {"eval_score": 1}, row, row, {"eval_score": 2}]):
        logs = dict(logs)
        callback.on_log(None, SimpleNamespace(global_step=step), None, logs)
        marks.append(NO_SIGNAL in logs)
    assert marks == [False, False, shown is not None, False, False, shown is not None]
    told = " ".join(capsys.readouterr().out.split())
    assert told.count("no signal") == (shown is not None)
    assert (shown or "") in told
    assert callback.nothing_learned == (shown is not None)
    callback.on_log(
        None, SimpleNamespace(global_step=6), None, {"grad_norm": 1.0, "frac_reward_zero_std": 0.5}
    )
    last = {"eval_score": 3}
    callback.on_log(None, SimpleNamespace(global_step=6), None, last)
    assert not callback.nothing_learned
    assert NO_SIGNAL not in last


def test_a_run_that_measures_nothing_is_marked_at_its_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A row of its own; a resumed run knows the steps before, and one signal among them is enough."""
    log = RunLog(tmp_path / "log.jsonl")
    end = SimpleNamespace(global_step=2, is_world_process_zero=True)
    for step in (1, 2):
        log.write(step=step, grad_norm=0.0, elapsed_seconds=step)
    assert not NoSignal(RunLog(tmp_path / "empty.jsonl"), False).nothing_learned
    NoSignal(log, False).on_train_end(None, end, None)
    assert log.rows()[-1] == {"step": 2, "elapsed_seconds": 2, NO_SIGNAL: 1.0}
    assert "step 2: no signal" in capsys.readouterr().out
    log.write(step=3, grad_norm=1.0, elapsed_seconds=3)
    resumed = NoSignal(log, False)
    resumed.on_train_end(None, end, None)
    assert not resumed.nothing_learned
    assert len(log.rows()) == 4
