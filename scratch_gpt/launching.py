# SPDX-License-Identifier: Apache-2.0
"""`accelerate launch` for the files of `train/` and `eval/`, wherever the package was installed from."""

import signal
from importlib import resources
from pathlib import Path
from types import FrameType

import psutil

from scratch_gpt.errors import UserError


# How long an interrupted stage may take to end by itself.
GRACE_SECONDS = 10.0


def scripts_folder() -> Path:
    """The folder that holds `train/`, `eval/` and `model_card.md`: inside the wheel, or the checkout's root."""
    package = Path(str(resources.files("scratch_gpt")))
    shipped = package / "_scripts"
    return shipped if shipped.is_dir() else package.parent


def launcher_arguments(accelerate_config: str | None) -> list[str]:
    """What `accelerate launch` is told before the script's name.

    Without a file of the user's (given here, or written by `accelerate config`): one process. The three other
    flags only repeat accelerate's defaults, which silences its warning about values that were not passed.
    """
    from accelerate.commands.config.config_args import default_config_file

    if accelerate_config is not None:
        if not Path(accelerate_config).is_file():
            raise UserError(
                f"--accelerate_config: no file {accelerate_config}; examples: {scripts_folder()}/train/accelerate"
            )
        return ["--config_file", accelerate_config]
    if Path(default_config_file).is_file():
        return []
    flags = {"num_processes": "1", "num_machines": "1", "mixed_precision": "no", "dynamo_backend": "no"}
    return [word for name, value in flags.items() for word in (f"--{name}", value)]


def _stop_stage(signal_number: int, frame: FrameType | None) -> None:
    """Only this process was told to stop: a stage left behind would go on writing into the folder."""
    children = psutil.Process().children(recursive=True)
    for child in children:
        child.terminate()
    psutil.wait_procs(children, timeout=GRACE_SECONDS)
    raise SystemExit(128 + signal_number)


def launch(script: str, arguments: list[str], accelerate_config: str | None = None) -> int:
    """Run a file of the scripts folder (such as `train/sft.py`) through `accelerate launch`; return its exit code.

    The launcher runs in this process, which has torch loaded already, and starts the script in its own.
    """
    from accelerate.commands.launch import launch_command, launch_command_parser

    # --quiet: a failing script has said why; the launcher's own traceback would bury it.
    command = ["--quiet", *launcher_arguments(accelerate_config), str(scripts_folder() / script), *arguments]
    previous_handler = signal.signal(signal.SIGTERM, _stop_stage)
    try:
        launch_command(launch_command_parser().parse_args(command))
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else 1
    except KeyboardInterrupt:
        # A terminal sends Ctrl-C to the stage too: give it time to say its last word, and ask again if it was not told.
        _, running = psutil.wait_procs(psutil.Process().children(recursive=True), timeout=GRACE_SECONDS)
        for child in running:
            child.send_signal(signal.SIGINT)
        psutil.wait_procs(running, timeout=GRACE_SECONDS)
        return 128 + signal.SIGINT
    finally:
        signal.signal(signal.SIGTERM, previous_handler)
    return 0
