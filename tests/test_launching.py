# SPDX-License-Identifier: Apache-2.0
"""Launching a script through accelerate or preloaded: its arguments, its exit code, what a signal does to it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from scratch_gpt import launching
from wording import user_error


LAUNCHERS = pytest.mark.parametrize("launcher", ["launch", "launch_preloaded"])


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch) -> Path:
    """A scripts folder of the test's own, and no launcher settings of the user's."""
    monkeypatch.setattr(launching, "scripts_folder", lambda: tmp_path)
    monkeypatch.setattr(
        "accelerate.commands.config.config_args.default_config_file", str(tmp_path / "none.json")
    )
    return tmp_path


def begin(launcher: str, folder: Path, *arguments: str, **options) -> subprocess.Popen:
    """A process of its own that launches the folder's stage.py: what is preloaded writes where the first launch wrote."""
    code = (
        "from pathlib import Path; from scratch_gpt import launching\n"
        f"launching.scripts_folder = lambda: Path({str(folder)!r})\n"
        "launching.PRELOADED = ('scratch_gpt.launching',)\n"
        "launching.GRACE_SECONDS = 0.5\n"
        f"exit_codes = (launching.{launcher}('stage.py', [*{arguments!r}, turn]) for turn in ('first', 'second'))\n"
        "raise SystemExit(next(filter(None, exit_codes), 0))"
    )
    environment = os.environ | {"HF_HOME": str(folder)}  # without launcher settings of the user's
    return subprocess.Popen([sys.executable, "-c", code], text=True, env=environment, **options)


def test_scripts_folder_is_the_checkout() -> None:
    """In a checkout the recipes are those beside the package."""
    assert (launching.scripts_folder() / "train").is_dir()
    assert (launching.scripts_folder() / "model_card.md").is_file()


@LAUNCHERS
def test_launched_script_gets_its_arguments(launcher: str, tmp_path: Path) -> None:
    """The script runs with the arguments as given; the launcher adds no word of its own."""
    (tmp_path / "stage.py").write_text("import json, sys; print(json.dumps([sys.argv[1:], __name__]))")
    arguments = ["--learning_rate", "3e-4", "a b"]
    launched = begin(launcher, tmp_path, *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    output, errors = launched.communicate(timeout=120)
    assert [json.loads(line) for line in output.splitlines()] == [
        [[*arguments, turn], "__main__"] for turn in ("first", "second")
    ]
    assert (launched.returncode, errors) == (0, "")


@LAUNCHERS
def test_failing_script_fails_the_launch_without_a_second_traceback(launcher: str, tmp_path: Path) -> None:
    """The exit code is the script's, and what stands on standard error is the script's own line."""
    (tmp_path / "stage.py").write_text(
        "import sys; print('error: that was wrong', file=sys.stderr); raise SystemExit(2)"
    )
    launched = begin(launcher, tmp_path, stderr=subprocess.PIPE)
    assert launched.communicate(timeout=120)[1] == "error: that was wrong\n"
    assert launched.returncode == 2


@pytest.mark.skipif(sys.platform != "linux", reason="stages are forked on Linux only")
def test_preloaded_scripts_share_what_was_loaded_and_nothing_else(tmp_path: Path) -> None:
    """The libraries are there before the script begins; what one script leaves in its process, the next does not see."""
    (tmp_path / "stage.py").write_text(
        "import os, sys\n"
        "print('scratch_gpt.launching' in sys.modules, 'left' in os.environ)\n"
        "os.environ['left'] = 'behind'"
    )
    launched = begin("launch_preloaded", tmp_path, stdout=subprocess.PIPE)
    assert launched.communicate(timeout=120)[0] == 2 * "True False\n"


def test_commands_are_printed_for_the_systems_own_shell(monkeypatch) -> None:
    """Windows has no single quotes."""
    words = ["accelerate", "launch", "C:/my scripts/sft.py"]
    assert launching.shell_line(words) == "accelerate launch 'C:/my scripts/sft.py'"
    monkeypatch.setattr("sys.platform", "win32")
    assert launching.shell_line(words) == 'accelerate launch "C:/my scripts/sft.py"'


def test_settings_of_the_user_are_not_passed_by(scripts: Path, monkeypatch) -> None:
    """Whoever ran `accelerate config` gets accelerate's launcher for every stage."""
    (scripts / "none.json").write_text("{}")
    monkeypatch.setattr(launching, "launch", lambda *arguments: arguments)
    assert launching.launch_preloaded("stage.py", ["--x"]) == ("stage.py", ["--x"])


def test_missing_launcher_settings_are_named(scripts: Path) -> None:
    """A settings file that does not exist is the user's mistake."""
    with user_error("file_not_found", file="nowhere.yaml"):
        launching.launch("stage.py", [], "nowhere.yaml")


def test_launcher_settings_that_are_no_yaml_are_named(scripts: Path) -> None:
    """accelerate itself would end with a traceback; a file of the package's own is found by its name."""
    (scripts / "broken.yaml").write_text("a: [1,")
    with user_error("invalid_yaml", "broken.yaml"):
        launching.launch("stage.py", [], str(scripts / "broken.yaml"))


def test_the_packages_launcher_settings_are_found_from_anywhere(tmp_path: Path, monkeypatch) -> None:
    """By their path or name."""
    monkeypatch.chdir(tmp_path)
    for name in ("train/accelerate/single_gpu.yaml", "single_gpu.yaml"):
        option, file = launching.launcher_arguments(name)
        assert option == "--config_file"
        assert Path(file).is_file()


@pytest.mark.parametrize(("code", "status"), [(2, 2), (1, 1), (-9, 137)])
def test_the_status_of_several_processes_is_that_of_the_first_that_failed(
    scripts: Path, monkeypatch, code: int, status: int
) -> None:
    """As torchrun reports it, whatever became of the others."""

    def fail(arguments) -> None:
        failures = {
            rank: ProcessFailure(rank, 0, exitcode, "none.json") for rank, exitcode in enumerate((code, -15))
        }
        failures[1].timestamp = failures[0].timestamp + 1
        raise ChildFailedError("stage.py", failures)

    monkeypatch.setattr("accelerate.commands.launch.launch_command", fail)
    assert launching.launch("stage.py", []) == status


def test_a_users_mistake_among_processes_exits_with_2(scripts: Path, monkeypatch) -> None:
    """Two processes by accelerate's own launcher, of which the main one finds the mistake."""
    settings = "distributed_type: FSDP\nnum_processes: 2\nuse_cpu: true\nfsdp_config: {fsdp_version: 2}\n"
    (scripts / "two.yaml").write_text(settings)
    (scripts / "stage.py").write_text(
        "import os, time\nassert os.environ['WORLD_SIZE'] == '2'\n"
        "time.sleep(60 * int(os.environ['RANK']))\nraise SystemExit(2)"
    )
    assert launching.launch("stage.py", [], str(scripts / "two.yaml")) == 2


def test_settings_written_by_accelerate_config_are_left_to_it(scripts: Path) -> None:
    """Flags of ours would override the file that the user made with `accelerate config`."""
    (scripts / "none.json").write_text("{}")
    assert launching.launcher_arguments(None) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_among_processes_is_no_traceback(scripts: Path, monkeypatch, number: signal.Signals) -> None:
    """torch's launcher of several processes raises an exception of its own, after it has stopped them."""

    def stopped(arguments) -> None:
        raise SignalException("stopped", number)

    monkeypatch.setattr("accelerate.commands.launch.launch_command", stopped)
    assert launching.launch("stage.py", []) == 128 + number


@pytest.mark.parametrize(("users", "seen"), [(None, "0"), ("", ""), ("3,1", "3"), ("MIG-a,MIG-b", "MIG-a")])
@LAUNCHERS
def test_a_single_process_sees_one_gpu(launcher: str, tmp_path: Path, monkeypatch, users, seen) -> None:
    """The first of the user's; the launching process itself goes on seeing all of them."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if users is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", users)
    (tmp_path / "stage.py").write_text("import os; print(repr(os.environ['CUDA_VISIBLE_DEVICES']))")
    launched = begin(launcher, tmp_path, stdout=subprocess.PIPE)
    assert launched.communicate(timeout=120)[0] == 2 * f"{seen!r}\n"


@pytest.mark.parametrize(("processes", "seen"), [(1, "3"), (2, "3,1")])
@pytest.mark.parametrize("of_user", [True, False], ids=["accelerate config", "--accelerate_config"])
def test_gpus_are_hidden_from_single_processes_alone(
    scripts: Path, monkeypatch, processes: int, seen: str, of_user: bool
) -> None:
    """By the settings that hold: those named, or those of `accelerate config`."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    file = scripts / ("none.json" if of_user else "mine.yaml")
    file.write_text(json.dumps({"num_processes": processes}))
    found = []

    def look(arguments) -> None:
        found.append(os.environ["CUDA_VISIBLE_DEVICES"])

    monkeypatch.setattr("accelerate.commands.launch.launch_command", look)
    assert launching.launch("stage.py", [], None if of_user else str(file)) == 0
    assert found == [seen]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3,1"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@LAUNCHERS
def test_a_stage_that_takes_its_time_is_waited_for(
    tmp_path: Path, launcher: str, number: signal.Signals
) -> None:
    """Beyond the grace (0.5 s here); further signals are passed on, the third of which ends this stage."""
    (tmp_path / "stage.py").write_text(
        "import signal, time\n"
        "received = []\n"
        f"signal.signal({int(number)}, lambda *_: received.append(print('received', flush=True)))\n"
        "print('begun', flush=True)\n"
        "while len(received) < 3: time.sleep(0.05)"
    )
    options = {"start_new_session": True, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    parent = begin(launcher, tmp_path, **options)
    assert parent.stdout.readline() == "begun\n"
    for turn in range(3):
        if turn:
            time.sleep(1.0)
        assert parent.poll() is None
        parent.send_signal(number)
        assert parent.stdout.readline() == "received\n"
    assert parent.wait(timeout=30) == 128 + number


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@LAUNCHERS
def test_stopping_the_command_stops_the_stage(tmp_path: Path, launcher: str, number: signal.Signals) -> None:
    """No stage is left behind that goes on writing after its parent was stopped, even if only the parent was told."""
    (tmp_path / "stage.py").write_text(
        f"import os, time, pathlib\npathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))\ntime.sleep(60)"
    )
    parent = begin(launcher, tmp_path, start_new_session=True, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (tmp_path / "pid").is_file() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < deadline, "the stage never started"
        time.sleep(0.05)
    parent.send_signal(number)
    assert parent.wait(timeout=30) == 128 + number
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
