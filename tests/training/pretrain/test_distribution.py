# SPDX-License-Identifier: Apache-2.0
"""Several processes: refused where they got lost, and equal to one process where they did not.

Two processes on a CPU exchange by gloo, started with torchrun. Accelerate does not shard on a CPU, so
`fsdp2_on_cpu.py` beside this file tells it that these are GPUs: all that follows is its own FSDP2 road.
"""

import functools
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import DistributedType
from transformers import AutoModelForCausalLM

from scratch_gpt.runs.checkpoints import list_checkpoints, verify_checkpoint
from scratch_gpt.runs.log import RunLog
from scratch_gpt.settings import processes
from scratch_gpt.settings.processes import check_launch
from scratch_gpt.training.pretrain.distribution import check_distribution
from wording import shows, user_error


STAGE = Path(__file__).parents[3] / "train" / "pretrain.py"
FSDP2 = Path(__file__).parents[1] / "fsdp2_on_cpu.py"
# Two processes with four blocks each, or one with two micro-batches of four; without dropout, which differs by process.
MODEL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
SETTINGS = {"model_config": MODEL, "per_device_train_batch_size": 4, "max_eval_blocks": 7}
ONE = {**SETTINGS, "gradient_accumulation_steps": 2}


@pytest.mark.parametrize("use_cpu", ["True", "False"])
def test_a_launch_that_lost_its_processes_is_refused(monkeypatch, use_cpu) -> None:
    """What accelerate leaves in the environment for --num_processes 1, for 2 (with and without --cpu), torchrun for 2."""
    for name in ("MASTER_ADDR", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ACCELERATE_USE_CPU", use_cpu)
    check_launch()
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    with user_error("processes_lost", "torchrun --nproc_per_node"):
        check_launch()
    monkeypatch.setenv("WORLD_SIZE", "2")
    check_launch()
    monkeypatch.delenv("WORLD_SIZE")
    monkeypatch.delenv("ACCELERATE_USE_CPU")
    check_launch()


@pytest.mark.parametrize(
    ("of_stage", "lost"), [("10.0.0.1", False), ("127.0.0.1", True)], ids=["exported", "by accelerate"]
)
def test_an_address_that_the_launcher_was_started_with_is_no_lost_launch(
    monkeypatch, of_stage: str, lost: bool
) -> None:
    """Batch systems export one; accelerate sets its own where it was asked for several processes."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    exported = {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"}
    monkeypatch.setattr(processes, "launcher_environment", lambda: exported)
    for name, value in (exported | {"MASTER_ADDR": of_stage, "ACCELERATE_USE_CPU": "False"}).items():
        monkeypatch.setenv(name, value)
    with user_error("processes_lost") if lost else nullcontext():
        check_launch()


def test_the_environment_that_the_launcher_began_with_is_known() -> None:
    """What it changes for the processes that it starts is not in it."""
    code = "from scratch_gpt.settings.processes import launcher_environment as found; print(found()['MASTER_ADDR'])"
    launcher = (
        "import os, subprocess, sys; os.environ['MASTER_ADDR'] = 'own'; "
        f"subprocess.run([sys.executable, '-c', {code!r}], check=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", launcher],
        env=os.environ | {"MASTER_ADDR": "exported"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "exported\n"


@pytest.mark.slow
@pytest.mark.parametrize("cpu", [["--cpu"], []], ids=["cpu", "found"])
def test_accelerate_launch_with_two_processes_on_a_cpu_is_refused(data, tmp_path, cpu) -> None:
    """The real launcher, told that this is a CPU, or left to find out: one line, exit status not 0, no folder."""
    launcher = [sys.executable, "-m", "accelerate.commands.launch", *cpu, "--num_processes", "2"]
    done = subprocess.run(
        [
            *launcher,
            str(STAGE),
            *(f"--{key}={value}" for key, value in data.items()),
            f"--output_dir={tmp_path}/o",
        ],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode != 0
    assert shows(done.stderr, "error: ", "torchrun --nproc_per_node")
    assert not (tmp_path / "o").exists()


def test_a_launch_with_tensor_parallelism_is_refused(tmp_path) -> None:
    """By the launcher's environment, before anything is built: one line, no traceback, no folder."""
    names = ("shards", "tokenizer", "output_dir")
    done = subprocess.run(
        [sys.executable, str(STAGE), *(f"--{name}={tmp_path / name}" for name in names)],
        env=os.environ | {"PARALLELISM_CONFIG_TP_SIZE": "2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert shows(done.stderr, "tp_size 2")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "output_dir").exists()


def launched(kind: DistributedType, fsdp_version: int = 2) -> SimpleNamespace:
    """As much of an Accelerator as is looked at."""
    return SimpleNamespace(distributed_type=kind, is_fsdp2=fsdp_version == 2)


def test_unsupported_sharding_is_refused() -> None:
    """DeepSpeed, FSDP in its first version; its second and DDP are not."""
    for accelerator, kind, cure in (
        (launched(DistributedType.DEEPSPEED), "DEEPSPEED", "fsdp2.yaml"),
        (launched(DistributedType.FSDP, fsdp_version=1), "FSDP", "fsdp_version: 2"),
    ):
        with user_error("unsupported_parallelism", cure, kind=kind):
            check_distribution(accelerator)
    check_distribution(launched(DistributedType.FSDP))
    check_distribution(launched(DistributedType.MULTI_GPU, fsdp_version=0))


def training_rows(folder: Path) -> list[dict]:
    return [row for row in RunLog(folder / "log.jsonl").rows() if "loss" in row]


def finish(process: subprocess.Popen) -> str:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


ROADS = pytest.mark.parametrize(
    ("script", "optim"),
    [(STAGE, "muon"), (FSDP2, "muon"), (FSDP2, "adamw")],
    ids=["ddp", "fsdp2-muon", "fsdp2-adamw"],
)


@pytest.fixture(scope="module")
def trained(start, tmp_path_factory):
    """`trained(processes, script, optim)`: the folder of a run of eight blocks a step; each run is made once."""

    @functools.cache
    def run(processes: int, script: Path, optim: str) -> Path:
        folder = tmp_path_factory.mktemp("trained") / "run"
        finish(start(folder, processes, script, **(ONE if processes == 1 else SETTINGS), optim=optim))
        return folder

    return run


@pytest.mark.slow
@ROADS
def test_two_processes_train_as_one(trained, script, optim) -> None:
    """The same blocks in the same steps (hash), the same losses and norms within float error, the same evaluation.

    With sharded weights the loss is computed in chunks too, which must find the head's weights whole.
    """
    folders = trained(1, STAGE, optim), trained(2, script, optim)
    logs = [RunLog(folder / "log.jsonl").rows() for folder in folders]
    for one, two in zip(*logs, strict=True):
        assert one.get("token_hash") == two.get("token_hash")
        for name in ("loss", "grad_norm", "eval_loss", "eval_bits_per_byte"):
            if name in one:
                assert two[name] == pytest.approx(one[name], rel=1e-5)
    one, two = (AutoModelForCausalLM.from_pretrained(folder / "checkpoint-4") for folder in folders)
    for name, tensor in one.state_dict().items():
        torch.testing.assert_close(two.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)
    for file in ("config.json", "modeling_scratch_gpt.py", "generation_config.json"):
        assert (folders[0] / file).read_text() == (folders[1] / file).read_text()
    names = [{path.name for path in folder.iterdir()} for folder in folders]
    assert names[0] == names[1]


@pytest.mark.slow
@ROADS
def test_two_processes_resume_with_the_same_bits(start, tmp_path, script, optim) -> None:
    """With dropout; told to stop by a signal to the launcher, and started again."""
    settings = {**SETTINGS, "model_config": {**MODEL, "attention_dropout": 0.1}, "max_steps": 12}
    settings["optim"] = optim
    finish(start(tmp_path / "straight", 2, script, **settings))
    process = start(tmp_path / "told", 2, script, **settings)
    deadline = time.monotonic() + 200
    while len(list_checkpoints(tmp_path / "told")) < 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=200)
    assert process.returncode != 0
    assert not (tmp_path / "told" / "run.yaml").exists()
    assert verify_checkpoint(list_checkpoints(tmp_path / "told")[-1]) is None
    finish(start(tmp_path / "told", 2, script, **settings, resume_from_checkpoint="latest"))
    clocks = ("elapsed_seconds", "tokens_per_second")
    for straight, told in zip(
        training_rows(tmp_path / "straight"), training_rows(tmp_path / "told"), strict=True
    ):
        assert {k: v for k, v in straight.items() if k not in clocks} == {
            k: v for k, v in told.items() if k not in clocks
        }
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("straight", "told")]
    assert weights[0] == weights[1]


@pytest.mark.slow
def test_sharded_weights_in_bfloat16_give_the_losses_of_ddp(start, tmp_path) -> None:
    """Step by step: gradients are summed, and losses reported, in float32."""
    settings = {**SETTINGS, "optim": "adamw", "mixed_precision": "bf16"}
    for name, script in (("ddp", STAGE), ("fsdp2", FSDP2)):
        finish(start(tmp_path / name, 2, script, **settings))
    ddp, fsdp2 = (training_rows(tmp_path / name) for name in ("ddp", "fsdp2"))
    for one, other in zip(ddp, fsdp2, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)


@pytest.mark.slow
@ROADS
@pytest.mark.parametrize("processes", [(1, 2), (2, 1)], ids=["1-2", "2-1"])
def test_a_run_resumes_with_another_number_of_processes(
    trained, start, tmp_path, script, optim, processes
) -> None:
    """As the uninterrupted one: the same blocks in the same steps (hash), losses within rounding."""
    before, after = processes
    straight = trained(before, script, optim)
    settings = {**(ONE if before == 1 else SETTINGS), "optim": optim}
    settings["resume_from_checkpoint"] = str(straight / "checkpoint-2")
    out = finish(start(tmp_path / "run", after, script, **settings))
    assert shows(out, f"num_processes was {before}, is {after}", "8 blocks a step")
    resumed = training_rows(tmp_path / "run")
    assert [row["step"] for row in resumed] == [3, 4, 5, 6]
    for one, other in zip(training_rows(straight)[2:], resumed, strict=True):
        assert other["token_hash"] == one["token_hash"]
        for name in ("loss", "grad_norm"):
            assert other[name] == pytest.approx(one[name], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("script", [STAGE, FSDP2], ids=["to-fsdp2", "to-ddp"])
def test_a_checkpoint_of_the_other_kind_of_processes_is_refused(trained, start, tmp_path, script) -> None:
    """One line; the folder of the new run is not begun."""
    checkpoint = trained(1, script, "muon") / "checkpoint-2"
    other = FSDP2 if script == STAGE else STAGE
    process = start(tmp_path / "run", 1, other, **ONE, optim="muon", resume_from_checkpoint=str(checkpoint))
    _, errors = process.communicate(timeout=300)
    assert process.returncode != 0
    assert shows(errors, "error: ", f"{checkpoint} was written", "--model_name_or_path")
    assert not (tmp_path / "run").exists()
