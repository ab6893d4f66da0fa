# SPDX-License-Identifier: Apache-2.0
"""A run over several shards folders: figures by folder, exact after a kill, and as before where there is one folder."""

import dataclasses
import shlex
from pathlib import Path

import pytest
import yaml

from scratch_gpt.data.shards.arguments import ShardsArguments
from scratch_gpt.data.shards.writing import write_shards
from scratch_gpt.runs.log import RunLog
from scratch_gpt.runs.provenance import read_provenance
from scratch_gpt.settings.parsing import parse
from scratch_gpt.training.pretrain import pretraining
from scratch_gpt.training.pretrain.arguments import PretrainArguments
from wording import shows, user_error


PAGE = (Path(__file__).parents[3] / "docs" / "how-to" / "phases.md").read_text(encoding="utf-8")


class Killed(BaseException):
    """Ends the run where it stands, as a kill does."""


@pytest.fixture(scope="module")
def digits(data, tmp_path_factory) -> str:
    """Shards of other text with the same tokenizer."""
    folder = tmp_path_factory.mktemp("digits")
    (folder / "d.txt").write_text("\n\n".join(f"{number} {number * 7919}" for number in range(600)))
    write_shards(
        ShardsArguments(
            sources=[{"name": "digits", "path": str(folder / "d.txt")}],
            tokenizer=data["tokenizer"],
            output_dir=str(folder / "shards"),
            sequence_length=64,
            validation_fraction=0.1,
        )
    )
    return str(folder / "shards")


def rows(output_dir: Path) -> list[dict]:
    clocks = ("elapsed_seconds", "tokens_per_second")
    return [
        {name: value for name, value in row.items() if name not in clocks}
        for row in RunLog(output_dir / "log.jsonl").rows()
    ]


def test_a_mixture_of_phases_is_exact_after_a_kill(
    stage, arguments_for, data, digits, tmp_path, monkeypatch, capsys
) -> None:
    """Killed in the last phase; tokens and bits per byte by folder; run.yaml and provenance name both."""
    shards = [{"path": data["shards"], "weight": 3}, {"path": digits, "from": 0.5}]
    settings = {"shards": shards, "resume_from_checkpoint": "latest", "sample_prompts": []}
    stage.main(arguments_for(tmp_path / "straight", **settings))
    assert shows(capsys.readouterr().out, f"shards {digits}: 6 blocks", "from step 3 to 6")
    read_step = pretraining.Pretraining.read_step

    def read(self):
        if self.step == 5:
            monkeypatch.setattr(pretraining.Pretraining, "read_step", read_step)
            raise Killed
        return read_step(self)

    monkeypatch.setattr(pretraining.Pretraining, "read_step", read)
    with pytest.raises(Killed):
        stage.main(arguments_for(tmp_path / "killed", **settings))
    with user_error("settings_changed", settings=["mixture"]):
        stage.main(arguments_for(tmp_path / "killed", **settings | {"shards": [shards[0], {"path": digits}]}))
    stage.main(arguments_for(tmp_path / "killed", **settings))
    assert rows(tmp_path / "straight") == rows(tmp_path / "killed")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("straight", "killed")]
    assert weights[0] == weights[1]
    trained = [row for row in rows(tmp_path / "straight") if "loss" in row]
    assert [row[f"tokens_{digits}"] for row in trained] == [0, 0, 0, 2 * 64, 4 * 64, 6 * 64]
    assert trained[-1][f"tokens_{data['shards']}"] == (48 - 6) * 64
    evaluation = rows(tmp_path / "straight")[-1]
    primer, both, other = (evaluation[f"eval_bits_per_byte{name}"] for name in ("_primer", "", "_digits"))
    assert primer < both < other
    assert yaml.safe_load((tmp_path / "straight" / "run.yaml").read_text())["shards"] == shards
    (record,) = read_provenance(tmp_path / "straight")
    assert [source["name"] for source in record["data"]["sources"]] == ["primer", "digits"]


@pytest.mark.slow
def test_a_stable_checkpoint_is_annealed_on_other_shards(
    stage, arguments_for, data, digits, tmp_path, capsys
) -> None:
    """By the guide's command: the bits of a run that had the same phases from its first step; the base run stays as it is."""
    seldom = {"max_steps": 10, "save_steps": 8, "eval_steps": 10, "sample_prompts": []}
    stage.main(arguments_for(tmp_path / "base", **seldom, decay_ratio=0.1))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "base").rglob("*")}
    command = PAGE.split("<!-- annealing -->\n```\n")[1].split("\n")[0]
    for name, here in (
        ("000", ""),  # steps
        ("train/configs/real/pretrain.yaml", tmp_path / "base" / "run.yaml"),
        ("runs/real/shards", data["shards"]),
        ("runs/books/shards", digits),
        ("runs/real", tmp_path),
    ):
        command = command.replace(name, str(here))
    arguments = parse(PretrainArguments, shlex.split(command)[3:])
    with user_error("trained_on_other_shards", folder=tmp_path / "base" / "checkpoint-8"):
        stage.main(dataclasses.replace(arguments, allow_changed_settings=False))
    stage.main(arguments)
    assert shows(capsys.readouterr().out, digits, "decay_ratio was 0.1, is 0.2")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "base").rglob("*")} == before

    stage.main(arguments_for(tmp_path / "straight", **seldom, shards=arguments.shards, decay_ratio=0.2))
    annealed, straight = (rows(tmp_path / name) for name in ("annealed", "straight"))
    assert annealed == [row for row in straight if row["step"] > 8]
    trained = [row for row in annealed if "loss" in row]
    assert trained[0]["learning_rate"] > trained[1]["learning_rate"] > 0
    assert trained[1][f"tokens_{digits}"] == 11 * 64  # 0.7 of two steps of 8 blocks
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("annealed", "straight")]
    assert weights[0] == weights[1]


def test_a_folder_without_a_block_in_the_run_is_refused(stage, arguments_for, data, digits, tmp_path) -> None:
    """Its setting would have no effect."""
    shards = [{"path": data["shards"]}, {"path": digits, "weight": 1e-6}]
    with user_error("setting_without_effect", digits, setting="shards"):
        stage.main(arguments_for(tmp_path / "o", shards=shards))
    assert not (tmp_path / "o").exists()
