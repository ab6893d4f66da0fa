# SPDX-License-Identifier: Apache-2.0
"""The loop: same bits after an interruption, same step whatever the micro-batches, and a model that learns."""

import errno
import itertools
import json
import math
import shutil
import signal
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker, register_tracker_class
from safetensors import SafetensorError
from torch._dynamo.utils import counters
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM

from files_page import not_on_the_page
from scratch_gpt.data.shards.arguments import ShardsArguments
from scratch_gpt.data.shards.blocks import PackedBlocks
from scratch_gpt.data.shards.writing import write_shards
from scratch_gpt.errors import UserError
from scratch_gpt.runs.checkpoints import list_checkpoints, verify_checkpoint
from scratch_gpt.runs.cost import training_flops_per_token
from scratch_gpt.runs.log import RunLog
from scratch_gpt.training.planning import execution
from scratch_gpt.training.pretrain import pretraining, recorder
from wording import shows, user_error


NO_DROPOUT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def rows(output_dir) -> list[dict]:
    """The log without its clocks."""
    clocks = ("elapsed_seconds", "tokens_per_second")
    return [
        {name: value for name, value in row.items() if name not in clocks}
        for row in RunLog(output_dir / "log.jsonl").rows()
    ]


def assert_same_run(one, other) -> None:
    """Every logged number, the hash of the tokens, and the weights, bit for bit."""
    assert rows(one) == rows(other)
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()


def interrupt_at(monkeypatch, step: int, how) -> None:
    """Let `how` happen during the given step (0-based) of the next run."""
    read_step = pretraining.Pretraining.read_step

    def read(self):
        if self.step == step:
            monkeypatch.setattr(pretraining.Pretraining, "read_step", read_step)
            how()
        return read_step(self)

    monkeypatch.setattr(pretraining.Pretraining, "read_step", read)


class Killed(BaseException):
    """Ends the run where it stands, as a kill does."""


def kill() -> None:
    raise Killed


def test_a_run_killed_twice_equals_the_one_left_alone(stage, arguments_for, tmp_path, monkeypatch) -> None:
    """With dropout and micro-batches; killed before the first checkpoint, and again in the middle."""
    settings = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    stage.main(arguments_for(tmp_path / "straight", **settings))
    settings["resume_from_checkpoint"] = "latest"
    for step in (1, 5):
        interrupt_at(monkeypatch, step, kill)
        with pytest.raises(Killed):
            stage.main(arguments_for(tmp_path / "killed", **settings))
    assert [folder.name for folder in list_checkpoints(tmp_path / "killed")] == [
        "checkpoint-2",
        "checkpoint-4",
    ]
    stage.main(arguments_for(tmp_path / "killed", **settings))
    assert_same_run(tmp_path / "straight", tmp_path / "killed")
    assert [row["step"] for row in rows(tmp_path / "killed") if "loss" in row] == [1, 2, 3, 4, 5, 6]


def test_checkpoints_and_resuming_work_where_files_in_use_stay(
    stage, arguments_for, tmp_path, monkeypatch, windows_files
) -> None:
    """As on Windows: no checkpoint that is renamed or removed holds a file that the run has open or mapped."""
    settings = {"resume_from_checkpoint": "latest", "save_total_limit": 1}
    interrupt_at(monkeypatch, 5, kill)
    with pytest.raises(Killed):
        stage.main(arguments_for(tmp_path / "run", **settings))
    stage.main(arguments_for(tmp_path / "run", **settings))
    assert (tmp_path / "run" / "run.yaml").is_file()


def test_what_is_open_is_resolved_once(stage, arguments_for, tmp_path, monkeypatch, capsys) -> None:
    """Batch, rate, warm-up and steps by rule, told and written; a resumed run on another machine keeps them."""
    names = ["per_device_train_batch_size", "gradient_accumulation_steps", "learning_rate", "warmup_steps"]
    settings = {**dict.fromkeys(names), "max_steps": -1, "tokens": 2000, "resume_from_checkpoint": "latest"}
    stage.main(arguments_for(tmp_path / "straight", **settings))
    assert capsys.readouterr().out.count("by rule: ") == 4
    resolved = yaml.safe_load((tmp_path / "straight" / "run.yaml").read_text())
    assert [resolved[name] for name in [*names, "max_steps"]] == [1, 1, 0.01, 2, 31]  # 44 tokens: 1 block
    interrupt_at(monkeypatch, 20, kill)
    with pytest.raises(Killed):
        stage.main(arguments_for(tmp_path / "killed", **settings))
    monkeypatch.setattr("scratch_gpt.training.planning.scaling.step_law_batch", lambda tokens: 10 * tokens)
    stage.main(arguments_for(tmp_path / "killed", **settings))
    assert_same_run(tmp_path / "straight", tmp_path / "killed")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_same_command_goes_on(
    number, stage, arguments_for, tmp_path, monkeypatch, capsys
) -> None:
    """Exit status 128 + signal; a checkpoint at that very step, which opens as a model; then the same bits."""
    stage.main(arguments_for(tmp_path / "straight"))
    # noted before the third step begins, so it is the last one
    interrupt_at(monkeypatch, 1, lambda: signal.raise_signal(number))
    with pytest.raises(SystemExit) as left:
        stage.main(arguments_for(tmp_path / "told", save_steps=100))
    assert left.value.code == 128 + number
    assert "--resume_from_checkpoint latest" in capsys.readouterr().out
    checkpoint = tmp_path / "told" / "checkpoint-3"
    assert verify_checkpoint(checkpoint) is None
    assert yaml.safe_load((checkpoint / "run.yaml").read_text())["save_steps"] == 100
    AutoModelForCausalLM.from_pretrained(checkpoint)
    assert not (tmp_path / "told" / "run.yaml").exists()
    stage.main(arguments_for(tmp_path / "told", resume_from_checkpoint="latest"))
    assert_same_run(tmp_path / "straight", tmp_path / "told")


def test_a_damaged_checkpoint_is_told_and_the_one_before_it_used(
    stage, arguments_for, tmp_path, monkeypatch, capsys
) -> None:
    """One flipped bit of the optimizer's state; the run still ends with the same bits."""
    stage.main(arguments_for(tmp_path / "straight"))
    interrupt_at(monkeypatch, 5, kill)
    with pytest.raises(Killed):
        stage.main(arguments_for(tmp_path / "killed"))
    state = tmp_path / "killed" / "checkpoint-4" / "training_state" / "optimizer.bin"
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 1
    state.write_bytes(content)
    stage.main(arguments_for(tmp_path / "killed", resume_from_checkpoint="latest"))
    told = " ".join(capsys.readouterr().out.split())
    assert shows(told, "checkpoint-4", "training_state/optimizer.bin", "step 2")
    assert_same_run(tmp_path / "straight", tmp_path / "killed")


def test_micro_batches_do_not_change_the_step(stage, arguments_for, tmp_path) -> None:
    """8 blocks at once, or 4 times 2: the same blocks, and the same numbers within float32 rounding.

    With AdamW: Muon computes in bfloat16, where a rounding of the gradient can become a step of 2^-8.
    """
    settings = {"model_config": NO_DROPOUT, "optim": "adamw"}
    stage.main(arguments_for(tmp_path / "whole", **settings))
    parts = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    stage.main(arguments_for(tmp_path / "parts", **settings, **parts))
    for whole, part in zip(*(rows(tmp_path / name) for name in ("whole", "parts")), strict=True):
        assert whole.get("token_hash") == part.get("token_hash")
        for name in ("loss", "grad_norm", "eval_loss"):
            if name in whole:
                assert whole[name] == pytest.approx(part[name], rel=1e-5)


def test_memory_savers_do_not_change_the_run(stage, arguments_for, tmp_path, monkeypatch) -> None:
    """Checkpointed activations (with dropout) and the loss in chunks: the same numbers within float32 rounding.

    With AdamW, as above.
    """
    stage.main(arguments_for(tmp_path / "plain", optim="adamw"))
    monkeypatch.setattr("scratch_gpt.training.pretrain.loss.PLAIN_LOGITS_BYTES", 1 << 10)
    monkeypatch.setattr("scratch_gpt.training.pretrain.loss.CHUNK_LOGITS_BYTES", 1 << 16)
    stage.main(arguments_for(tmp_path / "saving", optim="adamw", activation_checkpointing=True))
    for plain, saving in zip(*(rows(tmp_path / name) for name in ("plain", "saving")), strict=True):
        for name in ("loss", "grad_norm", "eval_loss"):
            if name in plain:
                assert plain[name] == pytest.approx(saving[name], rel=1e-5)


@pytest.mark.filterwarnings("ignore")  # torch's own, while it compiles
def test_evaluations_and_samples_compile_nothing(stage, arguments_for, tmp_path, monkeypatch) -> None:
    """What is compiled for the first step serves all of them; evaluations in between leave the numbers of the others."""
    monkeypatch.setattr(
        torch, "compile", partial(torch.compile, backend="eager")
    )  # no C++, and the same guards
    compiled = []
    train_step = pretraining.Pretraining.train_step

    def count(self, interrupted):
        outcome = train_step(self, interrupted)
        compiled.append(counters["stats"]["unique_graphs"])
        return outcome

    monkeypatch.setattr(pretraining.Pretraining, "train_step", count)
    before = counters["stats"]["unique_graphs"]
    settings = {"torch_compile": True, "model_config": NO_DROPOUT, "max_eval_blocks": 3}
    stage.main(arguments_for(tmp_path / "often", eval_steps=1, per_device_eval_batch_size=2, **settings))
    assert compiled[0] > before
    assert compiled == compiled[:1] * 6
    assert counters["stats"]["unique_graphs"] == compiled[0]
    stage.main(arguments_for(tmp_path / "once", eval_steps=6, **settings))
    often, once = ([row for row in rows(tmp_path / name) if "loss" in row] for name in ("often", "once"))
    assert often == once


class Waits(TorchDispatchMode):
    """Counts what would wait for an accelerator: a value that Python reads, a shape that depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.count, self.watching = 0, True

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        waits = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
        self.count += self.watching and func in waits
        return func(*args, **(kwargs or {}))


@pytest.fixture
def losses_of(stage, arguments_for, tmp_path, monkeypatch, varlen_kernel):
    """`losses_of(name, **changes)`: of the four steps of a run, as if varlen ran here."""
    monkeypatch.setattr(execution, "lacks_varlen", lambda *_: None)
    settings = {
        "model_config": NO_DROPOUT,
        "gradient_accumulation_steps": 2,
        "max_steps": 4,
        **dict.fromkeys(("eval_steps", "save_steps"), 9),
        "max_eval_blocks": 1,
        "sample_prompts": [],
    }

    def train(name: str, **changes) -> list[float]:
        stage.main(arguments_for(tmp_path / name, **settings, **changes))
        return [row["loss"] for row in rows(tmp_path / name) if "loss" in row]

    return train


def test_a_step_waits_for_the_device_once(losses_of, monkeypatch) -> None:
    """With varlen: for the one list of loss, norm and interruption; the losses are those of sdpa."""
    expected = losses_of("sdpa", attn_implementation="sdpa")
    waits, lists, lists_of_steps = Waits(), [], []
    read_step, train_step = pretraining.Pretraining.read_step, pretraining.Pretraining.train_step
    tolist = torch.Tensor.tolist

    def read(self):
        waits.watching = False
        batches = read_step(self)
        waits.watching = True
        return batches

    def step(self, interrupted):
        before = len(lists)
        with waits:
            outcome = train_step(self, interrupted)
        lists_of_steps.append(len(lists) - before)
        return outcome

    monkeypatch.setattr(pretraining.Pretraining, "read_step", read)
    monkeypatch.setattr(pretraining.Pretraining, "train_step", step)
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: (lists.append(self), tolist(self))[1])
    assert losses_of("varlen") == pytest.approx(expected, rel=1e-5)
    assert (waits.count, lists_of_steps) == (0, [1] * 4)


@pytest.mark.filterwarnings("ignore")  # torch's own, while it compiles
def test_nothing_is_compiled_after_the_second_step(losses_of, monkeypatch) -> None:
    """With varlen, where the number of documents changes from step to step; the losses are those without compiling."""
    expected = losses_of("plain")
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    compiled = [counters["stats"]["unique_graphs"]]
    train_step = pretraining.Pretraining.train_step

    def step(self, interrupted):
        outcome = train_step(self, interrupted)
        compiled.append(counters["stats"]["unique_graphs"])
        return outcome

    monkeypatch.setattr(pretraining.Pretraining, "train_step", step)
    assert losses_of("compiled", torch_compile=True) == pytest.approx(expected, rel=1e-5)
    started, first, second, *others = compiled
    assert started < first
    assert others == [second] * 2


def test_the_log_has_the_utilization(stage, arguments_for, tmp_path, monkeypatch) -> None:
    """On a GPU: speed times the operations of a token, by the table's peak."""
    settings = {"max_steps": 2, "max_eval_blocks": 1, "sample_prompts": []}
    monkeypatch.setattr(execution, "gpu_name", lambda: "NVIDIA H100 80GB HBM3")
    stage.main(arguments_for(tmp_path / "known", **settings))
    row = RunLog(tmp_path / "known" / "log.jsonl").rows()[0]
    config = AutoModelForCausalLM.from_pretrained(tmp_path / "known").config
    flops = sum(training_flops_per_token(config, 64).values())
    assert row["mfu"] == pytest.approx(row["tokens_per_second"] * flops / 989e12, rel=1e-6)


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_a_mixture_of_experts_balances_its_load_whatever_the_micro_batches(
    stage, arguments_for, tmp_path, weight
) -> None:
    """The balance counts once a step: one micro-batch or four, and of a large weight the loss shows it."""
    model_config = {
        "model_type": "qwen3_moe",
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "num_experts": 4,
        "num_experts_per_tok": 1,
        "moe_intermediate_size": 16,
        "output_router_logits": True,
        "router_aux_loss_coef": weight,
    }
    losses = []
    for size in (8, 2):
        batch = {"per_device_train_batch_size": size, "gradient_accumulation_steps": 8 // size}
        settings = {"model_config": model_config, "max_steps": 1, "max_eval_blocks": 1, "sample_prompts": []}
        stage.main(arguments_for(tmp_path / f"{size}", **settings, **batch))
        losses.append(rows(tmp_path / f"{size}")[0]["loss"])
    # the mean of four parts' balances is not quite the balance of the whole
    assert losses[0] == pytest.approx(losses[1], abs=0.02 if weight else 1e-5)
    # experts chosen alike by all tokens give a balance of 4, by chance one of 1
    assert math.log(512) + weight - 0.3 < losses[0] < math.log(512) + weight + 0.3 + weight


def test_it_learns_and_leaves_a_complete_folder(stage, arguments_for, tmp_path) -> None:
    """Every weight moves, the loss falls well below a uniform guess, and the contract's files and keys are there."""
    stage.main(arguments_for(tmp_path / "base", max_steps=40, save_steps=30, learning_rate=1e-2))
    logged = RunLog(tmp_path / "base" / "log.jsonl").rows()
    training = [row for row in logged if "loss" in row]
    assert set(training[0]) == {
        *("step", "tokens", "loss", "learning_rate", "grad_norm", "tokens_per_second", "elapsed_seconds"),
        *("skipped_steps", "token_hash"),
    }
    assert training[0]["loss"] == pytest.approx(math.log(512), abs=0.3)
    assert training[-1]["loss"] < training[0]["loss"] - 1.0
    evaluations = [row for row in logged if "eval_loss" in row]
    assert set(evaluations[0]) == {"step", "elapsed_seconds", "eval_loss", "eval_bits_per_byte"}
    names = {path.name for path in (tmp_path / "base").iterdir()}
    assert {
        *("config.json", "generation_config.json", "model.safetensors"),
        *("modeling_scratch_gpt.py", "configuration_scratch_gpt.py", "tokenizer.json", "chat_template.jinja"),
        *("run.yaml", "log.jsonl", "checkpoint-30"),
    } <= names
    assert not_on_the_page(tmp_path / "base") == []
    early = AutoModelForCausalLM.from_pretrained(tmp_path / "base" / "checkpoint-30").state_dict()
    for name, tensor in AutoModelForCausalLM.from_pretrained(tmp_path / "base").state_dict().items():
        assert not torch.equal(tensor, early[name]), f"{name} did not change"
    samples = [json.loads(line) for line in (tmp_path / "base" / "samples.jsonl").read_text().splitlines()]
    assert samples[0]["step"] == 3
    assert samples[0]["text"].startswith("The")


def test_the_learning_rate_follows_a_cosine(stage, arguments_for, tmp_path) -> None:
    """After one step of warm-up, three steps: a third of the way is three quarters, two thirds one quarter."""
    schedule = {"lr_scheduler_type": "cosine", "max_steps": 4, "warmup_steps": 1, "learning_rate": 1e-3}
    stage.main(arguments_for(tmp_path / "base", **schedule))
    learning_rates = [row["learning_rate"] for row in rows(tmp_path / "base") if "loss" in row]
    assert learning_rates == pytest.approx([1e-3, 0.7525e-3, 0.2575e-3, 1e-5])


def test_a_warm_up_longer_than_the_run_is_told(stage, arguments_for, tmp_path, capsys) -> None:
    """A short try of a long run's settings goes on; one that ends with its warm-up reaches the peak."""
    stage.main(arguments_for(tmp_path / "short", max_steps=1, warmup_steps=2))
    assert shows(capsys.readouterr().out, "warning: warmup_steps 2")
    stage.main(arguments_for(tmp_path / "long", max_steps=2, warmup_steps=2))
    assert "warning" not in capsys.readouterr().out
    assert rows(tmp_path / "long")[-2]["learning_rate"] == 7e-3


def test_bits_per_byte_of_each_source(stage, arguments_for, data, tmp_path, capsys) -> None:
    """Shards of two sources, as the shards stage writes them: the log and the terminal have both."""
    (tmp_path / "digits.txt").write_text("\n\n".join(f"{number} {number * 7919}" for number in range(2000)))
    sources = [{"name": "p", "path": "primer"}, {"name": "d", "path": str(tmp_path / "digits.txt")}]
    write_shards(
        ShardsArguments(
            sources=sources,
            tokenizer=data["tokenizer"],
            output_dir=str(tmp_path / "shards"),
            sequence_length=64,
            validation_fraction=0.1,
        )
    )
    stage.main(arguments_for(tmp_path / "base", shards=str(tmp_path / "shards"), max_steps=3))
    evaluation = rows(tmp_path / "base")[-1]
    d, p, together = (evaluation[f"eval_bits_per_byte{name}"] for name in ("_d", "_p", ""))
    assert p < together < d  # text in whole words, digits one by one
    assert f"p {p:.3f}, d {d:.3f}" in " ".join(capsys.readouterr().out.split())


def test_without_held_out_text_nothing_is_measured(stage, arguments_for, data, tmp_path) -> None:
    """Shards whose validation side is empty: training and samples go on, the log has no evaluation."""
    shards = tmp_path / "shards"
    shutil.copytree(data["shards"], shards)
    (shards / "validation" / "tokens.bin").write_bytes(b"")
    manifest = json.loads((shards / "validation" / "manifest.json").read_text())
    (shards / "validation" / "manifest.json").write_text(json.dumps({**manifest, "blocks": 0}))
    stage.main(arguments_for(tmp_path / "base", shards=str(shards), max_steps=3))
    assert not any("eval_loss" in row for row in rows(tmp_path / "base"))
    assert (tmp_path / "base" / "samples.jsonl").is_file()


def test_latest_on_a_finished_folder_does_nothing(stage, arguments_for, data, tmp_path, capsys) -> None:
    """Complete already, also where a setting is open; other settings, a larger budget too, or shards are refused."""
    settings = {"learning_rate": None, "max_steps": -1, "num_train_epochs": 0.1}
    settings |= {"resume_from_checkpoint": "latest"}
    stage.main(arguments_for(tmp_path / "base", **settings))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "base").rglob("*")}
    capsys.readouterr()
    stage.main(arguments_for(tmp_path / "base", **settings))
    assert shows(capsys.readouterr().out, "complete", tmp_path / "base")
    shards = tmp_path / "shards"
    shutil.copytree(data["shards"], shards)
    manifest = (shards / "train" / "manifest.json").read_text()
    other = {**json.loads(manifest), "content_hash": "other"}
    (shards / "train" / "manifest.json").write_text(json.dumps(other))
    for expected, changes in (
        (user_error("finished_run_differs", 0, 1, settings=["seed"]), {"seed": 1}),
        (
            user_error("finished_run_differs", 900, settings=["max_steps", "num_train_epochs"]),
            {"num_train_epochs": None, "max_steps": 900},
        ),
        (user_error("finished_run_differs", settings=["shards"]), {"shards": str(shards)}),
        (user_error("finished_run", folder=tmp_path / "base"), {"resume_from_checkpoint": None}),
    ):
        with expected:
            stage.main(arguments_for(tmp_path / "base", **{**settings, **changes}))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "base").rglob("*")} == before


def poison(monkeypatch, steps) -> None:
    """Let the gradients of these steps (0-based) be NaN."""
    clip = Accelerator.clip_grad_norm_
    calls = []

    def clip_poisoned(self, parameters, *args):
        parameters = list(parameters)
        if len(calls) in steps:
            parameters[3].grad[0] = math.nan
        calls.append(None)
        return clip(self, parameters, *args)

    monkeypatch.setattr(Accelerator, "clip_grad_norm_", clip_poisoned)


def test_a_step_with_nan_is_left_out(stage, arguments_for, tmp_path, monkeypatch, capsys) -> None:
    """It is counted and told, the blocks are used up, the weights stay finite and the run goes on."""
    poison(monkeypatch, {2})
    stage.main(arguments_for(tmp_path / "base"))
    training = [row for row in rows(tmp_path / "base") if "loss" in row]
    assert [row["skipped_steps"] for row in training] == [0, 0, 1, 1, 1, 1]
    assert shows(capsys.readouterr().out, "step 3 ", "nan")
    for tensor in AutoModelForCausalLM.from_pretrained(tmp_path / "base").state_dict().values():
        assert tensor.isfinite().all()


def test_several_bad_steps_in_a_row_end_the_run_with_a_diagnosis(
    stage, arguments_for, tmp_path, monkeypatch
) -> None:
    """It names step, cause and cure, and does not look complete."""
    poison(monkeypatch, {2, 3, 4})
    with user_error("too_many_skipped_steps", "3 steps", "learning_rate", "--allow_changed_settings", step=5):
        stage.main(arguments_for(tmp_path / "base", max_skipped_steps=3))
    assert not (tmp_path / "base" / "run.yaml").exists()


@pytest.mark.parametrize("optim", ["muon", "adamw"])
def test_float16_leaves_out_overflows_and_outliers(
    optim, stage, arguments_for, tmp_path, monkeypatch, capsys
) -> None:
    """With a scaler of gradients: an overflow halves its scale and is counted, an outlier is left out as ever.

    torch's fused AdamW asks the scaler itself, so there a step that was left out looks like one that was taken.
    """
    scalers = []

    class Scaled(Accelerator):
        def __init__(self, **kwargs) -> None:
            super().__init__(**kwargs)
            self.scaler = torch.amp.GradScaler("cpu")
            scalers.append(self.scaler)
            self.calls = 0

        def unscale_gradients(self, optimizer=None) -> None:
            (prepared,) = self._optimizers
            factor = {1: math.inf, 4: 1e3}.get(self.calls, 1.0)
            for group in prepared.param_groups:
                for weight in group["params"]:
                    weight.grad *= factor
            self.scaler.unscale_(prepared.optimizer)
            self.calls += 1

    monkeypatch.setattr(stage, "Accelerator", Scaled)
    monkeypatch.setattr("scratch_gpt.training.pretrain.loss_spike_guard.LossSpikeGuard.WINDOW", 3)
    weights = []
    update = pretraining.Pretraining._update

    def remember(self, outcome):
        update(self, outcome)
        weights.append(torch.cat([weight.detach().flatten() for weight in self.model.parameters()]))

    monkeypatch.setattr(pretraining.Pretraining, "_update", remember)
    stage.main(arguments_for(tmp_path / "base", optim=optim))
    moved = [not torch.equal(before, after) for before, after in itertools.pairwise(weights)]
    assert moved == [False, True, True, False, True]
    training = [row for row in rows(tmp_path / "base") if "loss" in row]
    assert [row["skipped_steps"] for row in training] == [0, 1, 1, 1, 2, 2]
    assert shows(capsys.readouterr().out, "step 5 ", "gradient norm")
    assert scalers[0].get_scale() == 2.0**15


def test_a_run_without_a_scaler_is_resumed_with_one(stage, arguments_for, tmp_path, monkeypatch) -> None:
    """As from bfloat16 on one GPU to float16 on another: the scale begins anew."""
    settings = {"sample_prompts": [], "max_eval_blocks": 1, "resume_from_checkpoint": "latest"}
    interrupt_at(monkeypatch, 3, kill)
    with pytest.raises(Killed):
        stage.main(arguments_for(tmp_path / "base", **settings))

    class Scaled(Accelerator):
        def __init__(self, **kwargs) -> None:
            super().__init__(**kwargs)
            self.scaler = torch.amp.GradScaler("cpu")

    monkeypatch.setattr(stage, "Accelerator", Scaled)
    stage.main(arguments_for(tmp_path / "base", **settings))
    assert [row["step"] for row in rows(tmp_path / "base") if "loss" in row] == [1, 2, 3, 4, 5, 6]


def test_a_token_that_the_model_does_not_have_is_told(stage, arguments_for, data, tmp_path) -> None:
    """A flipped bit in tokens.bin: block and cure, instead of an index error inside the embedding."""
    shards = tmp_path / "shards"
    shutil.copytree(data["shards"], shards)
    tokens = np.memmap(shards / "train" / "tokens.bin", dtype="uint16", mode="r+")
    tokens[::64] = 60000
    tokens.flush()
    with user_error("unknown_token", shards / "train", token=60000):
        stage.main(arguments_for(tmp_path / "base", shards=str(shards)))


def test_a_full_disk_is_told_and_leaves_nothing_half_written(
    stage, arguments_for, tmp_path, monkeypatch
) -> None:
    """The error names folder and cure; the checkpoint before it is whole."""
    save_state = Accelerator.save_state

    def fail(self, folder):
        save_state(self, folder)
        if "checkpoint-4" in folder:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Accelerator, "save_state", fail)
    with user_error("cannot_write", "No space left on device", path=tmp_path / "base" / "checkpoint-4"):
        stage.main(arguments_for(tmp_path / "base"))
    assert [path.name for path in (tmp_path / "base").glob("checkpoint*")] == ["checkpoint-2"]
    assert verify_checkpoint(tmp_path / "base" / "checkpoint-2") is None


def test_a_full_disk_at_the_end_is_told_and_gone_on_from(stage, arguments_for, tmp_path, monkeypatch) -> None:
    """One line; the folder does not look complete; with room again the run ends from its last checkpoint."""
    stage.main(arguments_for(tmp_path / "straight"))

    def fail(model, tokenizer, folder, weights):
        (folder / "config.json").write_text("{")
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr(recorder, "save_model_folder", fail)
        with user_error("cannot_write", "No space left on device", path=tmp_path / "base"):
            stage.main(arguments_for(tmp_path / "base"))
    assert not (tmp_path / "base" / "run.yaml").exists()
    stage.main(arguments_for(tmp_path / "base", resume_from_checkpoint="latest"))
    assert_same_run(tmp_path / "straight", tmp_path / "base")


def test_an_impossible_batch_is_refused(stage, arguments_for, data, tmp_path) -> None:
    """A step of more blocks than there are."""
    blocks = len(PackedBlocks(f"{data['shards']}/train"))
    with user_error("step_too_large", blocks, blocks=8 * 1000):
        stage.main(arguments_for(tmp_path / "base", gradient_accumulation_steps=1000))


def test_resuming_with_changed_settings(stage, arguments_for, tmp_path, monkeypatch) -> None:
    """Refused with both values; if allowed, another batch goes on where the blocks were left."""
    stage.main(arguments_for(tmp_path / "straight"))
    interrupt_at(monkeypatch, 3, kill)
    with pytest.raises(Killed):
        stage.main(arguments_for(tmp_path / "base"))
    changed = {"resume_from_checkpoint": "latest", "per_device_train_batch_size": 4}
    with user_error("settings_changed", "8", "4", settings=["per_device_train_batch_size"]):
        stage.main(arguments_for(tmp_path / "base", **changed))
    stage.main(arguments_for(tmp_path / "base", **changed, allow_changed_settings=True))
    tokens = [row["tokens"] for row in rows(tmp_path / "base") if "loss" in row]
    assert tokens == [64 * blocks for blocks in (8, 16, 20, 24, 28, 32)]


def test_what_is_refused_costs_nothing(stage, arguments_for, tmp_path) -> None:
    """Not what a run left, nor the checkpoints and rows after the one that is named; a finished one is always refused."""
    base = tmp_path / "base"
    stage.main(arguments_for(base))
    early = str(base / "checkpoint-2")
    with user_error("finished_run", folder=base):
        stage.main(arguments_for(base, resume_from_checkpoint=early))
    (base / "run.yaml").unlink()
    before = {path: path.read_bytes() for path in base.rglob("*") if path.is_file()}
    for expected, refused in (
        (user_error("step_too_large", blocks=8000), {"gradient_accumulation_steps": 1000}),
        (user_error("unknown_key", key="hiden_size"), {"model_config": {"hiden_size": 32}}),
        (
            user_error("settings_changed", 0.007, 0.001, settings=["learning_rate"]),
            {"learning_rate": 1e-3, "resume_from_checkpoint": early},
        ),
    ):
        with expected:
            stage.main(arguments_for(base, **{"resume_from_checkpoint": "latest", **refused}))
        assert {path: path.read_bytes() for path in base.rglob("*") if path.is_file()} == before
    stage.main(arguments_for(base, resume_from_checkpoint=early))
    assert (base / "model.safetensors").read_bytes() == before[base / "model.safetensors"]
    assert [row["step"] for row in rows(base) if "loss" in row] == [1, 2, 3, 4, 5, 6]


def test_resuming_from_what_is_no_checkpoint_is_refused(stage, arguments_for, tmp_path) -> None:
    """A folder that is not there; a model without training state."""
    with user_error("checkpoint_not_found", folder=tmp_path / "none"):
        stage.main(arguments_for(tmp_path / "a", resume_from_checkpoint=str(tmp_path / "none")))
    (tmp_path / "model").mkdir()
    with user_error("not_a_checkpoint", "manifest.json", folder=tmp_path / "model"):
        stage.main(arguments_for(tmp_path / "b", resume_from_checkpoint=str(tmp_path / "model")))


def test_each_checkpoint_can_be_a_revision_of_the_hub(
    stage, arguments_for, tmp_path, monkeypatch, capsys
) -> None:
    """step-N for each; a failing upload is told and does not end the run."""
    uploads = []

    def upload(folder, repository, private=False, revision=None):
        assert (folder / "config.json").is_file()
        uploads.append((folder.name, repository, revision))
        if revision == "step-2":
            raise UserError("upload_failed", "not uploaded to me/it: no network")

    monkeypatch.setattr("scratch_gpt.publishing.upload", upload)
    monkeypatch.setattr(
        stage, "push_to_hub", lambda folder, hub_model_id, _: upload(Path(folder), hub_model_id)
    )
    hub = {"push_to_hub": True, "hub_model_id": "me/it", "hub_strategy": "every_save"}
    stage.main(arguments_for(tmp_path / "base", **hub))
    assert uploads == [
        ("checkpoint-2", "me/it", "step-2"),
        ("checkpoint-4", "me/it", "step-4"),
        ("base", "me/it", None),
    ]
    assert "warning: not uploaded to me/it: no network" in capsys.readouterr().out


def test_trackers_get_every_number(stage, arguments_for, tmp_path) -> None:
    """A tracker registered with Accelerate is told the settings once, and each row at its step."""

    class Notebook(GeneralTracker):
        name = "notebook"
        requires_logging_directory = False
        main_process_only = True
        pages: list = []  # noqa: RUF012

        def __init__(self, run_name, **kwargs):
            super().__init__()

        tracker = property(lambda self: self.pages)

        def store_init_configuration(self, values):
            self.pages.append(values)

        def log(self, values, step=None, **kwargs):
            self.pages.append((step, values))

    register_tracker_class(Notebook)
    stage.main(arguments_for(tmp_path / "base", report_to=["notebook"]))
    settings, *logged = Notebook.pages
    assert settings["learning_rate"] == "0.007"
    expected = RunLog(tmp_path / "base" / "log.jsonl").rows()
    assert [step for step, _ in logged] == [row["step"] for row in expected]
    assert logged[0][1]["loss"] == pytest.approx(expected[0]["loss"])
