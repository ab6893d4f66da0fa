# SPDX-License-Identifier: Apache-2.0
"""Kill a pretraining run with SIGKILL at random moments, resume it each time, and compare it with one left alone.

    python eval/kill_test.py --config train/configs/demo/pretrain.yaml --max_steps 200 --save_steps 20 --kills 20
    python eval/kill_test.py --config ... --num_processes 2 --output_dir runs/kill_test

What it does not know itself goes to `train/pretrain.py`. Exit status 0: after all kills, every number of log.jsonl
(clocks aside), the hash of the tokens trained on, and the weights have the bits of the undisturbed run.
"""

import argparse
import contextlib
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from scratch_gpt.launching import scripts_folder
from scratch_gpt.training.telemetry import RunLog


CLOCKS = ("elapsed_seconds", "tokens_per_second")


def command(num_processes: int, output_dir: Path, rest: list[str]) -> list[str]:
    """The pretraining stage in one process, or in several by torchrun, with a log row a step unless told otherwise."""
    script = str(scripts_folder() / "train" / "pretrain.py")
    # the port is chosen by the system: the one of a killed launcher may still be taken
    torchrun = [
        "-m",
        "torch.distributed.run",
        "--nproc_per_node",
        str(num_processes),
        "--rdzv_backend",
        "c10d",
    ]
    torchrun += ["--rdzv_endpoint", "localhost:0"]
    launcher = torchrun if num_processes > 1 else []
    settings = ["--logging_steps", "1", *rest, "--resume_from_checkpoint", "latest"]
    return [sys.executable, *launcher, script, *settings, "--output_dir", str(output_dir)]


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


def main() -> None:
    """One undisturbed run, then runs that are killed until the kills are used up, each compared when it is complete."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--num_processes", type=int, default=1)
    parser.add_argument("--output_dir", type=Path, default=Path("runs/kill_test"))
    parser.add_argument("--random_seed", type=int, default=0, help="of the moments")
    arguments, rest = parser.parse_known_args()
    moments = random.Random(arguments.random_seed)
    shutil.rmtree(arguments.output_dir, ignore_errors=True)

    started = time.monotonic()
    run(command(arguments.num_processes, arguments.output_dir / "straight", rest))
    whole_run = time.monotonic() - started
    rows, weights = outcome(arguments.output_dir / "straight")
    print(f"undisturbed: {whole_run:.0f} s, {len(rows)} rows, last {rows[-1]}")

    kills = rounds = differences = 0
    while kills < arguments.kills:
        rounds += 1
        folder = arguments.output_dir / f"killed-{rounds}"
        while kills < arguments.kills and not run(
            command(arguments.num_processes, folder, rest), moments.uniform(0, whole_run)
        ):
            kills += 1
            logged = [row["step"] for row in RunLog(folder / "log.jsonl").rows()]
            print(f"kill {kills}: round {rounds}, after step {logged[-1] if logged else 0}")
        if not (folder / "run.yaml").is_file():
            run(command(arguments.num_processes, folder, rest))
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
    main()
