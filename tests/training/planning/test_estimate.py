# SPDX-License-Identifier: Apache-2.0
"""The plan of a run: counts against the model itself and against torch's own counter of operations."""

import dataclasses
from pathlib import Path

import pytest
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from scratch_gpt import ScratchGPTConfig, ScratchGPTForCausalLM
from scratch_gpt.cli import app
from scratch_gpt.data.shards.arguments import ShardsArguments, TokenizerArguments
from scratch_gpt.runs.cost import count_parameters, training_flops_per_token
from scratch_gpt.settings.hardware import best_precision
from scratch_gpt.settings.parsing import parse, scripts_folder
from scratch_gpt.training.planning import estimate
from scratch_gpt.training.planning.estimate import PlanArguments, estimate_run, plan_run, print_estimate
from scratch_gpt.training.planning.launcher import Launcher, read_launcher
from scratch_gpt.training.planning.speed import Speed
from wording import shows


TINY = {
    "vocab_size": 256,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
SIZES = ("small", "medium", "base", "1.2b")


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    """A command line of `plan` that reads a YAML of a tiny model; the folders in it do not exist."""
    names = {name: str(tmp_path / name) for name in ("shards", "tokenizer", "output_dir")}
    settings = {**names, "model_config": TINY, "mixed_precision": "no", "per_device_train_batch_size": 2}
    (tmp_path / "pretrain.yaml").write_text(yaml.safe_dump(settings))
    return ["--config", str(tmp_path / "pretrain.yaml"), "--sequence_length", "32"]


@pytest.mark.parametrize("tied", [True, False])
def test_parameters_by_part(tied) -> None:
    """The parts by hand, and their sum by the model."""
    config = ScratchGPTConfig(**TINY, tie_word_embeddings=tied, intermediate_size=128)
    counts = count_parameters(config)
    assert counts["embeddings"] == 256 * 64
    assert counts["output head"] == (0 if tied else 256 * 64)
    assert counts["attention"] == 2 * (64 * 64 + 2 * 64 * 32 + 64 * 64)
    assert counts["mlp"] == 2 * 3 * 64 * 128
    assert sum(counts.values()) == ScratchGPTForCausalLM(config).num_parameters()


@pytest.mark.parametrize("tied", [True, False])
def test_flops_are_those_that_torch_counts(tied) -> None:
    """A forward and backward pass with written-out attention, through torch's counter: the same number."""
    config = ScratchGPTConfig(**TINY, tie_word_embeddings=tied)
    model = ScratchGPTForCausalLM(config)
    model.set_attn_implementation("eager")
    tokens = torch.zeros((3, 32), dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        model(input_ids=tokens, labels=tokens, use_cache=False).loss.backward()
    assert counter.get_total_flops() == 3 * 32 * sum(training_flops_per_token(config, 32).values())


def test_a_plan_follows_the_arguments(arguments) -> None:
    """Tokens a step, budget, Chinchilla's budget, time and cost are the products that they say they are."""
    extra = ["--max_steps", "100", "--gradient_accumulation_steps", "3", "--learning_rate", "0.5"]
    extra += ["--tokens_per_second", "96", "--cost_per_hour", "7.2"]
    plan = estimate_run(parse(PlanArguments, arguments + extra))
    assert plan.tokens_per_step == 2 * 32 * 3
    assert plan.tokens == 100 * 2 * 32 * 3
    assert plan.seconds == 200
    assert plan.cost == pytest.approx(0.4)
    assert plan.chinchilla_tokens == 20 * plan.num_parameters
    assert plan.largest_micro_batch is None
    assert (plan.scale.learning_rate, plan.scale.warmup_steps) == (0.5, 5)


def test_what_is_open_is_planned_by_the_rules(arguments, monkeypatch) -> None:
    """A budget is whole steps; without one it is Chinchilla's; on a GPU the micro-batch is the whole step."""
    monkeypatch.setattr(estimate, "largest_micro_batch", lambda *_: 0)  # takes seconds, and is tested apart
    tokens = ["--tokens", "100_000"]
    plan = estimate_run(parse(PlanArguments, [*arguments, *tokens]))
    assert plan.settings.micro_batch * plan.settings.accumulation == 2 * 6  # 415 tokens, 13 blocks of 32
    assert plan.tokens == 100_000 // 384 * 384
    plan = estimate_run(parse(PlanArguments, arguments))
    assert plan.chinchilla_tokens - plan.tokens_per_step < plan.tokens <= plan.chinchilla_tokens
    assert len(plan.rules) == 4
    on_gpu = {"per_device_train_batch_size": None, "device_memory": 0.1, "tokens": 100_000}
    arguments = dataclasses.replace(plan.arguments, **on_gpu)
    settings = estimate_run(arguments).settings
    assert (settings.micro_batch, settings.accumulation) == (13, 1)
    little = sum(plan.memory.values()) * 1.3 / 2**30
    arguments = dataclasses.replace(arguments, device_memory=little)
    assert estimate_run(arguments).settings.activation_checkpointing  # 4,096 tokens do not fit without
    arguments = dataclasses.replace(arguments, activation_checkpointing=False)
    settings = estimate_run(arguments).settings
    assert settings.micro_batch in (2, 3)
    assert settings.micro_batch * settings.accumulation in (12, 14)


def test_a_shape_alone_is_planned(monkeypatch, capsys) -> None:
    """No shards, no tokenizer: what their stages would decide is assumed, and printed."""
    monkeypatch.setattr(estimate, "measure_speed", lambda *_, **__: Speed(1000.0, "measured: here"))
    shape = "{hidden_size: 64, num_hidden_layers: 1, num_attention_heads: 2}"
    plan = plan_run(parse(PlanArguments, ["--model_config", shape, "--max_steps", "10"]))
    vocabulary, length = TokenizerArguments.vocab_size, ShardsArguments.sequence_length
    assert (plan.config.vocab_size, plan.settings.sequence_length) == (vocabulary, length)
    assert shows(" ".join(plan.assumptions), vocabulary, length)
    assert plan.seconds == plan.tokens / 1000
    assert plan.settings.mixed_precision == best_precision()
    print_estimate(plan)
    assert shows(capsys.readouterr().out, "assumed", "measured: here", "tokens a second", plan.tokens)


@pytest.mark.parametrize("extra", [["--device_memory", "0.1"], ["--accelerate_config", "multi_gpu.yaml"]])
def test_what_is_not_here_is_not_measured(arguments, extra, monkeypatch) -> None:
    """A GPU that this machine lacks, and several processes."""
    monkeypatch.setattr(estimate, "gpu_memory", lambda: None)
    monkeypatch.setattr(estimate, "largest_micro_batch", lambda *_: 0)  # takes seconds
    plan = plan_run(parse(PlanArguments, [*arguments, *extra]))
    assert plan.seconds is None
    assert shows(plan.how, "tokens_per_second")


def test_the_command_prints_the_plan(arguments, capsys) -> None:
    """`scratch-gpt plan` shows parameters, operations, memory by component and the largest micro-batch."""
    result = CliRunner().invoke(app, ["plan", *arguments, "--device_memory", "0.1", "--max_minutes", "7"])
    assert result.exit_code == 0
    printed = result.output + capsys.readouterr().out
    parts = ("embeddings", "attention", "optimizer state", "activations", "largest micro-batch", "Chinchilla")
    assert all(part in printed for part in parts)
    assert shows(printed, "max_minutes 7")
    assert any(
        command.name == "plan" or command.callback.__name__ == "plan" for command in app.registered_commands
    )


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--accelerate_config", "gone.yaml"], "no file gone.yaml"),
        (["--tokens", "0"], "tokens must be at least 1, got 0"),
        (["--colour", "red"], "--colour"),
        (["--model_config", "{vocab_size: 64, hiden_size: 64}"], "no hiden_size: did you mean hidden_size?"),
        (["--model_config", "{vocab_size: 64, hidden_size: 63}"], "hidden_size 63 is not a multiple"),
    ],
)
def test_a_users_mistake_is_one_line(arguments, extra, message, capsys) -> None:
    """Exit status 2 and one line that names the value."""
    result = CliRunner().invoke(app, ["plan", *arguments, *extra])
    assert result.exit_code == 2
    assert message in (result.stderr + capsys.readouterr().err).strip().splitlines()[-1]


def test_the_launcher_is_read(tmp_path) -> None:
    """Processes, sharding and checkpointing out of an Accelerate file; a null is no number of processes."""
    path = tmp_path / "fsdp.yaml"
    path.write_text(
        "distributed_type: FSDP\nnum_processes: 8\nmixed_precision: bf16\n"
        "fsdp_config: {fsdp_version: 2, fsdp_activation_checkpointing: true}\n"
    )
    assert read_launcher(str(path)) == Launcher(8, sharded=True, activation_checkpointing=True)
    assert read_launcher(None) == Launcher()
    path.write_text("num_processes: null\n")
    assert read_launcher(str(path)) == Launcher()
    for shipped in (scripts_folder() / "train" / "accelerate").glob("*.yaml"):
        assert read_launcher(str(shipped)).num_processes >= 1


@pytest.mark.parametrize("size", SIZES)
def test_the_shipped_sizes_are_consistent(size) -> None:
    """Tokenizer, shards and model agree on folders, vocabulary and context; the steps read the shards about once."""
    folder = scripts_folder() / "train" / "configs" / size
    tokenizer, shards, pretrain = (
        yaml.safe_load((folder / f"{stage}.yaml").read_text())
        for stage in ("tokenizer", "shards", "pretrain")
    )
    assert tokenizer["output_dir"] == shards["tokenizer"] == pretrain["tokenizer"]
    assert shards["output_dir"] == pretrain["shards"]
    assert tokenizer["sources"] == shards["sources"]
    config = ScratchGPTConfig(**pretrain["model_config"])
    assert config.vocab_size == tokenizer["vocab_size"]
    assert config.max_position_embeddings == shards["sequence_length"]
    assert pretrain.get("tokens", shards["max_tokens"]) == shards["max_tokens"]
    chinchilla = 20 * sum(count_parameters(config).values())
    assert shards["max_tokens"] == pytest.approx(chinchilla, rel=0.01) or (
        pretrain["tokens"] > chinchilla  # by rule it would be fewer
    )
