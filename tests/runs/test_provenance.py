# SPDX-License-Identifier: Apache-2.0
"""Where a model comes from: known to the stage that made it, and carried to the next."""

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from scratch_gpt import ScratchGPTConfig
from scratch_gpt.runs import provenance
from scratch_gpt.runs.cost import energy
from scratch_gpt.runs.log import RunLog
from scratch_gpt.runs.provenance import git_commit, read_provenance, write_provenance


class PretrainArguments(SimpleNamespace):
    """Stands in for the stage's."""


class RLHFArguments(SimpleNamespace):
    """Stands in for the stage's."""


CONFIG = ScratchGPTConfig(
    vocab_size=100,
    hidden_size=8,
    intermediate_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    max_position_embeddings=32,
)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A base model's folder with its record."""
    manifest = {
        "sources": [{"name": "wiki", "path": "wiki.txt", "license": "cc-by-sa-4.0", "weight_consumed": 1.0}],
        "tokens": 640,
        "bytes": 2000,
        "sequence_length": 32,
        "content_hash": "abc",
    }
    (tmp_path / "shards/train").mkdir(parents=True)
    (tmp_path / "shards/train/manifest.json").write_text(json.dumps(manifest))
    folder = tmp_path / "base"
    folder.mkdir()
    log = RunLog(folder / "log.jsonl")
    log.write(step=20, tokens=1280, loss=1.0, elapsed_seconds=7.5)
    log.write(step=20, eval_loss=1.0, elapsed_seconds=7.5)
    arguments = PretrainArguments(shards=str(tmp_path / "shards"), output_dir=str(folder), seed=3)
    write_provenance(arguments, CONFIG, folder, log)
    return folder


def test_a_stage_records_what_it_took(base: Path) -> None:
    """Steps, tokens and time of the log, the manifest's sources, FLOPs by hand."""
    (record,) = read_provenance(base)
    assert (record["stage"], record["folder"], record["seed"]) == ("pretrain", "base", 3)
    assert (record["steps"], record["tokens"], record["seconds"]) == (20, 1280, 7.5)
    assert record["data"]["sources"][0]["license"] == "cc-by-sa-4.0"
    assert record["data"]["content_hash"] == "abc"
    # per token: 6 a weight of attention (4 x 8 x 8), MLP (3 x 8 x 16) and head (100 x 8); 12 L H T for the attention itself
    assert record["flops"] == 1280 * (6 * (256 + 384 + 800) + 12 * 1 * 8 * 32)
    assert {"python", "scratch_gpt", "torch", "transformers", "trl"} == set(record["versions"])


def test_records_are_carried_on_each_once(base: Path) -> None:
    """The aligned model knows the chat model's road and the reward model's, and the base is in it once."""
    for name, previous in (("chat", ["base"]), ("reward", ["chat"]), ("aligned", ["chat", "reward"])):
        folder = base.with_name(name)
        folder.mkdir()
        sources = [{"name": "primer", "path": "primer"}, {"name": "own", "path": "own.jsonl"}]
        arguments = RLHFArguments(sources=sources, output_dir=str(folder), seed=0, shards=None)
        inputs = [str(base.with_name(each)) for each in previous]
        write_provenance(arguments, CONFIG, folder, RunLog(folder / "log.jsonl"), [*inputs, None])
    records = read_provenance(base.with_name("aligned"))
    assert [record["folder"] for record in records] == ["base", "chat", "reward", "aligned"]
    assert [source["license"] for source in records[-1]["data"]["sources"]] == ["apache-2.0", None]
    assert records[-1]["tokens"] is records[-1]["flops"] is None  # its log is empty
    assert energy(records[-1])[0] is None


def test_energy_is_time_by_assumed_power() -> None:
    """An hour on two H100: 1.4 kWh; on 4 cores: 32 Wh."""
    gpu = {"device": "NVIDIA H100 80GB HBM3", "gpu": True, "processes": 2, "threads": 8}
    assert energy({"hardware": gpu, "seconds": 3600}) == (pytest.approx(1.4), "700 W a GPU")
    cpu = {"device": "AMD EPYC", "gpu": False, "processes": 2, "threads": 2}
    assert energy({"hardware": cpu, "seconds": 3600}) == (pytest.approx(0.032), "8 W a busy core")


def test_the_commit_is_that_of_the_checkout(tmp_path: Path, monkeypatch) -> None:
    """A changed file is told; without a checkout nothing is known."""
    monkeypatch.setattr(provenance, "scripts_folder", lambda: tmp_path)
    assert git_commit() is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "file").write_text("1")
    for command in (["init", "-q"], ["add", "file"], ["commit", "-qm", "one"]):
        subprocess.run([*git, *command], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    assert git_commit() == head
    (tmp_path / "file").write_text("2")
    assert git_commit() == f"{head}+changes"
