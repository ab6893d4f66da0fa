# SPDX-License-Identifier: Apache-2.0
"""Several processes of one launch: that they are as many as asked for, and that a mistake is reported once."""

import os
import sys
import time
from typing import NoReturn

import psutil

from scratch_gpt.errors import UserError


# For the launcher to stop the other processes when the main one has failed: it looks ten times a second.
SECONDS_FOR_LAUNCHER = 10.0


def launcher_environment() -> dict[str, str]:
    """The variables that the process which started this one began with, none where they are not readable."""
    try:
        launcher = psutil.Process().parent()
        return dict(launcher.environ()) if launcher else {}
    except psutil.Error:
        return {}


def check_launch() -> None:
    """Refuse, before anything is built, launches that would not train what they ask for.

    Accelerate 1.15 starts one process for `--num_processes 2` (and for a YAML that says so) on a CPU and on a single
    GPU, without a word. The trace that it leaves is the address of a main process that nobody will call, beside the
    variable that only this launcher sets, to True or False. An address that the launcher was started with says nothing:
    batch systems and cloud images export one. For tensor and context parallelism its own constructor fails: it imports
    a class that transformers 5.23 no longer has.

    Raises:
        UserError: such a launch.
    """
    environment, before = os.environ, launcher_environment()
    new = any(environment.get(name) != before.get(name) for name in ("MASTER_ADDR", "MASTER_PORT"))
    if (
        new
        and {"ACCELERATE_USE_CPU", "MASTER_ADDR"} <= environment.keys()
        and "WORLD_SIZE" not in environment
    ):
        raise UserError(
            "processes_lost",
            "accelerate launch was asked for several processes and started one, as it does on a CPU and on one GPU: "
            f"on a CPU use torchrun --nproc_per_node N {sys.argv[0]} ..., on one GPU num_processes 1",
        )
    for kind in ("tp", "cp", "sp"):
        size = os.environ.get(f"PARALLELISM_CONFIG_{kind.upper()}_SIZE", "1")
        if size != "1":
            message = (
                f"parallelism_config: {kind}_size {size} is not supported, only data-parallel dimensions "
                "(dp_replicate_size, dp_shard_size): leave it out, and use train/accelerate/fsdp2.yaml to shard a model"
            )
            raise UserError("unsupported_parallelism", message, kind=kind)


def is_first_process() -> bool:
    """Whether this is the one process of a launch that works where several cannot, without starting a process group."""
    return os.environ.get("RANK", "0") == "0"


def exit_with_error(line: str, status: int) -> NoReturn:
    """End with one line on stderr, printed by the main process alone where all processes fail.

    The others wait for the launcher, which stops them when the main one has failed; who is still alive then has found
    something of its own. Among several processes the interpreter does not clean up: a DDP model in a traceback would
    be the last to hold the process group, and now and then the process would never end.
    """
    if not is_first_process():
        time.sleep(SECONDS_FOR_LAUNCHER)
    print(line, file=sys.stderr, flush=True)
    if os.environ.get("WORLD_SIZE", "1") != "1":
        sys.stdout.flush()
        os._exit(status)
    raise SystemExit(status) from None
