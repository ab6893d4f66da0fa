# SPDX-License-Identifier: Apache-2.0
"""Launching a script through accelerate: its arguments, its exit code, what a signal does to it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scratch_gpt import launching
from scratch_gpt.errors import UserError


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch) -> Path:
    """A scripts folder of the test's own, and no launcher settings of the user's."""
    monkeypatch.setattr(launching, "scripts_folder", lambda: tmp_path)
    monkeypatch.setattr(
        "accelerate.commands.config.config_args.default_config_file", str(tmp_path / "none.json")
    )
    return tmp_path


def test_scripts_folder_is_the_checkout() -> None:
    """In a checkout the recipes are those beside the package."""
    assert (launching.scripts_folder() / "train").is_dir()
    assert (launching.scripts_folder() / "model_card.md").is_file()


def test_launched_script_gets_its_arguments(scripts: Path, capfd) -> None:
    """The script runs with the arguments as given; the launcher adds no word of its own."""
    (scripts / "stage.py").write_text("import json, sys; json.dump(sys.argv[1:], open(sys.argv[1], 'w'))")
    arguments = [str(scripts / "out.json"), "--learning_rate", "3e-4", "a b"]
    assert launching.launch("stage.py", arguments) == 0
    assert json.loads((scripts / "out.json").read_text()) == arguments
    assert capfd.readouterr().err == ""


def test_failing_script_fails_the_launch_without_a_second_traceback(scripts: Path, capfd) -> None:
    """The exit code is not zero, and what stands on standard error is the script's own line."""
    (scripts / "stage.py").write_text("import sys; sys.exit('error: that was wrong')")
    assert launching.launch("stage.py", []) != 0
    assert capfd.readouterr().err == "error: that was wrong\n"


def test_missing_launcher_settings_are_named(scripts: Path) -> None:
    """A settings file that does not exist is the user's mistake."""
    with pytest.raises(UserError, match=r"no file nowhere\.yaml"):
        launching.launch("stage.py", [], "nowhere.yaml")


def test_settings_written_by_accelerate_config_are_left_to_it(scripts: Path) -> None:
    """Flags of ours would override the file that the user made with `accelerate config`."""
    (scripts / "none.json").write_text("{}")
    assert launching.launcher_arguments(None) == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopping_the_command_stops_the_stage(tmp_path: Path, number: signal.Signals) -> None:
    """No stage is left behind that goes on writing after its parent was stopped, even if only the parent was told."""
    (tmp_path / "stage.py").write_text(
        f"import os, time, pathlib\npathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))\ntime.sleep(60)"
    )
    code = (
        "from pathlib import Path; from scratch_gpt import launching\n"
        f"launching.scripts_folder = lambda: Path({str(tmp_path)!r})\n"
        "launching.GRACE_SECONDS = 0.5\n"
        "raise SystemExit(launching.launch('stage.py', []))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (tmp_path / "pid").is_file() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < deadline, "the stage never started"
        time.sleep(0.05)
    parent.send_signal(number)
    assert parent.wait(timeout=30) == 128 + number
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
