# SPDX-License-Identifier: Apache-2.0
"""One plan in which every value is filled, and where each is from."""

import dataclasses
from pathlib import Path

import pytest
import yaml
from accelerate import PartialState

from scratch_gpt.data.shards.blocks import PackedBlocks
from scratch_gpt.data.shards.mixed_blocks import MixedBlocks, parse_shards
from scratch_gpt.runs.checkpoints import MANIFEST_FILE, write_manifest, write_progress
from scratch_gpt.runs.folders import write_run_yaml
from scratch_gpt.settings.parsing import parse
from scratch_gpt.training.planning.plan import PretrainPlan, announce, resolve
from scratch_gpt.training.pretrain.arguments import PretrainArguments
from wording import shows, user_error


@pytest.fixture
def resolved(data, trained_tokenizer, tmp_path):
    """`resolved(*words, **config)`: the plan of these words of a command line and these keys of a YAML file."""

    def make(*words: str, **config) -> PretrainPlan:
        model = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        values = {**data, "output_dir": str(tmp_path / "base"), "model_config": model, **config}
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
        arguments = parse(PretrainArguments, ["--config", str(tmp_path / "config.yaml"), *words])
        PartialState(cpu=True)
        blocks = MixedBlocks(parse_shards(arguments.shards), "train")
        return resolve(arguments, trained_tokenizer, blocks, 1)

    return make


def test_each_value_has_an_origin(resolved, capsys, monkeypatch) -> None:
    """Command line, config, default, rule and machine; the announcement tells those that were decided."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    plan = resolved("--learning_rate=3e-3", "--seed", "0", max_steps=5, mixed_precision="no", eval_steps=7)
    assert {name: plan.origins[name] for name in ("learning_rate", "seed", "max_steps", "eval_steps")} == {
        "learning_rate": "user",
        "seed": "user",  # also where it is the default
        "max_steps": "config",
        "eval_steps": "config",
    }
    assert (plan.origins["save_steps"], plan.origins["sample_prompts"]) == ("default", "default")
    assert (plan.origins["warmup_steps"], plan.origins["per_device_train_batch_size"]) == ("rule", "rule")
    assert (plan.origins["mixed_precision"], plan.origins["num_threads"]) == ("config", "hardware")
    assert plan.num_threads == 1
    announce(plan, 10, 20)
    assert shows(capsys.readouterr().out, "learning_rate 0.003 (user)", "warmup_steps 1 (rule)")


@pytest.mark.parametrize("launcher", [False, True])
def test_activations_are_not_checkpointed_twice(resolved, monkeypatch, launcher) -> None:
    """Where nothing fits without, the plan checkpoints them, unless the launcher does."""
    monkeypatch.setattr("scratch_gpt.training.planning.plan.gpu_memory", lambda: 1000)
    monkeypatch.setenv("FSDP_ACTIVATION_CHECKPOINTING", str(launcher).lower())
    plan = resolved(per_device_train_batch_size=1, gradient_accumulation_steps=1, max_steps=2)
    assert plan.activation_checkpointing is not launcher


def test_steps_of_a_budget_are_of_whoever_gave_it(resolved) -> None:
    """Without one they are the rule's."""
    assert resolved(tokens=9000).origins["max_steps"] == "config"
    assert resolved("--num_train_epochs", "0.5").origins["max_steps"] == "user"
    assert resolved().origins["max_steps"] == "rule"


def test_nothing_is_open_and_nothing_changes(resolved) -> None:
    """Whatever can be left out has a value."""
    plan = resolved()
    for name in ("max_steps", "per_device_train_batch_size", "gradient_accumulation_steps", "num_threads"):
        assert getattr(plan, name) >= 1
    assert plan.mixed_precision in ("no", "bf16", "fp16")
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.max_steps = 3


def test_run_yaml_leaves_to_the_machine_what_it_decided(resolved, tmp_path) -> None:
    """So that the file is a config of the same run on another machine; with what the rules gave."""
    plan = resolved("--num_threads", "3", tokens=9000)
    write_run_yaml(plan, tmp_path)
    again = parse(PretrainArguments, ["--config", str(tmp_path / "run.yaml")])
    assert (again.mixed_precision, again.num_threads) == ("auto", 3)
    assert again.learning_rate == plan.learning_rate
    assert set(yaml.safe_load((tmp_path / "run.yaml").read_text())) == {
        entry.name for entry in dataclasses.fields(PretrainArguments)
    }


@pytest.fixture
def stopped_run(data, tmp_path):
    """`stopped_run(settings)`: the checkpoint of a run of these settings, with its progress."""

    def make(settings: dict) -> tuple[Path, dict]:
        manifest = PackedBlocks(Path(data["shards"]) / "train").manifest
        progress = {"settings": settings, "content_hash": manifest["content_hash"]}
        checkpoint = tmp_path / "base" / "checkpoint-1"
        checkpoint.mkdir(parents=True)
        write_progress(progress, checkpoint)
        write_manifest(checkpoint)
        return checkpoint, progress

    return make


def test_a_checkpoint_fills_what_is_open(resolved, stopped_run) -> None:
    """Its precision, batch, rate and steps; shards of another content are refused."""
    before = resolved(num_train_epochs=0.5)
    settings = {**before.settings(), "learning_rate": 0.5, "mixed_precision": "bf16"}
    checkpoint, progress = stopped_run(settings)
    plan = resolved("--resume_from_checkpoint", "latest", num_train_epochs=0.5)
    assert plan.checkpoint == checkpoint
    assert (plan.learning_rate, plan.mixed_precision, plan.max_steps) == (0.5, "bf16", before.max_steps)
    for name in ("learning_rate", "mixed_precision", "max_steps", "warmup_steps"):
        assert plan.origins[name] == "checkpoint"
    write_progress({**progress, "content_hash": "other"}, checkpoint)
    (checkpoint / MANIFEST_FILE).unlink()
    write_manifest(checkpoint)
    with user_error("trained_on_other_shards", folder=checkpoint):
        resolved("--resume_from_checkpoint", "latest", num_train_epochs=0.5)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_run_of_a_gpu_is_resumed_without_one(resolved, stopped_run, capsys, precision) -> None:
    """What only the GPU has is decided again, and one line says what changes; what the user asks for is refused."""
    of_gpu = {
        "device": "NVIDIA A100-SXM4-80GB",
        "mixed_precision": precision,
        "attn_implementation": "varlen",
        "torch_compile": True,
    }
    before = resolved(num_train_epochs=0.5, mixed_precision="no")
    stopped_run({**before.settings(), **of_gpu, "learning_rate": 0.5})
    resume = ("--resume_from_checkpoint", "latest")
    plan = resolved(*resume, num_train_epochs=0.5)
    assert (plan.attn_implementation, plan.torch_compile, plan.learning_rate) == ("sdpa", False, 0.5)
    assert plan.mixed_precision in ("no", "bf16")
    assert plan.origins["attn_implementation"] == "hardware"
    told = capsys.readouterr().out
    assert shows(told, "A100", "is cpu", "attn_implementation was varlen", "torch_compile was True")
    assert len(told.splitlines()) == 1
    with user_error("varlen_missing", setting="attn_implementation"):
        resolved(*resume, num_train_epochs=0.5, attn_implementation="varlen")
    with user_error("settings_changed", settings=["learning_rate"]):
        resolved(*resume, num_train_epochs=0.5, learning_rate=0.1)
