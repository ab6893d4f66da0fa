# SPDX-License-Identifier: Apache-2.0
"""Publishing end to end over HTTP, to a Hub on this machine: what arrives, what is refused, what a kill leaves."""

import errno
import json
import logging
import random
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from scratch_gpt.publishing import push_to_hub, upload, verify
from wording import shows, user_error


ROOT = Path(__file__).parents[2]
REPOSITORY = "user/name"
pytestmark = [
    # huggingface_hub 2.4 calls its own HTTP library in the old way
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]


def local_files(folder: Path) -> dict[str, bytes]:
    """The content of a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def shown(hub, revision: str = "main") -> dict[str, bytes]:
    """What the Hub shows of the repository, without the file that it makes itself."""
    files = hub.files(REPOSITORY, revision) if REPOSITORY in hub.repositories else {}
    files.pop(".gitattributes", None)
    return files


def change_weights(folder: Path) -> None:
    """Another model of the same shape."""
    weights = load_file(folder / "model.safetensors")
    save_file(
        {name: tensor + 1 for name, tensor in weights.items()}, folder / "model.safetensors", {"format": "pt"}
    )


def command(*arguments: str) -> list[str]:
    """`scratch-gpt` with these arguments, as a program."""
    return [sys.executable, "-m", "scratch_gpt.cli", *arguments]


def test_the_folder_arrives_in_one_commit(hub, chat_folder: Path) -> None:
    """Every published file, byte for byte, in a single commit after the Hub's own first one; the rest stays."""
    (chat_folder / "checkpoint-5").mkdir()
    (chat_folder / "checkpoint-5" / "optimizer.pt").write_bytes(b"state")
    sent = upload(chat_folder, REPOSITORY)
    here = local_files(chat_folder)
    del here["checkpoint-5/optimizer.pt"]
    assert shown(hub) == here
    assert len(hub.repositories[REPOSITORY].commits) == 2
    assert hub.repositories[REPOSITORY].branches["main"] == sent.commit
    assert not hub.repositories[REPOSITORY].private


def test_a_second_upload_sends_what_is_new(hub, chat_folder: Path) -> None:
    """Unchanged weights are not sent again; new ones replace the old, also where they were in two files."""
    shutil.copy(chat_folder / "model.safetensors", chat_folder / "model-00001-of-00002.safetensors")
    upload(chat_folder, REPOSITORY)
    (chat_folder / "model-00001-of-00002.safetensors").unlink()
    hub.requests.clear()
    (chat_folder / "run.yaml").write_text("seed: 1\n")
    upload(chat_folder, REPOSITORY)
    assert [path for method, path in hub.requests if method == "PUT"] == []
    assert shown(hub) == local_files(chat_folder)
    change_weights(chat_folder)
    upload(chat_folder, REPOSITORY)
    assert shown(hub) == local_files(chat_folder)


def test_scores_of_an_earlier_model_do_not_stay(hub, chat_folder: Path) -> None:
    """Those that the new one was not measured by, and the template of a chat model; a picture of somebody's does."""
    (chat_folder / "README.md").write_text("---\ntags: [scratch-gpt]\n---\n")
    for name in ("results/qa.json", ".eval_results/scratch-gpt.yaml", "mine.png"):
        (chat_folder / name).parent.mkdir(exist_ok=True)
        (chat_folder / name).write_text("{}")
    upload(chat_folder, REPOSITORY)
    gone = ["results/qa.json", ".eval_results/scratch-gpt.yaml", "chat_template.jinja"]
    assert {*gone, "mine.png"} <= shown(hub).keys()
    for name in (*gone, "mine.png"):
        (chat_folder / name).unlink()
    upload(chat_folder, REPOSITORY)
    assert not {*gone} & shown(hub).keys() and "mine.png" in shown(hub)


def test_a_revision_leaves_main_alone(hub, chat_folder: Path) -> None:
    """step-5 holds the model, main nothing of it."""
    upload(chat_folder, REPOSITORY, revision="step-5", private=True)
    assert shown(hub) == {}
    assert shown(hub, "step-5") == local_files(chat_folder)
    assert hub.repositories[REPOSITORY].private
    upload(chat_folder, REPOSITORY, revision="step-5", private=True)  # the branch is there already


def refusing(status: int, part: str):
    """A fault: requests whose path has `part` get `status`."""
    return lambda method, path: status if part in path else None


@pytest.mark.parametrize(
    ("status", "part", "texts"),
    [
        (401, "repos/create", ["`hf auth login`"]),
        (403, "repos/create", [REPOSITORY, "https://huggingface.co/settings/tokens"]),
        (403, "preupload", [REPOSITORY]),
        (403, "commit/main", [REPOSITORY]),
        (429, "repos/create", ["7 seconds", "publish"]),
        (413, "/lfs/", ["max_shard_size"]),
        (507, "/lfs/", []),
        (500, "commit/main", ["publish"]),
        (-1, "repos/create", ["http://127.0.0.1:", "publish"]),
        (-1, "commit/main", ["http://127.0.0.1:"]),
        (-1, "/tree/", ["http://127.0.0.1:"]),
    ],
)
def test_each_fault_is_one_clear_line(hub, chat_folder: Path, monkeypatch, status, part, texts) -> None:
    """The line names what happened and the cure; main shows nothing; the next try succeeds."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client waits between its tries
    hub.headers_of_faults = {"Retry-After": "7"}
    hub.faults = refusing(status, part)
    with user_error("upload_failed", *texts, *([f"({status})"] * (status > 0)), repository=REPOSITORY):
        upload(chat_folder, REPOSITORY)
    assert shown(hub) == {} or part == "/tree/"  # what cannot be compared has arrived
    hub.faults = lambda method, path: None
    upload(chat_folder, REPOSITORY)
    assert shown(hub) == local_files(chat_folder)


def test_short_interruptions_are_sat_out(hub, chat_folder: Path, monkeypatch) -> None:
    """Two lost connections and a 429 while weights go up do not end the upload."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    troubles = [-1, 429, -1]
    hub.faults = lambda method, path: troubles.pop() if "/lfs/" in path and troubles else None
    upload(chat_folder, REPOSITORY)
    assert troubles == []
    assert shown(hub) == local_files(chat_folder)


def test_without_a_login(hub, chat_folder: Path, monkeypatch) -> None:
    """No token at all: the cure is to log in."""
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", "nowhere")
    with user_error("upload_failed", "`hf auth login`", "HF_TOKEN", repository=REPOSITORY):
        upload(chat_folder, REPOSITORY)


@pytest.mark.parametrize(
    ("repository", "expected"),
    [
        ("stranger/name", user_error("upload_failed", "(403)", repository="stranger/name")),
        ("user/name/more", user_error("invalid_repository", "user/name,", repository="user/name/more")),
        ("user/taken", user_error("repository_taken", "3 files", repository="user/taken")),
        ("user/public", user_error("repository_public", "private", repository="user/public")),
    ],
)
def test_names_that_cannot_be_used(hub, hub_server, chat_folder: Path, repository, expected) -> None:
    """Somebody else's, no name at all, one that holds another model, a public one where a private one is asked for."""
    for name in ("user/taken", "user/public"):
        hub.repositories[name] = hub_server.Repository(private=False)
        files = dict.fromkeys(("README.md", "config.json", "model.safetensors"), (b"other", False))
        hub.repositories[name].commit("main", files if name == "user/taken" else {})
    with expected:
        upload(chat_folder, repository, private=repository == "user/public")
    assert hub.files("user/taken")["config.json"] == b"other"


def test_no_network_is_one_line(chat_folder: Path) -> None:
    """Tests run offline: the line says so."""
    with user_error("upload_failed", "HF_HUB_OFFLINE", repository=REPOSITORY):
        upload(chat_folder, REPOSITORY)


def test_what_the_hub_lists_is_compared(hub, chat_folder: Path, monkeypatch) -> None:
    """A Hub that has stored other bytes than were sent is found out."""
    from scratch_gpt.publishing.checks import PublishedFile

    monkeypatch.setattr(PublishedFile, "digest", lambda self, algorithm: "0" * 40)
    with user_error("upload_differs", REPOSITORY):
        upload(chat_folder, REPOSITORY)


def test_paths_of_this_machine_do_not_go_up(hub, chat_folder: Path) -> None:
    """run.yaml goes up with the last part of a path; the file here keeps the whole."""
    (chat_folder / "run.yaml").write_text("output_dir: /home/me/runs/chat\n")
    upload(chat_folder, REPOSITORY)
    assert shown(hub)["run.yaml"] == b"output_dir: chat\n"
    assert "/home/me" in (chat_folder / "run.yaml").read_text()


def test_the_card_passes_the_hubs_own_check(hub, chat_folder: Path) -> None:
    """huggingface_hub's ModelCard.validate, which posts the card to the Hub; a license it does not know is refused."""
    (chat_folder / "results").mkdir()
    metric = {"value": 0.5, "ci95": [0.4, 0.6], "chance": 0.25}
    result = {"task": "qa", "metrics": {"facts/exact_match": metric}, "versions": {}}
    (chat_folder / "results" / "qa.json").write_text(json.dumps(result))
    upload(chat_folder, REPOSITORY)
    ModelCard.load(chat_folder / "README.md").validate()
    text = (chat_folder / "README.md").read_text().replace("license: unknown", "license: My own!")
    with pytest.raises(ValueError, match="license"):
        ModelCard(text).validate()


def test_published_from_the_command_and_loaded_by_a_stranger(hub, chat_folder: Path, tmp_path: Path) -> None:
    """`scratch-gpt publish` ends with a load in a fresh process; what any program then loads has the same weights."""
    run = subprocess.run(
        command("publish", str(chat_folder), "--hub_model_id", REPOSITORY, "--hub_private_repo"),
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert shows(lines[0], f"{chat_folder}/README.md")
    assert shows(lines[1], f"{hub.url}/user/name", "main", hub.repositories[REPOSITORY].branches["main"])
    assert shows(lines[2], 16_384, 16)  # outputs: 32 positions, 512 tokens; greedy tokens
    model = AutoModelForCausalLM.from_pretrained(REPOSITORY, cache_dir=tmp_path / "cache")
    here = load_file(chat_folder / "model.safetensors")
    assert all(torch.equal(model.state_dict()[name], here[name]) for name in here)


def test_verification_finds_other_weights(hub, chat_folder: Path) -> None:
    """Weights that changed after the upload do not pass; the line says that the upload is there."""
    sent = upload(chat_folder, REPOSITORY)
    change_weights(chat_folder)
    with user_error("verification_failed", sent.url, "model.safetensors", commit=sent.commit):
        verify(sent)


def test_full_disk_while_verifying_is_one_line(hub, chat_folder: Path, monkeypatch) -> None:
    """The download for the check finds no room: said so, and that the upload itself is complete."""
    sent = upload(chat_folder, REPOSITORY)
    full = "import os, shutil\ndef move(*_, **__): raise OSError(28, os.strerror(28))\nshutil.move = move\n"
    (chat_folder.parent / "sitecustomize.py").write_text(full)
    monkeypatch.setenv("PYTHONPATH", str(chat_folder.parent), prepend=":")
    with user_error("verification_failed", sent.url, "No space left on device", commit=sent.commit) as error:
        verify(sent)
    assert "\n" not in str(error.value)


def test_full_disk_while_writing_the_card_is_one_line(hub, chat_folder: Path, monkeypatch) -> None:
    """Nothing is uploaded, and the line tells the file."""

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device", "README.md.tmp")

    monkeypatch.setattr("huggingface_hub.HfApi.create_commit", full)
    with user_error("upload_failed", "README.md.tmp", repository=REPOSITORY):
        upload(chat_folder, REPOSITORY)


@pytest.mark.slow
def test_commands_of_the_guide_run_as_printed(hub, chat_folder: Path, tmp_path: Path, monkeypatch) -> None:
    """Each command of the first block of docs/how-to/publishing.md, against a Hub on this machine."""
    guide = (ROOT / "docs" / "how-to" / "publishing.md").read_text(encoding="utf-8")
    commands = guide.split("```")[1].strip().splitlines()
    assert len(commands) == 6
    for folder in ("aligned", "base/checkpoint-2000"):
        shutil.copytree(chat_folder, tmp_path / "runs/demo" / folder)
    (tmp_path / "runs/demo/aligned/log.jsonl").write_text('{"step": 1, "loss": 1.0, "tokens": 9}\n')
    for name in ("train", "eval"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    for line in commands:
        program, *arguments = shlex.split(line)
        start = {
            "scratch-gpt": ["-m", "scratch_gpt.cli"],
            "accelerate": ["-m", "accelerate.commands.accelerate_cli"],
        }
        run = subprocess.run([sys.executable, *start[program], *arguments], capture_output=True, text=True)
        assert run.returncode == 0, f"{line}: {run.stderr}"
    assert (tmp_path / "runs/demo/report.html").is_file()
    assert shown(hub) == local_files(tmp_path / "runs/demo/aligned") | {"README.md": shown(hub)["README.md"]}
    assert "model.safetensors" in shown(hub, "step-2000")


def test_a_stage_whose_upload_fails_names_the_command_for_it_alone(
    hub, chat_folder: Path, monkeypatch
) -> None:
    """Running the stage again would train again."""
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with user_error(
        "upload_failed",
        "(401)",
        f"scratch-gpt publish {chat_folder} --hub_model_id user/name --hub_private_repo",
    ):
        push_to_hub(str(chat_folder), REPOSITORY, hub_private_repo=True)


UPLOADER = """
import sys
from scratch_gpt.publishing import upload
upload(sys.argv[1], sys.argv[2])
"""


@pytest.mark.slow
def test_killed_at_ten_random_moments_main_never_shows_half_a_model(hub, chat_folder: Path) -> None:
    """kill -9 from the first request on, at moments spread over a whole upload: main shows the old model or the new one.

    Twice a finished upload comes between, so that kills meet an empty repository as well as one with a model.
    """
    generator = random.Random(0)
    hub.seconds_per_chunk = 0.03  # the weights take half a second
    states: list[dict[str, bytes]] = [{}]

    def start() -> subprocess.Popen:
        hub.requests.clear()
        process = subprocess.Popen([sys.executable, "-c", UPLOADER, str(chat_folder), REPOSITORY], stderr=-1)
        while not hub.requests and process.poll() is None:
            time.sleep(0.002)
        return process

    def finish() -> float:
        process, began = start(), time.monotonic()
        _, errors = process.communicate()
        assert process.returncode == 0, errors
        assert shown(hub) == local_files(chat_folder)
        return time.monotonic() - began

    whole = finish()
    hub.repositories.clear()
    killed, moments = 0, []
    for number in range(10):
        if number in (4, 8):
            finish()
        states = [shown(hub)]
        change_weights(chat_folder)
        hub.lfs.clear()
        process = start()
        moments.append(generator.uniform(0, whole))
        time.sleep(moments[-1])
        process.kill()
        process.communicate()
        killed += process.returncode != 0
        time.sleep(0.1)  # requests under way are answered
        assert shown(hub) in (*states, local_files(chat_folder)), f"half a model after {moments[-1]:.2f} s"
    finish()
    times = ", ".join(f"{moment:.2f}" for moment in sorted(moments))
    logging.getLogger(__name__).info("%d of 10 killed, after %s of %.2f s", killed, times, whole)
    assert killed >= 5
