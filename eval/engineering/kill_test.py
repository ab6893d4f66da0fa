# SPDX-License-Identifier: Apache-2.0
"""Kill a pretraining run with SIGKILL at random moments, resume it each time, and compare it with one left alone.

    python eval/engineering/kill_test.py --pretrain_config train/configs/demo/pretrain.yaml --kills 20
    python eval/engineering/kill_test.py --pretrain_config train/configs/demo/pretrain.yaml --kills 20 --num_processes 2
    python eval/engineering/kill_test.py --pretrain_config train/configs/demo/pretrain.yaml --kills 20 --busy true

Exit status 0: after all kills, every number of log.jsonl (clocks aside), the hash of the tokens trained on, and the
weights have the bits of the undisturbed run.
"""

import scratch_gpt.native_libraries  # noqa: F401  # before torch

import contextlib
import random
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from busy import busy_process

from scratch_gpt.runs.log import RunLog
from scratch_gpt.settings.parsing import run_stage, scripts_folder


CLOCKS = ("elapsed_seconds", "tokens_per_second")


@dataclass
class KillTestArguments:
    """Settings of `eval/engineering/kill_test.py`."""

    pretrain_config: str = field(
        metadata={"help": "YAML of the pretraining stage; its shards must be there."}
    )
    kills: int = field(default=20, metadata={"help": "How often to kill, over as many runs as that takes."})
    num_processes: int = field(default=1, metadata={"help": "More than 1: started with torchrun."})
    busy: bool = field(
        default=False, metadata={"help": "Another process keeps a core busy beside every second run."}
    )
    max_steps: int = field(default=200, metadata={"help": "Steps of the run."})
    save_steps: int = field(default=20, metadata={"help": "Steps between its checkpoints."})
    output_dir: str = field(default="runs/kill_test", metadata={"help": "Emptied first; holds every run."})
    seed: int = field(default=0, metadata={"help": "Seed of the moments."})


def command(arguments: KillTestArguments, output_dir: Path) -> list[str]:
    """The pretraining stage in one process, or in several by torchrun, with a log row a step."""
    # the port is chosen by the system: the one of a killed launcher may still be taken
    torchrun = ["-m", "torch.distributed.run", "--nproc_per_node", str(arguments.num_processes)]
    torchrun += ["--rdzv_backend", "c10d", "--rdzv_endpoint", "localhost:0"]
    launcher = torchrun if arguments.num_processes > 1 else []
    script = [str(scripts_folder() / "train" / "pretrain.py"), "--config", arguments.pretrain_config]
    settings = {
        "max_steps": arguments.max_steps,
        "save_steps": arguments.save_steps,
        "logging_steps": 1,
        "resume_from_checkpoint": "latest",
        "output_dir": output_dir,
    }
    options = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    return [sys.executable, *launcher, *script, *options]


def run(arguments: list[str], seconds: float | None = None) -> bool:
    """Run to the end, or kill every process of it after `seconds`; returns whether it came to its end.

    Raises:
        SystemExit: it failed by itself.
    """
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            _, errors = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            family = [psutil.Process(process.pid)]
            family += family[0].children(recursive=True)
            for member in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.kill()
            psutil.wait_procs(family[1:])
            return False
    if process.returncode != 0:
        raise SystemExit(f"error: the run failed by itself: {errors[-2000:]}")
    return True


def outcome(output_dir: Path) -> tuple[list[dict[str, Any]], bytes]:
    """All that must be equal: the rows without their clocks, and the weights."""
    rows = [
        {name: value for name, value in row.items() if name not in CLOCKS}
        for row in RunLog(output_dir / "log.jsonl").rows()
    ]
    return rows, (output_dir / "model.safetensors").read_bytes()


def main(arguments: KillTestArguments) -> None:
    """One undisturbed run, then runs that are killed until all kills are done, each compared when it is complete."""
    output_dir = Path(arguments.output_dir)
    moments = random.Random(arguments.seed)
    shutil.rmtree(output_dir, ignore_errors=True)

    started = time.monotonic()
    run(command(arguments, output_dir / "straight"))
    whole_run = time.monotonic() - started  # the shortest so far: later moments would not kill
    rows, weights = outcome(output_dir / "straight")
    print(f"undisturbed: {whole_run:.0f} s, {len(rows)} rows, last {rows[-1]}")

    kills = rounds = differences = 0
    while kills < arguments.kills:
        rounds += 1
        folder = output_dir / f"killed-{rounds}"
        while kills < arguments.kills:
            busy = arguments.busy and kills % 2 == 1
            started = time.monotonic()
            with busy_process() if busy else contextlib.nullcontext():
                if run(command(arguments, folder), moments.uniform(0, whole_run)):
                    whole_run = min(whole_run, time.monotonic() - started)
                    break
            kills += 1
            logged = [row["step"] for row in RunLog(folder / "log.jsonl").rows()]
            beside = ", beside a busy process" if busy else ""
            print(f"kill {kills}: round {rounds}, after step {logged[-1] if logged else 0}{beside}")
        if not (folder / "run.yaml").is_file():
            run(command(arguments, folder))
        killed_rows, killed_weights = outcome(folder)
        different = [step for step, other in zip(rows, killed_rows) if step != other]
        differences += len(different) + abs(len(rows) - len(killed_rows)) + (weights != killed_weights)
        print(
            f"round {rounds}: {len(different)} rows differ, weights {'equal' if weights == killed_weights else 'DIFFER'}"
        )
    print(
        f"{kills} kills on {arguments.num_processes} process(es), {rounds} rounds, {differences} differences"
    )
    raise SystemExit(differences > 0)


if __name__ == "__main__":
    run_stage(main, KillTestArguments)
