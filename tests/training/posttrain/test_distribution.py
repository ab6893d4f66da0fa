# SPDX-License-Identifier: Apache-2.0
"""The stages after pretraining on several processes: the batches and losses of one, one voice, and an end.

Two processes on a CPU exchange by gloo, started with torchrun; every one of them also fails if DDP is left at its end.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from accelerate.data_loader import BatchSamplerShard
from torch.utils.data import BatchSampler
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from scratch_gpt.runs.log import RunLog
from scratch_gpt.settings import processes
from scratch_gpt.training.posttrain.distribution import WholeRounds, _gather_uneven
from wording import shows


ROOT = Path(__file__).parents[3]
PROGRAM = Path(__file__).parents[1] / "stage_among_processes.py"
# 23 of 41 rows are trained on: three steps an epoch, whose last one has 4 and 3 rows.
SETTINGS = {
    "per_device_train_batch_size": 4,
    "per_device_eval_batch_size": 4,
    "held_out_fraction": 0.2,
    "eval_strategy": "epoch",
    "num_train_epochs": 2,
    "save_steps": 3,
    "logging_steps": 1,
    "warmup_steps": 1,
    "num_threads": 1,
}


@pytest.mark.parametrize(
    ("rows", "num_processes"), [(23, 2), (17, 2), (24, 2), (3, 2), (27, 3), (33, 4), (1, 4)]
)
def test_processes_take_the_batches_of_one(rows: int, num_processes: int) -> None:
    """In turn, each as many; who has none left repeats one of the last round, not rows of the first."""
    one = list(BatchSampler(range(rows), 4, drop_last=False))
    sampler = WholeRounds(BatchSampler(range(rows), 4, drop_last=False), num_processes)
    shards = [
        BatchSamplerShard(sampler, num_processes, index, even_batches=False) for index in range(num_processes)
    ]
    taken = [list(shard) for shard in shards]
    assert [len(batches) for batches in taken] == [len(shards[0])] * num_processes
    in_turn = [batch for turn in zip(*taken, strict=True) for batch in turn]
    assert in_turn[: len(one)] == one
    last_round = one[(len(one) - 1) // num_processes * num_processes :]
    assert all(batch in last_round for batch in in_turn[len(one) :])


def test_rows_are_gathered_where_processes_have_unlike_many() -> None:
    """As this process would see it: three rows here, two elsewhere, which arrive filled up."""
    elsewhere = {0: torch.tensor([2]), 1: torch.tensor([7.0, 8.0, 0.0])}

    def gather(values: torch.Tensor) -> torch.Tensor:
        return torch.cat([values, elsewhere[int(values.is_floating_point())]])

    accelerator = SimpleNamespace(gather=gather, pad_across_processes=lambda values: values)
    _gather_uneven(accelerator)
    assert accelerator.gather(torch.tensor([1.0, 2.0, 3.0])).tolist() == [1, 2, 3, 7, 8]


@pytest.mark.parametrize(("rank", "waits"), [("0", []), ("1", [processes.SECONDS_FOR_LAUNCHER])])
def test_the_main_process_speaks_first(monkeypatch, capsys, rank: str, waits: list[float]) -> None:
    """The others leave the launcher time to stop them; nobody takes the interpreter down in an orderly way."""
    waited: list[float] = []
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(processes.time, "sleep", waited.append)

    def leave(status: int) -> None:
        raise InterruptedError(status)

    monkeypatch.setattr(processes.os, "_exit", leave)
    with pytest.raises(InterruptedError, match="2"):
        processes.exit_with_error("error: this", 2)
    assert waited == waits
    assert capsys.readouterr().err == "error: this\n"


@pytest.fixture
def launch(base_folder: Path, chat_folder: Path, tmp_path: Path):
    """`launch(stage, name, num_processes, **settings)`: the stage as a program, with eight rows a step."""

    def launch(
        stage: str, name: str, num_processes: int, full_disk: bool = False, **settings: Any
    ) -> subprocess.CompletedProcess:
        numbers = range(41)
        if stage == "sft":
            rows = [
                {"question": f"What is {n} plus one?", "answer": f"It is {n}." + " Yes." * (n % 5)}
                for n in numbers
            ]
        else:
            rows = [
                {
                    "prompt": f"What is {n} plus one?",
                    "chosen": f"It is {n}." + " Yes." * (n % 5),
                    "rejected": "Go!" * (1 + n % 3),
                }
                for n in numbers
            ]
        (tmp_path / f"{stage}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        given = {
            "model_name_or_path": str(base_folder if stage == "sft" else chat_folder),
            "sources": [{"name": "mine", "path": str(tmp_path / f"{stage}.jsonl")}],
            "gradient_accumulation_steps": 2 // num_processes,
            "output_dir": str(tmp_path / name),
            **SETTINGS,
            **settings,
        }
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(given))
        torchrun = ["-m", "torch.distributed.run", "--nproc_per_node", str(num_processes)]
        torchrun += ["--rdzv_backend", "c10d", "--rdzv_endpoint", "localhost:0"]
        command = [sys.executable, *(torchrun if num_processes > 1 else []), str(PROGRAM)]
        command.append(str(ROOT / "train" / f"{stage}.py"))
        return subprocess.run(
            [*command, "--config", str(tmp_path / f"{name}.yaml")],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            env=os.environ | ({"FULL_DISK": "1"} if full_disk else {}),
        )

    return launch


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return RunLog(folder / "log.jsonl").rows()


def assert_same_losses(one: Path, two: Path) -> None:
    for row, other in zip(rows_of(one), rows_of(two), strict=True):
        for name in ("step", "loss", "grad_norm", "tokens", "eval_loss"):
            assert (name in other) == (name in row)
            if name in row:
                assert other[name] == pytest.approx(row[name], rel=1e-5, abs=1e-7)


LORA = {"use_peft": True, "lora_r": 4, "learning_rate": 1e-2}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "settings"),
    [
        ("sft", {}),
        ("sft", {**LORA, "train_sampling_strategy": "batch_rebalance"}),
        ("reward", {}),
        ("reward", LORA),
        ("dpo", {"train_sampling_strategy": "batch_rebalance"}),
        ("kto", {"loss_type": "apo_zero_unpaired"}),
    ],
    ids=["sft", "sft-lora-rebalanced", "reward", "reward-lora", "dpo-rebalanced", "kto-apo"],
)
def test_two_processes_train_as_one(launch, tmp_path, stage: str, settings: dict[str, Any]) -> None:
    """Losses, norms and the held-out loss of each row once, files and weights; the main process alone speaks."""
    for count, name in enumerate(("one", "two"), start=1):
        done = launch(stage, name, count, **settings)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("train: ") == done.stdout.count("wrote ") == 1
    assert len(rows_of(tmp_path / "one")) >= 8
    assert_same_losses(tmp_path / "one", tmp_path / "two")
    files = [
        {
            path.relative_to(tmp_path / name)
            for path in (tmp_path / name).rglob("*")
            if "rng_state" not in path.name
        }
        for name in ("one", "two")
    ]
    assert files[0] == files[1]
    opened = AutoModelForSequenceClassification if stage == "reward" else AutoModelForCausalLM
    one, two = (opened.from_pretrained(tmp_path / name).state_dict() for name in ("one", "two"))
    for name, weights in one.items():
        torch.testing.assert_close(two[name], weights, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_two_processes_of_kto_see_the_same_rows(launch, tmp_path) -> None:
    """Its loss is another one: the KL divergence is estimated by the rows of all processes, not of one batch after another."""
    for count, name in enumerate(("one", "two"), start=1):
        assert launch("kto", name, count, eval_strategy="no", num_train_epochs=1).returncode == 0
    one, two = (rows_of(tmp_path / name) for name in ("one", "two"))
    assert [row["tokens"] for row in two[:5]] == [row["tokens"] for row in one[:5]]
    for row, other in zip(one[:2], two[:2], strict=True):  # before the first update has had a KL divergence
        assert other["loss"] == pytest.approx(row["loss"], rel=1e-5)


@pytest.mark.slow
def test_two_processes_resume_with_the_same_bits(launch, tmp_path) -> None:
    """Stopped after step 3 of 6: the losses and weights of a run left alone."""
    assert launch("sft", "straight", 2).returncode == 0
    shutil.copytree(tmp_path / "straight", tmp_path / "resumed")
    shutil.rmtree(tmp_path / "resumed" / "checkpoint-6")
    (tmp_path / "resumed" / "run.yaml").unlink()
    done = launch("sft", "resumed", 2, resume_from_checkpoint="latest")
    assert done.returncode == 0, done.stderr
    straight, resumed = (
        [(row["step"], row.get("loss"), row.get("eval_loss")) for row in rows_of(tmp_path / name)]
        for name in ("straight", "resumed")
    )
    assert resumed == straight
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("straight", "resumed")]
    assert weights[0] == weights[1]


@pytest.mark.slow
def test_two_processes_report_a_mistake_once(launch, tmp_path) -> None:
    """One line, no traceback of ours, no folder; a full disk at the end too, which leaves the checkpoints and no model."""
    done = launch("sft", "out", 2, held_out_fraction=0.001)
    assert done.returncode != 0
    assert done.stderr.count("error: no row for") == 1
    assert "run_stage" not in done.stderr
    assert not (tmp_path / "out").exists()
    done = launch("sft", "out", 2, full_disk=True)
    assert done.returncode != 0
    assert done.stderr.count("error: ") - done.stderr.count("I/O error: ") == 1
    assert shows(done.stderr, "No space left on device", "--resume_from_checkpoint latest")
    assert "run_stage" not in done.stderr
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"checkpoint-3", "checkpoint-6"} <= left
    assert not left & {"config.json", "model.safetensors", "run.yaml"}
    assert launch("sft", "out", 2, resume_from_checkpoint="latest").returncode == 0
