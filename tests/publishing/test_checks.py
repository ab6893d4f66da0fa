# SPDX-License-Identifier: Apache-2.0
"""What may leave the machine: named files, without secrets and without this machine's paths."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from scratch_gpt import cli
from scratch_gpt.errors import UserError
from scratch_gpt.publishing import PublishArguments, publish
from scratch_gpt.publishing.checks import find_secret, pack, shorten_paths
from wording import shows, user_error


def test_only_named_kinds_of_files_go(chat_folder: Path) -> None:
    """Checkpoints, optimizer state, data, pickles and hidden files stay; weights, tokenizer, code and records go."""
    stays = (
        "checkpoint-5/model.safetensors",
        "checkpoint-5/optimizer.pt",
        "training_args.bin",
        "data.jsonl",
        ".env",
    )
    goes = ("run.yaml", "log.jsonl", "provenance.json", "results/qa.json", "report.png", "README.md")
    for name in (*stays, *goes):
        (chat_folder / name).parent.mkdir(exist_ok=True)
        (chat_folder / name).write_text("x")
    package = pack(chat_folder)
    packed = {file.path for file in package.files}
    assert {*goes, "model.safetensors", "config.json", "tokenizer.json", "modeling_scratch_gpt.py"} <= packed
    assert not packed & set(stays)
    assert package.left_out == (".env", "checkpoint-5", "data.jsonl", "training_args.bin")
    assert package.own_code


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("hub_token: hf_" + "a1B2" * 9, "a Hugging Face token"),
        ('{"k": "sk-proj-' + "x1" * 12 + '"}', "an API key"),
        ("ghp_" + "a" * 36, "a GitHub token"),
        ("AKIA" + "ABCD1234" * 2, "an AWS key"),
        ("AIza" + "a" * 35, "a Google key"),
        ("xoxb-" + "1" * 12, "a Slack token"),
        ("-----BEGIN RSA PRIVATE KEY-----", "a private key"),
        ("path: https://me:pass@host/data", "a password in an address"),
        ("WANDB_API_KEY=" + "0123456789abcdef" * 2, "a secret"),
        ("password: 'correct-horse-battery'", "a secret"),
    ],
)
def test_secrets_are_found_and_refused(chat_folder: Path, text: str, kind: str) -> None:
    """Each kind, with its line; nothing is packed."""
    assert find_secret(f"a\nb\n{text}") == f"{kind} in line 3"
    (chat_folder / "run.yaml").write_text(f"seed: 1\n{text}\n")
    with user_error(
        "secret_found", "line 2", file=chat_folder / "run.yaml", kind=f"{kind} in line 2"
    ) as error:
        pack(chat_folder)
    assert text not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "tokenizer_hash: 6f82bcd679d453fd094fe3e541e1c7ab12de40f1ae7ed3a66e9c4be673c69536",
        '"eos_token": "<|im_end|>", "pad_token": "<|pad|>"',
        "secrets: none",
        "https://huggingface.co/user/name",
        '<img src="data:image/png;base64,' + "AIza" + "a" * 40 + '">',
    ],
)
def test_what_is_no_secret(text: str) -> None:
    """Hashes, special tokens, addresses and pictures pass."""
    assert find_secret(text) is None


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("output_dir: /home/me/runs/base\n", "output_dir: base\n"),
        ('{"model": "/mnt/disk-1/a.b/chat/", "n": 3}', '{"model": "chat", "n": 3}'),
        (r'{"model": "C:\\Users\\me\\chat"}', '{"model": "chat"}'),
        ("from `/data/x/base` and file:///tmp/a/b", "from `base` and b"),
    ],
)
def test_absolute_paths_lose_their_head(text: str, short: str) -> None:
    """The last part stays: it is what the next stage looks for beside the folder."""
    assert shorten_paths(text) == (
        short,
        text.count("/chat/") + text.count("base") + text.count("\\chat") + text.count("tmp"),
    )


@pytest.mark.parametrize(
    "text",
    [
        "runs/demo/base",
        "https://huggingface.co/user/name",
        "50 km/h and/or 3/4",
        "a / b / c",
        "rewards/reward/mean",
    ],
)
def test_what_is_no_absolute_path(text: str) -> None:
    """Relative paths, addresses, fractions and names of measures stay as they are."""
    assert shorten_paths(text) == (text, 0)


def test_samples_and_tokens_are_not_rewritten(chat_folder: Path) -> None:
    """What a model wrote or learned may look like a path; it goes up as it is."""
    (chat_folder / "samples.jsonl").write_text('{"text": "/usr/bin/python"}\n')
    (file,) = (file for file in pack(chat_folder).files if file.path == "samples.jsonl")
    assert file.content is None


def test_the_report_shows_no_folder_of_this_machine(chat_folder: Path) -> None:
    """Its settings are shortened like run.yaml's; markup and pictures stay as they are."""
    page = '<pre>shards: {}</pre></div><img src="data:image/svg+xml;base64,PD94/bW/wg+/A==">\n'
    (chat_folder / "report.html").write_text(page.format("/home/me/runs/shards"))
    (file,) = (file for file in pack(chat_folder).files if file.path == "report.html")
    assert file.content == page.format("shards").encode()


def test_a_folder_without_weights_is_refused(chat_folder: Path) -> None:
    """A config alone is no model."""
    (chat_folder / "model.safetensors").unlink()
    with user_error("no_model", "*.safetensors", folder=chat_folder):
        pack(chat_folder)


@pytest.mark.parametrize("name", ["log.jsonl", "results/qa.json", "results"])
def test_symbolic_links_are_refused_by_name(chat_folder: Path, tmp_path: Path, name: str) -> None:
    """A link, or a folder that is one, could lead to any file of this machine; the folder itself may be reached by one."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "qa.json").write_text("{}")
    link = chat_folder / name
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(elsewhere if name == "results" else elsewhere / "qa.json")
    with user_error("symbolic_link", name, elsewhere, file=link):
        pack(chat_folder)
    link.unlink()
    (tmp_path / "latest").symlink_to(chat_folder)
    assert pack(tmp_path / "latest").files


@pytest.mark.parametrize(
    "repository", ["name", "user/name/more", "user/na me", "/name", "user/..", "a//b", ""]
)
def test_a_name_that_is_no_repository_is_refused_before_the_card(chat_folder: Path, repository: str) -> None:
    """By the command and by the function that the stages call."""
    with pytest.raises(UserError, match="no name of a repository"):
        PublishArguments(str(chat_folder), hub_model_id=repository)
    with pytest.raises(UserError, match="no name of a repository"):
        publish(chat_folder, repository)
    assert not (chat_folder / "README.md").exists()


def test_dry_run_tells_and_sends_nothing(chat_folder: Path) -> None:
    """Offline, as all tests: files with sizes, what stays, and why it is safe."""
    (chat_folder / "checkpoint-5").mkdir()
    (chat_folder / "run.yaml").write_text("output_dir: /home/me/chat\n")
    result = CliRunner().invoke(
        cli.app, ["publish", str(chat_folder), "--hub_model_id", "user/name", "--dry_run"]
    )
    assert result.exit_code == 0, result.output
    size = (chat_folder / "model.safetensors").stat().st_size
    assert f"{size:,}  model.safetensors" in result.output
    assert any("checkpoint-5" in line and "here" in line for line in result.output.splitlines())
    assert shows(result.output, "1 in run.yaml", "code")
    assert "dry run" in result.output.splitlines()[-1]
