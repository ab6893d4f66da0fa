# SPDX-License-Identifier: Apache-2.0
"""`scratch-gpt new`: mistakes in one line, an earlier call resumed, and one run from end to end."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from scratch_gpt import primer
from scratch_gpt.new import command, decision
from scratch_gpt.new.arguments import NewArguments, default_folder, parse_size
from scratch_gpt.new.decision import check_fitting, read_rows
from scratch_gpt.new.planning import Rows
from scratch_gpt.new.showing import opening_question
from wording import shows, user_error


def arguments(folder: Path, *texts: str, **changes) -> NewArguments:
    """What a user asks for."""
    wanted = NewArguments(
        texts=list(texts) or ["book.txt"],
        minutes=5,
        instructions=None,
        preferences=None,
        language=None,
        output_dir=folder,
        size=None,
        documents="running",
        dry_run=False,
        yes=True,
    )
    return dataclasses.replace(wanted, **changes)


@pytest.mark.parametrize(
    ("text", "size"),
    [("10m", 10e6), ("1.5M", 1.5e6), ("800k", 800e3), ("2b", 2e9), ("5000", 5000), (None, None)],
)
def test_sizes_as_people_write_them(text, size) -> None:
    """Thousands, millions, billions, or the number."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["big", "-3m", "0m", "10 mb"])
def test_other_sizes_are_refused(text) -> None:
    """In one line that shows some."""
    with user_error("wrong_value", "10m", setting="size", value=text):
        parse_size(text)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"minutes": 0.5}, "too_little_time"),
        ({"minutes": float("nan")}, "wrong_value"),
        ({"minutes": float("inf")}, "wrong_value"),
        ({"documents": "chapter"}, "wrong_value"),
        ({"preferences": "pairs.jsonl"}, "setting_missing"),
        ({"language": "turkish"}, "wrong_value"),
    ],
)
def test_mistakes_are_found_before_anything_is_read(changes, code, tmp_path) -> None:
    """Too few minutes, an unknown way to divide, a language without a code, pairs for a model that cannot answer."""
    with user_error(code):
        arguments(tmp_path, **changes)


@pytest.mark.parametrize(
    ("text", "folder"),
    [
        ("books/My Book (1).txt", "runs/My-Book-1"),
        ("texts/*.jsonl", "runs/texts"),
        ("data/", "runs/data"),
        ("हिन्दी.txt", "runs/हिन्दी"),
        ("ที่ (2).txt", "runs/ที่-2"),
        ("e\u0301te\u0301.txt", "runs/\u00e9t\u00e9"),
    ],
)
def test_the_folder_is_called_after_the_text(text, folder) -> None:
    """Without what a shell would ask to be quoted."""
    assert default_folder([text]) == Path(folder)


def test_a_folder_with_other_things_is_left_alone(tmp_path) -> None:
    """Named with what it holds."""
    (tmp_path / "thesis.tex").write_text("")
    with user_error("output_occupied", file="thesis.tex"):
        command.run_new(arguments(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("name", ["corpus", "corpus.tmp"])
def test_a_users_own_folder_of_that_name_is_left_alone(name, tmp_path) -> None:
    """Refused before anything is read, and still there; what an interrupted call left is taken away."""
    (tmp_path / "mine" / name).mkdir(parents=True)
    (tmp_path / "mine" / name / "train.jsonl").write_text("{}\n")
    (tmp_path / "mine" / name / "novel.txt").write_text("All my work.")
    with user_error("output_occupied", file=name):
        command.run_new(arguments(tmp_path / "mine", "no such text", dry_run=True))
    assert (tmp_path / "mine" / name / "novel.txt").read_text() == "All my work."
    (tmp_path / "mine" / name / "novel.txt").unlink()
    with user_error("file_not_found"):
        command.run_new(arguments(tmp_path / "mine", "no such text", dry_run=True))
    assert (tmp_path / "mine").is_dir() == (name != "corpus")


def test_another_command_in_the_folder_of_a_run_is_refused(tmp_path) -> None:
    """What differs is named with its value."""
    (tmp_path / "plan.json").write_text("{}")
    with pytest.MonkeyPatch.context() as patch:
        earlier = arguments(tmp_path, minutes=30).inputs()
        patch.setattr(command, "read_plan", lambda path: type("Plan", (), {"inputs": earlier}))
        with user_error("settings_changed", "minutes was 30", settings=["minutes"]):
            command.run_new(arguments(tmp_path))


def test_too_few_rows_are_found_before_anything_is_trained(tmp_path) -> None:
    """Instructions that could not be held out are refused with the text still unread."""
    row = {"prompt": "What is it?", "completion": "A row."}
    (tmp_path / "rows.jsonl").write_text((json.dumps(row) + "\n") * 3)
    with user_error("too_few_rows", 100, rows=3):
        read_rows(arguments(tmp_path / "out", instructions=str(tmp_path / "rows.jsonl")), Console())


def test_rows_are_measured_in_bytes_and_bad_ones_reported(tmp_path, capsys) -> None:
    """One bad row in four does not end the run; a pair has the size of its longer answer."""
    wanted = arguments(
        tmp_path, instructions=str(tmp_path / "a.jsonl"), preferences=str(tmp_path / "b.jsonl")
    )
    good = {"prompt": "Яблоко?", "completion": "Да."}
    pair = {"prompt": "Why?", "chosen": "No.", "rejected": "Because it is."}
    with (tmp_path / "a.jsonl").open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in [{"prompt": 3}, *[good] * 3] * 50)
    (tmp_path / "b.jsonl").write_text((json.dumps(pair) + "\n") * 120)
    rows = read_rows(wanted, Console())
    assert rows["sft"].sizes == [13 + 5] * 150
    assert rows["dpo"].sizes == [4 + 14] * 120
    assert shows(capsys.readouterr().out, "left out 50 of 200 rows")


def test_rows_longer_than_the_context_are_refused(tmp_path) -> None:
    """Found by their bytes, with how many fit and how long they may be."""
    wanted = arguments(tmp_path, instructions="a.jsonl", preferences="b.jsonl")
    rows = {"sft": Rows([400] * 100 + [900]), "dpo": Rows([500] * 80 + [900] * 200)}
    check_fitting(wanted, rows, 512, 2.0)
    with user_error("too_few_rows", "--preferences b.jsonl", 280, rows=80, size=480 + 240):
        check_fitting(wanted, rows, 256, 3.0)


def test_only_what_the_time_allows_to_be_read_needs_room(tmp_path, monkeypatch) -> None:
    """Four gigabytes of text on a disk with one: enough for a few minutes, too little for all of it."""
    with (tmp_path / "text.txt").open("w") as file:
        file.truncate(2**32)  # holes take no room
    monkeypatch.setattr(decision.shutil, "disk_usage", lambda place: SimpleNamespace(free=1e9))
    decision.check_disk([tmp_path / "text.txt"], 3e8, tmp_path / "run")
    with user_error("cannot_write", path=tmp_path):
        decision.check_disk([tmp_path / "text.txt"], 1e12, tmp_path / "run")


def test_a_question_is_what_the_user_says() -> None:
    """Not the system prompt before it."""
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    assert opening_question({"messages": messages}) == "Why?"


def test_a_text_that_was_edited_since_is_named(tmp_path, monkeypatch, capsys) -> None:
    """On resume the corpus of the first call is used; one that is gone or older is no matter."""
    wanted = arguments(
        tmp_path / "run", *(str(tmp_path / name) for name in ("new.txt", "old.txt", "gone.txt"))
    )
    (tmp_path / "run").mkdir()
    for name, when in (("run/plan.json", 2e9), ("new.txt", 2e9 + 1), ("old.txt", 2e9 - 1)):
        (tmp_path / name).write_text("{}")
        os.utime(tmp_path / name, (when, when))
    plan = type("Plan", (), {"inputs": wanted.inputs()})
    monkeypatch.setattr(command, "read_plan", lambda path: plan)
    monkeypatch.setattr(command.showing, "show_plan", lambda plan, console: None)
    command.run_new(dataclasses.replace(wanted, dry_run=True))
    output = capsys.readouterr().out
    assert "new.txt" in output
    assert "old.txt" not in output and "gone.txt" not in output


@pytest.mark.slow
def test_a_minute_makes_a_model_and_the_same_command_finds_it(tmp_path) -> None:
    """Text and questions to a chat model and a report; the second call trains nothing."""
    documents = primer.documents(seed=0)
    (tmp_path / "text.jsonl").write_text(
        "".join(json.dumps({"text": next(documents)}) + "\n" for _ in range(3000))
    )
    rows = [{"prompt": f"What is {n} + 1?", "completion": f"It is {n + 1}."} for n in range(300)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = [sys.executable, "-m", "scratch_gpt", "new", "text.jsonl", "--instructions", "rows.jsonl"]
    words += ["--minutes", "2", "--yes", "--output_dir", "mine", "--language", "en"]
    started = time.monotonic()
    first = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stdout + first.stderr
    assert time.monotonic() - started < 1200  # beside other tests; the promise is measured on an idle machine
    for name in ("plan.json", "configs/pretrain.yaml", "base/config.json", "chat/run.yaml", "report.html"):
        assert (tmp_path / "mine" / name).is_file()
    assert "scratch-gpt chat mine/chat" in first.stdout
    again = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert again.stdout.count("complete already") == 4
