# SPDX-License-Identifier: Apache-2.0
"""sft, reward, dpo, kto and rlhf run through their main functions on a tiny model: what they write."""

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import trl
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from files_page import not_on_the_page
from scratch_gpt.data.shards.arguments import ShardsArguments
from scratch_gpt.data.shards.writing import write_shards
from scratch_gpt.evaluation.benchmarks import alignment
from scratch_gpt.publishing.facts import stage_facts
from scratch_gpt.training.rl import reward_functions
from scratch_gpt.training.rl import rlhf as rlhf_trainer
from stage_rows import rows_with, write_rows
from wording import shows, user_error


ROW_KEYS = ["step", "tokens", "loss", "learning_rate", "grad_norm", "tokens_per_second", "elapsed_seconds"]
MODEL_FILES = {
    "model.safetensors",
    "config.json",
    "configuration_scratch_gpt.py",
    "modeling_scratch_gpt.py",
    "modeling_scratch_gpt_inputs.py",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "log.jsonl",
    "provenance.json",
    "run.yaml",
}


def changed_everywhere(before: torch.nn.Module, after: torch.nn.Module) -> bool:
    """Whether no parameter that both models have is as it was."""
    old, new = dict(before.named_parameters()), dict(after.named_parameters())
    shared = old.keys() & new.keys()
    assert len(shared) > 20
    return all(not torch.equal(old[name], new[name]) for name in shared)


def test_sft_writes_a_chat_model(sft: Callable[..., None], base_folder: Path, tmp_path: Path) -> None:
    """sft leaves a complete folder that loads, ends answers with <|im_end|>, and has learned in every weight."""
    output = tmp_path / "out"
    (tmp_path / "general.txt").write_text("Anna is hungry. She wants an apple.")
    sft(
        output_dir=str(output),
        max_steps=3,
        general_text=str(tmp_path / "general.txt"),
        max_eval_prompts=2,
        learning_rate=1e-2,
    )
    files = {path.name for path in output.iterdir()}
    assert files == MODEL_FILES | {"generation_config.json", "samples.jsonl", "results", "checkpoint-3"}
    assert not_on_the_page(output) == []
    metrics = json.loads((output / "results" / "sft.json").read_text())["metrics"]
    assert metrics["after/loss"]["value"] < metrics["before/loss"]["value"]
    assert metrics["change/loss"]["ci95"][1] < 0
    assert {"before/general_text/bits_per_byte", "change/general_text/bits_per_byte"} < set(metrics)
    # a base model is not asked
    assert metrics["after/finished"]["n"] == 2 and "before/finished" not in metrics
    model, tokenizer = AutoModelForCausalLM.from_pretrained(output), AutoTokenizer.from_pretrained(output)
    assert tokenizer.eos_token == "<|im_end|>"
    assert model.generation_config.eos_token_id == tokenizer.convert_tokens_to_ids(
        ["<|im_end|>", "<|endoftext|>"]
    )
    assert model.config.use_cache
    assert changed_everywhere(AutoModelForCausalLM.from_pretrained(base_folder), model)
    names = [
        json.loads((folder / "tokenizer_config.json").read_text())
        for folder in (output, output / "checkpoint-3")
    ]
    assert [each["tokenizer_class"] for each in names] == ["PreTrainedTokenizerFast"] * 2
    AutoTokenizer.from_pretrained(output / "checkpoint-3").apply_chat_template(
        [{"role": "user", "content": "Hi"}]
    )
    assert AutoModelForCausalLM.from_pretrained(output / "checkpoint-3").config.use_cache


def test_sft_logs_what_programs_read(sft: Callable[..., None], tmp_path: Path) -> None:
    """log.jsonl has one training row a step with the fixed keys first, and an evaluation row; tokens add up."""
    output = tmp_path / "out"
    sft(output_dir=str(output), max_steps=3)
    training = rows_with(output, "loss")
    assert [row["step"] for row in training] == [1, 2, 3]
    assert list(training[0])[: len(ROW_KEYS)] == ROW_KEYS
    assert 0 < training[0]["tokens"] < training[1]["tokens"]
    assert "mean_token_accuracy" in training[0]
    (evaluation,) = rows_with(output, "eval_loss")
    assert evaluation["step"] == 3
    assert evaluation["elapsed_seconds"] == training[-1]["elapsed_seconds"]


def test_sft_replays_the_pretraining(
    sft: Callable[..., None], base_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Documents of the shards are among the rows; packing and replay go together, and all of it is learned."""
    shards = tmp_path / "shards"
    write_shards(
        ShardsArguments(
            sources=[{"name": "primer", "path": "primer"}],
            tokenizer=str(base_folder),
            output_dir=str(shards),
            sequence_length=64,
            max_tokens=5_000,
            validation_fraction=0.05,
        )
    )
    (base_folder / "run.yaml").write_text(json.dumps({"shards": str(shards)}))
    replay = {"replay_shards": str(shards / "train"), "replay_fraction": 0.5}
    sft(output_dir=str(tmp_path / "out"), num_train_epochs=1, **replay)
    measured = json.loads((tmp_path / "out" / "results" / "sft.json").read_text())
    assert measured["settings"]["general_text"] == str(shards / "validation")
    assert "change/general_text/bits_per_byte" in measured["metrics"]
    assert "replay: " in capsys.readouterr().out
    sft(output_dir=str(tmp_path / "packed"), num_train_epochs=1, packing="true", **replay)
    tokens, packed = (rows_with(tmp_path / name, "loss")[-1]["tokens"] for name in ("out", "packed"))
    assert tokens == packed
    assert len(rows_with(tmp_path / "packed", "loss")) < len(rows_with(tmp_path / "out", "loss"))


def test_a_row_without_a_target_stops_sft_before_the_first_step(
    sft: Callable[..., None], base_folder: Path, tmp_path: Path
) -> None:
    """The guard fires in the stage, with the row's place, and nothing is written."""
    template = base_folder / "chat_template.jinja"
    marked = "if role == 'assistant'"
    template.write_text(
        template.read_text().replace(marked, f"{marked} and 'It is 3.' not in message['content']")
    )
    with user_error("nothing_learned", "instructions.jsonl:3"):
        sft(output_dir=str(tmp_path / "out"), max_steps=1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("stage", ["sft", "distill"])
def test_small_updates_of_bfloat16_weights_are_kept(
    stage: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """A step of 1e-6 moves weights that bfloat16 cannot tell from those before."""
    start = Path(request.getfixturevalue("base_folder" if stage == "sft" else "chat_folder"))
    model = AutoModelForCausalLM.from_pretrained(start)
    model.bfloat16().save_pretrained(start)
    request.getfixturevalue(stage)(
        output_dir=str(tmp_path / "out"), max_steps=1, learning_rate=1e-6, warmup_steps=0
    )
    tuned = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    before = model.get_input_embeddings().weight.float()
    moved = (tuned.get_input_embeddings().weight[: len(before)] - before).abs()
    assert 0 < moved.max() < 1e-5
    assert tuned.dtype == torch.float32


@pytest.mark.parametrize("stage", ["rlhf", "distill"])
def test_fewer_prompts_than_a_step_takes_are_refused(
    stage: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """TRL would take no step at all, and the run would end as if it had learned."""
    call, output = request.getfixturevalue(stage), tmp_path / "out"
    with user_error("too_few_prompts", "per_device_train_batch_size", found=1):
        call(output_dir=str(output), max_steps=1, max_train_samples=1)
    assert not (output / "run.yaml").exists()


@pytest.mark.parametrize(
    ("stage", "names"),
    [
        ("sft", ["change/loss"]),
        ("dpo", ["chosen_log_ratio", "rejected_log_ratio", "change/loss"]),
        ("kto", ["liked_log_ratio", "change/loss"]),
    ],
)
def test_a_model_that_learned_nothing_has_not_changed(
    stage: str, names: list[str], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """In bfloat16 too: before and after are rounded alike."""
    more = {"bf16": True, "learning_rate": 0.0, "max_steps": 1}
    request.getfixturevalue(stage)(output_dir=str(tmp_path / "out"), **more)
    metrics = json.loads((tmp_path / "out" / "results" / f"{stage}.json").read_text())["metrics"]
    # an sft run that is faster with another attention takes it after the first measurement
    assert [metrics[name]["value"] for name in names] == pytest.approx([0.0] * len(names), abs=1e-3)


def test_reward_writes_a_scoring_model(
    reward: Callable[..., None], chat_folder: Path, tmp_path: Path
) -> None:
    """reward leaves a one-score model and a result file with the accuracy of each kind of pair."""
    output = tmp_path / "out"
    reward(output_dir=str(output), max_steps=3)
    assert {path.name for path in output.iterdir()} == MODEL_FILES | {"results", "checkpoint-3"}
    model = AutoModelForSequenceClassification.from_pretrained(output)
    assert model.config.num_labels == 1
    assert changed_everywhere(AutoModelForCausalLM.from_pretrained(chat_folder), model)
    assert model.score.weight.abs().sum() > 0
    result = json.loads((output / "results" / "reward.json").read_text())
    assert result["task"] == "reward"
    accuracies = {"accuracy", "accuracy/rude", "accuracy/wrong"}
    assert set(result["metrics"]) == {*accuracies, "calibration_error"}
    assert all(result["metrics"][name]["chance"] == 0.5 for name in accuracies)
    assert all(len(metric["ci95"]) == 2 for metric in result["metrics"].values())
    assert (output / "results" / "calibration.png").is_file()
    assert not_on_the_page(output) == []
    assert {"accuracy", "margin"} <= set(rows_with(output, "loss")[0])


def test_dpo_writes_an_aligned_model(dpo: Callable[..., None], chat_folder: Path, tmp_path: Path) -> None:
    """dpo leaves a chat model that has learned in every weight to rank pairs, measured against where it began."""
    output = tmp_path / "out"
    dpo(output_dir=str(output), max_steps=8)
    assert {path.name for path in output.iterdir()} == MODEL_FILES | {
        "generation_config.json",
        "samples.jsonl",
        "results",
        "checkpoint-8",
    }
    model = AutoModelForCausalLM.from_pretrained(output)
    assert changed_everywhere(AutoModelForCausalLM.from_pretrained(chat_folder), model)
    assert AutoTokenizer.from_pretrained(output).eos_token == "<|im_end|>"
    metrics = json.loads((output / "results" / "dpo.json").read_text())["metrics"]
    assert {"accuracy/rude", "accuracy/wrong"} < set(metrics)
    assert metrics["accuracy"]["value"] == 1.0
    # of the chosen answers, which became likelier
    assert metrics["change/loss"]["ci95"][1] < 0 < metrics["chosen_log_ratio"]["value"]
    assert metrics["chosen_log_ratio"]["value"] > metrics["rejected_log_ratio"]["value"]
    training = rows_with(output, "loss")
    assert training[0]["loss"] == pytest.approx(math.log(2), abs=1e-3)  # policy and reference are one
    assert {"rewards/accuracies", *ROW_KEYS} <= set(training[0])


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["reward", "dpo", "kto"])
def test_pairs_that_part_early_are_learned(
    stage: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """TRL takes completions of several turns: all that follows the shared question is compared."""
    turns = [
        {side: chat(f"What is {n}?", answer, "And then?", answer) for side, answer in sides}
        for n in range(24)
        for sides in [(("chosen", f"It is {n}."), ("rejected", "Go away."))]
    ]
    output, sources = tmp_path / "out", write_rows(tmp_path / "pairs.jsonl", turns)
    request.getfixturevalue(stage)(output_dir=str(output), max_steps=6, learning_rate=3e-3, sources=sources)
    metrics = json.loads((output / "results" / f"{stage}.json").read_text())["metrics"]
    if stage == "kto":
        assert metrics["liked_log_ratio"]["value"] > metrics["disliked_log_ratio"]["value"]
    else:
        assert metrics["accuracy"]["value"] == 1.0


def chat(*texts: str) -> list[dict[str, str]]:
    """A conversation in which user and assistant take turns."""
    roles = itertools.cycle(("user", "assistant"))
    return [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]


def test_kto_writes_an_aligned_model(kto: Callable[..., None], chat_folder: Path, tmp_path: Path) -> None:
    """kto leaves a chat model in which liked answers have gained on the others, from answers that were judged alone."""
    judged = [
        {"prompt": f"What is {n} plus one?", "completion": answer, "label": liked}
        for n in range(40)
        for answer, liked in ((f"It is {n + 1}.", True), ("Go away.", False))
        if n % 4 or liked  # no pairs: more thumbs up than down
    ]
    output = tmp_path / "out"
    kto(
        output_dir=str(output),
        max_steps=4,
        learning_rate=3e-3,
        sources=write_rows(tmp_path / "judged.jsonl", judged),
    )
    assert {path.name for path in output.iterdir()} == MODEL_FILES | {
        "generation_config.json",
        "samples.jsonl",
        "results",
        "checkpoint-4",
    }
    model = AutoModelForCausalLM.from_pretrained(output)
    assert changed_everywhere(AutoModelForCausalLM.from_pretrained(chat_folder), model)
    assert AutoTokenizer.from_pretrained(output).eos_token == "<|im_end|>"
    metrics = json.loads((output / "results" / "kto.json").read_text())["metrics"]
    assert metrics["liked_log_ratio"]["value"] > 1 > 0 > metrics["disliked_log_ratio"]["value"]
    training = rows_with(output, "loss")
    assert training[0]["loss"] == pytest.approx(0.5, abs=1e-3)  # policy and reference are one
    assert set(ROW_KEYS) <= set(training[0])


@pytest.mark.parametrize("stage", ["sft", "reward", "dpo", pytest.param("kto", marks=pytest.mark.slow)])
def test_lora_ends_in_an_ordinary_model(
    stage: str, request: pytest.FixtureRequest, chat_folder: Path, tmp_path: Path
) -> None:
    """Adapters are merged: the folder loads without PEFT, the layers' matrices have changed and the norms have not."""
    output = tmp_path / "out"
    call = request.getfixturevalue(stage)
    call(output_dir=str(output), max_steps=3, use_peft="true", lora_r=4, learning_rate=1e-2)
    names = {path.name for path in output.iterdir()}
    assert names >= MODEL_FILES and not any(name.startswith("adapter") for name in names)
    opened = AutoModelForSequenceClassification if stage == "reward" else AutoModelForCausalLM
    before = dict(AutoModelForCausalLM.from_pretrained(chat_folder).named_parameters())
    model = opened.from_pretrained(output)
    for name, weight in model.named_parameters():
        if name in before:
            assert torch.equal(weight, before[name]) != ("_proj" in name)
    if stage == "reward":
        assert model.score.weight.abs().sum() > 0


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["rloo", "grpo"])
def test_lora_in_rlhf_is_merged(
    rlhf: Callable[..., None],
    chat_folder: Path,
    tmp_path: Path,
    algorithm: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where a step was better, the layers' matrices are new ones; where none was, the model is the one before."""
    settings = {"max_steps": 2, "algorithm": algorithm, "use_peft": "true", "learning_rate": 1e-2}
    before = dict(AutoModelForCausalLM.from_pretrained(chat_folder).named_parameters())
    for name, place in (("better", -1), ("start", 0)):
        monkeypatch.setattr(rlhf_trainer, "best_row", lambda history, _, place=place: history[place])
        rlhf(output_dir=str(tmp_path / name), **settings)
        after = AutoModelForCausalLM.from_pretrained(tmp_path / name).named_parameters()
        changed = {key for key, weight in after if not torch.equal(weight, before[key])}
        assert bool(changed) == (name == "better") and all("_proj" in key for key in changed)
        assert not any(file.name.startswith("adapter") for file in (tmp_path / name).iterdir())


@pytest.mark.parametrize("stage", ["sft", "reward", "dpo"])
def test_twelve_rows_are_trained_on_without_held_out_ones(
    stage: str, request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """held_out_fraction 0: every row is learned, one line says so, and no file claims a measurement."""
    source = request.getfixturevalue("instruction_source" if stage == "sft" else "preference_source")
    rows = Path(source[0]["path"]).read_text().splitlines(keepends=True)
    Path(source[0]["path"]).write_text("".join(rows[:12]))
    request.getfixturevalue(stage)(output_dir=str(tmp_path / "out"), held_out_fraction=0, max_steps=1)
    assert shows(capsys.readouterr().out, "held_out_fraction 0", "train: 12 rows")
    assert (tmp_path / "out" / "run.yaml").is_file()
    assert not (tmp_path / "out" / "results").exists()


def test_margins_make_the_reward_loss_larger(
    reward: Callable[..., None], preference_source: list[dict[str, str]], tmp_path: Path
) -> None:
    """A margin column is taken off the difference of scores, which is 0 before the first step: softplus(margin)."""
    path = Path(preference_source[0]["path"])
    rows = [{**json.loads(line), "difference": 3} for line in path.read_text().splitlines()]
    source = {**write_rows(path, rows)[0], "columns": {"kind": "kind", "margin": "difference"}}
    reward(output_dir=str(tmp_path / "plain"), max_steps=1)
    reward(output_dir=str(tmp_path / "margin"), max_steps=1, sources=[source])
    plain, margin = (rows_with(tmp_path / name, "loss")[0] for name in ("plain", "margin"))
    assert margin["loss"] - plain["loss"] == pytest.approx(3, abs=0.7)


@pytest.fixture
def gold(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[float]], None]:
    """`gold(values)`: what the gold score is found to be at one measurement after the other, and from then on 0."""

    def script(values: list[float]) -> None:
        # each measurement asks three times: the default decoding, temperature 1, greedy
        scripted = iter([value for value in values for _ in range(3)])
        monkeypatch.setattr(
            alignment, "gold_scores", lambda prompts, answers: [next(scripted, 0.0)] * len(answers)
        )

    return script


@pytest.mark.parametrize("algorithm", ["rloo", "grpo"])
def test_rlhf_writes_an_aligned_model(
    algorithm: str,
    rlhf: Callable[..., None],
    gold: Callable[[list[float]], None],
    chat_folder: Path,
    tmp_path: Path,
) -> None:
    """rlhf leaves a chat model, a log with rewards, KL and what was watched, and the comparison before and after."""
    output = tmp_path / "out"
    gold([0.1, 0.2, 0.3])
    rewards = [{"name": "model"}, {"name": "finished", "weight": 0.5}, {"name": "task", "task": "facts"}]
    rlhf(output_dir=str(output), max_steps=3, algorithm=algorithm, rewards=rewards)
    assert {path.name for path in output.iterdir()} == MODEL_FILES | {
        "generation_config.json",
        "samples.jsonl",
        "results",
        "checkpoint-2",
        "checkpoint-3",
    }
    model = AutoModelForCausalLM.from_pretrained(output)
    assert changed_everywhere(AutoModelForCausalLM.from_pretrained(chat_folder), model)
    assert AutoTokenizer.from_pretrained(output).eos_token == "<|im_end|>"
    training = rows_with(output, "loss")
    assert [row["step"] for row in training] == [1, 2, 3]
    assert {"reward", "kl", *ROW_KEYS} <= set(training[0])
    for row in training:
        parts = [row[f"rewards/{name}/mean"] for name in ("model", "finished", "facts")]
        # a step may ask no fact: then the task has no opinion
        assert row["reward"] == pytest.approx(parts[0] + 0.5 * parts[1] + (parts[2] or 0.0), abs=1e-4)
    watched = rows_with(output, "eval_score")
    assert [(row["step"], row["eval_gold"]) for row in watched] == [(0, 0.1), (2, 0.2), (3, 0.3)]
    assert not any("rewards/" in name for row in watched for name in row)
    assert watched[0]["eval_kl"] == 0.0 < watched[2]["eval_kl"]
    result = json.loads((output / "results" / "rlhf.json").read_text())
    assert result["settings"]["best_step"] == 3
    metrics = result["metrics"]
    for measure in ("gold", "gold_win_rate", "reward", "finished", "length", "repetition", "distinct_2"):
        for decoding in ("default", "temperature_1", "greedy"):
            assert {f"{column}/{decoding}/{measure}" for column in ("sft", "aligned")} <= set(metrics)
    before, after, change = (
        metrics[f"{column}/default/length"]["value"] for column in ("sft", "aligned", "change")
    )
    assert change == pytest.approx(after - before)
    assert shows(result["settings"]["verdict"], "Gold score at the default decoding", "no gain")
    assert metrics["sft/temperature_1/kl"]["value"] == 0.0
    assert metrics["aligned/temperature_1/kl"]["value"] > 0.0


def test_distill_brings_the_student_near_the_teacher(
    distill: Callable[..., None], chat_folder: Path, teacher_folder: Path, tmp_path: Path
) -> None:
    """A chat model whose distance from the teacher, on held-out prompts, is smaller than before; the teacher is in its record."""
    output = tmp_path / "out"
    (teacher_folder / "provenance.json").write_text('{"stages": [{"stage": "sft", "folder": "teacher"}]}')
    distill(output_dir=str(output), max_steps=8)
    assert {path.name for path in output.iterdir()} == MODEL_FILES | {
        "generation_config.json",
        "results",
        "checkpoint-8",
    }
    stops = [
        AutoModelForCausalLM.from_pretrained(folder).generation_config.eos_token_id
        for folder in (chat_folder, output)
    ]
    assert stops[0] == stops[1]
    training = rows_with(output, "loss")
    assert training[-1]["loss"] < 0.8 * training[0]["loss"]
    assert {"completions/mean_length", *ROW_KEYS} <= set(training[0])
    metrics = json.loads((output / "results" / "distill.json").read_text())["metrics"]
    kl = {when: metrics[f"{when}/temperature_1/kl"]["value"] for when in ("before", "after")}
    assert 0 < kl["after"] < 0.8 * kl["before"]
    records = json.loads((output / "provenance.json").read_text())["stages"]
    assert [record["stage"] for record in records] == ["sft", "distill"]


def test_a_teacher_of_another_vocabulary_is_refused(
    distill: Callable[..., None], teacher_folder: Path, tmp_path: Path
) -> None:
    """Both sizes are named; a token more is enough, and a teacher is needed."""
    tokenizer = AutoTokenizer.from_pretrained(teacher_folder)
    tokenizer.add_special_tokens({"unk_token": "<|more|>"})
    tokenizer.save_pretrained(teacher_folder)
    model = AutoModelForCausalLM.from_pretrained(teacher_folder)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(teacher_folder)
    sizes = (len(tokenizer), len(tokenizer) - 1)
    with user_error("another_vocabulary", "scratch-gpt sft", folder=teacher_folder, sizes=sizes):
        distill(output_dir=str(tmp_path / "out"), max_steps=1)
    with user_error("setting_missing", setting="teacher_model_name_or_path"):
        distill(output_dir=str(tmp_path / "out"), teacher_model_name_or_path="")
    assert not (tmp_path / "out").exists()


def test_rlhf_says_when_nothing_was_learned(
    rlhf: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A reward that every answer gets: marked in the log, told, in the last line, and in the facts of the report."""
    output = tmp_path / "out"
    rlhf(output_dir=str(output), max_steps=2, rewards=[{"name": "format", "pattern": "^"}])
    assert ["monitor/no_signal" in row for row in rows_with(output, "eval_score")] == [False, True]
    told = " ".join(capsys.readouterr().out.split())
    assert shows(told, "step 2: no signal", "same reward", "learned nothing")
    assert "talk to it" not in told
    assert "no_signal from step 2" in stage_facts(output)["summary"]


def test_dpo_says_when_there_is_no_gradient(
    dpo: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where beta is next to 0; no measurement comes behind the last step."""
    output = tmp_path / "out"
    dpo(output_dir=str(output), max_steps=2, beta=1e-9, eval_strategy="no")
    assert [row["step"] for row in rows_with(output, "monitor/no_signal")] == [2]
    assert shows(" ".join(capsys.readouterr().out.split()), "gradient was 0", "learned nothing")


def test_rlhf_keeps_the_best_measured_model(
    rlhf: Callable[..., None],
    gold: Callable[[list[float]], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A gold score that falls after step 2 ends the run, and the written weights are those of step 2."""
    output = tmp_path / "out"
    gold([0.1, 0.5, 0.4, 0.3, 0.2])
    rlhf(output_dir=str(output), max_steps=20, patience=2)
    assert [row["step"] for row in rows_with(output, "eval_score")] == [0, 2, 4, 6]
    assert [path.name for path in sorted(output.glob("checkpoint-*"))] == ["checkpoint-2", "checkpoint-6"]
    best = AutoModelForCausalLM.from_pretrained(output / "checkpoint-2").state_dict()
    written = AutoModelForCausalLM.from_pretrained(output).state_dict()
    assert all(torch.equal(written[name], best[name]) for name in best)
    told = " ".join(capsys.readouterr().out.split())
    assert shows(told, "stopped at step 6", "2 measurements", "step 2 of 6", "0.500", "0.100")
    assert json.loads((output / "results" / "rlhf.json").read_text())["settings"]["best_step"] == 2


@pytest.mark.parametrize("algorithm", ["rloo", "grpo"])
def test_rlhf_keeps_the_start_where_nothing_is_better(
    algorithm: str,
    rlhf: Callable[..., None],
    gold: Callable[[list[float]], None],
    chat_folder: Path,
    tmp_path: Path,
) -> None:
    """With a gold score that only falls, and with a KL over its limit at once, the chat model is written unchanged."""
    start = AutoModelForCausalLM.from_pretrained(chat_folder).state_dict()
    for number, (values, limits) in enumerate([([0.5, 0.4, 0.3], {}), ([0.1, 0.9], {"max_kl": 1e-9})]):
        gold(values)
        output = tmp_path / str(number)
        rlhf(output_dir=str(output), max_steps=4, algorithm=algorithm, **limits)
        written = AutoModelForCausalLM.from_pretrained(output).state_dict()
        assert all(torch.equal(written[name], start[name]) for name in start)
        assert json.loads((output / "results" / "rlhf.json").read_text())["settings"]["best_step"] == 0
    assert [row["step"] for row in rows_with(output, "eval_score")] == [0, 2]  # the KL stopped it


def test_rewards_that_are_no_numbers_end_the_run(
    rlhf: Callable[..., None],
    gold: Callable[[list[float]], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """NaN from step 4 on: one line with the step, and what was saved at step 2 is whole and told."""
    output = tmp_path / "out"
    gold([0.1, 0.2, 0.3])
    calls = iter(range(1000))
    # per measurement three calls, per step one: start 3, steps 1 and 2, measurement 3, step 3
    monkeypatch.setattr(
        reward_functions,
        "score_conversations",
        lambda model, tokenizer, rows: [math.nan if next(calls) > 8 else 0.0] + [0.0] * (len(rows) - 1),
    )
    with user_error("reward_not_finite", "step 4", output / "checkpoint-2", reward="model", value=math.nan):
        rlhf(output_dir=str(output), max_steps=8)
    kept = AutoModelForCausalLM.from_pretrained(output / "checkpoint-2")
    assert all(torch.isfinite(parameter).all() for parameter in kept.parameters())


def test_a_broken_gradient_ends_rlhf(
    rlhf: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A loss that is NaN stops before the weights are touched."""
    compute = trl.RLOOTrainer.compute_loss
    monkeypatch.setattr(
        trl.RLOOTrainer, "compute_loss", lambda self, *args, **more: compute(self, *args, **more) * math.nan
    )
    with user_error("gradient_not_finite", "step 1", value=math.nan):
        rlhf(output_dir=str(tmp_path / "out"), max_steps=2)


def test_rlhf_takes_questions_from_a_file(
    rlhf: Callable[..., None],
    instruction_source: list[dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """With a file of instructions there is no gold score, and everything else is measured; its system message is asked."""
    output = tmp_path / "out"
    seen: list[Any] = []
    score = reward_functions.score_conversations
    monkeypatch.setattr(
        reward_functions,
        "score_conversations",
        lambda model, tokenizer, rows: seen.extend(rows) or score(model, tokenizer, rows),
    )
    rlhf(output_dir=str(output), max_steps=1, sources=[{**instruction_source[0], "system": "Be kind."}])
    roles = [[message["role"] for message in conversation] for conversation in seen]
    assert roles == [["system", "user", "assistant"]] * len(seen) and seen[0][0]["content"] == "Be kind."
    metrics = json.loads((output / "results" / "rlhf.json").read_text())["metrics"]
    assert "aligned/greedy/reward" in metrics
    assert not any("gold" in name for name in metrics)
    assert rows_with(output, "eval_score") and not rows_with(output, "eval_gold")


def test_rlhf_without_a_reward_model(
    rlhf: Callable[..., None], instruction_source: list[dict[str, str]], tmp_path: Path
) -> None:
    """Rules alone: a benchmark's score on a file's own replies, and a format; the file's name is the log's."""
    output = tmp_path / "out"
    rewards = [{"name": "task", "task": "sums", "source": "mine"}, {"name": "format", "pattern": "^It is"}]
    rlhf(output_dir=str(output), max_steps=1, sources=instruction_source, rewards=rewards, reward_model="")
    (row,) = rows_with(output, "loss")
    assert {"rewards/sums/mine/mean", "rewards/format/mean"} <= set(row)


def test_stages_refuse_what_is_not_theirs(
    sft: Callable[..., None],
    reward: Callable[..., None],
    rlhf: Callable[..., None],
    base_folder: Path,
    chat_folder: Path,
    reward_folder: Path,
    tmp_path: Path,
) -> None:
    """A missing folder, a reward model for sft, a base model for reward, a chat model as reward model: one clear line."""
    output = str(tmp_path / "out")
    with user_error("no_model", folder=tmp_path / "nowhere"):
        sft(output_dir=output, model_name_or_path=str(tmp_path / "nowhere"))
    with user_error("wrong_model", reward_folder):
        sft(output_dir=output, model_name_or_path=str(reward_folder))
    with user_error("base_model", model=base_folder):
        reward(output_dir=output, model_name_or_path=str(base_folder))
    with user_error("wrong_model", chat_folder):
        rlhf(output_dir=output, reward_model=str(chat_folder))
    with user_error("too_long", length=1000):
        sft(output_dir=output, max_length=1000)


def test_answers_that_are_cut_off_are_refused(rlhf: Callable[..., None], tmp_path: Path) -> None:
    """Before the first step, where they would teach nothing; no model is written."""
    output = tmp_path / "out"
    with user_error("answers_cut_off", "sft", length=6):
        rlhf(output_dir=str(output), max_steps=2, mask_truncated_completions="true")
    assert not (output / "model.safetensors").exists()
    assert rows_with(output, "loss") == []


@pytest.mark.slow
def test_a_reward_of_the_users_own(rlhf: Callable[..., None], tmp_path: Path) -> None:
    """Its values are in the log under its own name."""
    file = tmp_path / "my_rewards.py"
    file.write_text(
        "def two(completions, **kwargs):\n    return [2.0] * len(completions)\n", encoding="utf-8"
    )
    output = tmp_path / "out"
    rlhf(output_dir=str(output), max_steps=1, rewards=[{"path": f"{file}:two"}, {"name": "finished"}])
    assert rows_with(output, "loss")[0]["rewards/two/mean"] == 2.0


@pytest.mark.parametrize("stage", ["sft", "reward", "dpo", "kto", "rlhf"])
def test_a_launch_that_lost_its_processes_is_refused(
    stage: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in pretraining: accelerate was asked for two on a CPU and started one; nothing is written."""
    call = request.getfixturevalue(stage)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    with user_error("processes_lost", "torchrun --nproc_per_node"):
        call(output_dir=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
