# SPDX-License-Identifier: Apache-2.0
"""Rewards from a Python file of the user's: what it gives, what goes wrong in it, and whose code is not run."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from scratch_gpt.training.rl.reward_files import load_reward, refuse_code_of_model
from scratch_gpt.training.rl.reward_functions import Reward, check_rewards, make_rewards
from wording import shows, user_error


CODE = """
from __future__ import annotations
from dataclasses import dataclass

@dataclass
class Limits:
    shortest: int = 1

def brevity(completions, **kwargs):
    return [-len(completion[0]["content"]) for completion in completions]

def asked(prompts, completion_ids, **_):
    return [float(prompt[-1]["content"] == "Hi?" and ids == [5]) for prompt, ids in zip(prompts, completion_ids)]

def broken(completions, **kwargs):
    return [1 / 0 for _ in completions]

def short(completions, **kwargs):
    return [1.0]

def narrow(completions):
    return [0.0 for _ in completions]
"""
ASKED = [[{"role": "user", "content": text}] for text in ("Hi?", "Ho?")]
SAID = [[{"role": "assistant", "content": text}] for text in ("abc", "")]


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "my_rewards.py").write_text(CODE, encoding="utf-8")
    return str(tmp_path / "my_rewards.py")


def reward_of(path: str) -> Reward:
    settings = {"reward_model": None, "tokenizer": None, "stop_token_ids": [0], "prompts": []}
    return make_rewards(check_rewards([{"path": path, "weight": 2}]), **settings)[0]


def test_a_function_of_a_file_is_called_as_by_trl(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """By keywords, with whole conversations; the log calls it by its name, and the terminal says whose code runs."""
    brevity = reward_of(f"{file}:brevity")
    assert (brevity.__name__, brevity.weight) == ("brevity", 2.0)
    assert brevity(prompts=ASKED, completions=SAID, completion_ids=[[5], [6]]) == [-3.0, 0.0]
    assert reward_of(f"{file}:asked")(ASKED, SAID, [[5], [5]]) == [1.0, 0.0]
    assert shows(capsys.readouterr().out, "brevity", file)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("broken", user_error("reward_failed", "ZeroDivisionError", ":16", reward="broken")),
        ("narrow", user_error("reward_failed", "TypeError", reward="narrow")),
        ("short", user_error("reward_count", reward="short", found=1, wanted=2)),
    ],
)
def test_what_fails_in_it_is_one_line(
    file: str, name: str, expected: user_error, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the function's, with its line, also of a file named from its folder; the wrong number of values."""
    monkeypatch.chdir(Path(file).parent)
    for path in (file, Path(file).name):
        score = load_reward(f"{path}:{name}")
        with expected:
            score(ASKED, SAID, [[5], [6]])


def test_what_is_not_there_is_one_line(file: str, tmp_path: Path) -> None:
    """No function of that name, a file that fails, no file, no function named."""
    with user_error("reward_missing", reward="none"):
        load_reward(f"{file}:none")
    (tmp_path / "bad.py").write_text("import nowhere_to_be_found")
    with user_error("reward_failed", "nowhere_to_be_found", reward="f"):
        load_reward(f"{tmp_path}/bad.py:f")
    with user_error("file_not_found", file="nowhere.py"):
        check_rewards([{"path": "nowhere.py:f"}])
    with user_error("wrong_value", setting="path", value="my_rewards.py"):
        check_rewards([{"path": "my_rewards.py"}])


@pytest.mark.parametrize("place", ["run.yaml", "configs/rlhf.yaml"])
@pytest.mark.parametrize("origin", ["config", "user"])
def test_a_model_brings_no_code(file: str, tmp_path: Path, origin: str, place: str) -> None:
    """A config beside or below a model's config.json may not name code; elsewhere, or on the command line, it may."""
    folder = tmp_path / "model"
    folder.mkdir()
    arguments = SimpleNamespace(
        rewards=check_rewards([{"path": f"{file}:brevity"}]),
        given={"rewards": origin},
        config_file=str(folder / place),
    )
    refuse_code_of_model(arguments)
    (folder / "config.json").write_text("{}")
    if origin == "user":
        refuse_code_of_model(arguments)
    else:
        with user_error("code_of_model", file=folder / place, path=f"{file}:brevity"):
            refuse_code_of_model(arguments)
