# SPDX-License-Identifier: Apache-2.0
"""`accelerate launch` for the files of `train/` and `eval/`, wherever the package was installed from."""

import multiprocessing
import os
import runpy
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import FrameType

import psutil

from scratch_gpt.settings.parsing import scripts_folder
from scratch_gpt.training.planning.launcher import find_launcher_file, read_launcher


# After a Ctrl-C, until it is passed on to a stage that is still running.
GRACE_SECONDS = 10.0

# What the stages of the pipeline load before their first line of work.
PRELOADED = (
    "scratch_gpt.registration",
    "scratch_gpt.training.posttrain.posttraining",
    "scratch_gpt.training.rl.rlhf",
    "scratch_gpt.evaluation.harness",
    "trl.trainer.sft_trainer",
    "trl.trainer.reward_trainer",
)


def shell_line(words: Sequence[str]) -> str:
    """The words as one line for this system's shell: Windows has no single quotes."""
    return subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words)


def launcher_arguments(accelerate_config: str | None) -> list[str]:
    """Options of `accelerate launch` before the script's name.

    Without a file of the user's (given here, or written by `accelerate config`): one process. The three other
    flags only repeat accelerate's defaults, which silences its warning about values that were not passed.
    """
    from accelerate.commands.config.config_args import default_config_file

    if accelerate_config is not None:
        return ["--config_file", find_launcher_file(accelerate_config)]
    if Path(default_config_file).is_file():
        return []
    flags = {"num_processes": "1", "num_machines": "1", "mixed_precision": "no", "dynamo_backend": "no"}
    return [word for name, value in flags.items() for word in (f"--{name}", value)]


def _runs_alone(accelerate_config: str | None) -> bool:
    """Whether the launcher is asked for a single process, by its settings or by none.

    Raises:
        UserError: settings that are not there or no YAML, which the launcher would answer with a traceback.
    """
    from accelerate.commands.config.config_args import default_config_file

    if accelerate_config is None and Path(default_config_file).is_file():
        accelerate_config = default_config_file
    return read_launcher(accelerate_config).num_processes == 1


def _first_gpu() -> str:
    """The only GPU that a single process sees: with more of them TRL refuses to train, and transformers divides batches."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]


def _send(signal_number: int, processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            if sys.platform == "win32":  # which has no signals for a single process
                process.terminate()
            else:
                process.send_signal(signal_number)


def _wait_interrupted(stage: Callable[[], list[psutil.Process]]) -> None:
    """Wait for a stage to end after a Ctrl-C, which may take a step and a checkpoint; each further one begins this again.

    A terminal sends Ctrl-C to the stage too: it is passed on only to a stage that goes on.
    """
    try:
        psutil.wait_procs(stage(), timeout=GRACE_SECONDS)
        running = stage()
        _send(signal.SIGINT, running)
        psutil.wait_procs(running)
    except KeyboardInterrupt:
        _wait_interrupted(stage)


@contextmanager
def _stopped_together(stage: Callable[[], list[psutil.Process]]) -> Iterator[None]:
    """While a stage runs, a signal that only this process was sent stops the stage too: left behind, it would keep writing."""

    def stop(signal_number: int, frame: FrameType | None) -> None:
        running = stage()
        _send(signal_number, running)
        psutil.wait_procs(running)
        raise SystemExit(128 + signal_number)

    previous_handler = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        _wait_interrupted(stage)
        raise SystemExit(128 + signal.SIGINT) from None
    finally:
        signal.signal(signal.SIGTERM, previous_handler)


def launch(script: str, arguments: list[str], accelerate_config: str | None = None) -> int:
    """Run a file of the scripts folder (such as `train/sft.py`) through `accelerate launch`; return its exit code.

    The launcher runs in this process and starts the script in its own.
    """
    from accelerate.commands.launch import launch_command, launch_command_parser
    from accelerate.utils import patch_environment
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    alone = _runs_alone(accelerate_config)
    gpus = patch_environment(CUDA_VISIBLE_DEVICES=_first_gpu()) if alone else nullcontext()
    command = [*launcher_arguments(accelerate_config), str(scripts_folder() / script), *arguments]
    try:
        with gpus, _stopped_together(lambda: psutil.Process().children(recursive=True)):
            launch_command(launch_command_parser().parse_args(command))
    except (
        subprocess.CalledProcessError
    ) as failure:  # with --quiet the launcher would make 1 of every exit code
        return _exit_code(failure.returncode)
    except ChildFailedError as failure:  # of several processes: the script has said why
        _, first = failure.get_first_failure()
        return _exit_code(first.exitcode)
    except SignalException as stopped:  # torch was sent one, and has stopped the processes
        return 128 + stopped.sigval
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else 1
    return 0


def _exit_code(returncode: int) -> int:
    """As a shell has it: 128 and the signal's number for a process that a signal ended."""
    return returncode if returncode >= 0 else 128 - returncode


def launch_preloaded(script: str, arguments: list[str]) -> int:
    """`launch` for a row of stages: each in a process forked from one that has loaded the libraries once for all.

    It is what the launcher does for one process, without five seconds of imports a stage. Where the user has launcher
    settings, or forking a process with libraries in it is not safe (all but Linux), it is `launch`.
    """
    from accelerate.commands.config.config_args import default_config_file
    from accelerate.utils import patch_environment

    if Path(default_config_file).is_file() or sys.platform != "linux":
        return launch(script, arguments)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    threads = os.environ.get("OMP_NUM_THREADS")
    stage = context.Process(target=_run_script, args=(scripts_folder() / script, arguments, threads))

    def running() -> list[psutil.Process]:
        if not stage.is_alive():
            return []
        process = psutil.Process(stage.pid)
        return [process, *process.children(recursive=True)]

    # as the launcher does, for the process that is forked from
    with patch_environment(OMP_NUM_THREADS=threads or "1", CUDA_VISIBLE_DEVICES=_first_gpu()):
        stage.start()
    try:
        with _stopped_together(running):
            stage.join()
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else 1
    return _exit_code(stage.exitcode or 0)


def _run_script(script: Path, arguments: list[str], threads: str | None) -> None:
    if threads is None:  # the user's silence, which stages that train take for all processors
        os.environ.pop("OMP_NUM_THREADS", None)
    sys.argv = [str(script), *arguments]
    runpy.run_path(str(script), run_name="__main__")
