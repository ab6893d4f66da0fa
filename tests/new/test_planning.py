# SPDX-License-Identifier: Apache-2.0
"""What is chosen for a text and a time: more time a better model, the time divided whole, sizes as asked for."""

import dataclasses
import itertools
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml

from scratch_gpt.new import memory, planning
from scratch_gpt.new.configs import write_configs
from scratch_gpt.new.forecast import stored_law
from scratch_gpt.new.planning import Plan, Rows, TextFigures, choose, divide_time, fitting_shapes, make_plan
from scratch_gpt.new.shapes import Shape, choose_vocab_size, shapes, weight_decay
from scratch_gpt.new.speed import Speed
from scratch_gpt.training.pretrain.arguments import PretrainArguments
from wording import user_error


# A processor of 100 GFLOP/s that loses 20 microseconds a token beside.
SPEED = Speed([(flops, 2e-5 + flops / 1e11) for flops in (1e6, 1e7, 1e8)])
TEXT = TextFigures(
    train_bytes=5_000_000,
    held_out_bytes=250_000,
    bytes_per_token=3.5,
    difficulty=2.5,
    tokenizer_seconds=2.0,
    shards_seconds=3.0,
)


@cache
def candidates() -> list[Shape]:
    """All shapes; counting their parameters takes a while."""
    return fitting_shapes(2048, 0, None)


def best(minutes: float, text: TextFigures = TEXT) -> planning.Choice:
    """The choice for so many minutes of training steps."""
    return choose(candidates(), text, SPEED, stored_law(), lambda shape: 60 * minutes)


def test_speed_between_the_measured_sizes() -> None:
    """The line through the measurements; a correction by one model moves all."""
    speed = Speed([(flops, 2e-5 + flops / 1e11) for flops in (1e6, 1e7, 1e8)])
    shape = shapes(2048, 0)[4]
    expected = 1 / (2e-5 + shape.flops_per_token / 1e11)
    assert speed.tokens_per_second(shape) == pytest.approx(expected)
    speed.correct(shape, 2 * expected)
    assert speed.tokens_per_second(shape) == pytest.approx(2 * expected)


def test_more_time_is_a_better_and_not_a_smaller_model() -> None:
    """From a minute to eight hours."""
    choices = [best(minutes) for minutes in (1, 5, 15, 60, 480)]
    for less, more in itertools.pairwise(choices):
        assert more.bits_per_byte < less.bits_per_byte
        assert more.shape.size >= less.shape.size
    assert choices[0].shape.size < choices[-1].shape.size


def test_a_small_text_is_not_read_without_end() -> None:
    """Twenty pages and eight hours: the passes have a limit, and the rest of the time is left."""
    choice = best(480, TextFigures(60_000, 3_000, 2.5, 2.8, 0.1, 0.1))
    assert choice.passes <= planning.MOST_PASSES
    assert choice.seconds <= 480 * 60


def test_the_smallest_text_gets_the_smallest_model() -> None:
    """Also where that has more parameters than a larger text would have for each of its bytes."""
    smallest = min(shape.inner for shape in candidates())
    text = TextFigures(smallest // (2 * planning.MOST_PARAMETERS), 1_000, 2.5, 2.8, 0.1, 0.1)
    assert best(10, text).shape.inner == smallest


@pytest.mark.parametrize(
    ("seconds", "missing"), [(120, "2.0 minutes"), (1, "0.1 minutes"), (121, "2.1 minutes")]
)
def test_no_time_is_one_line(seconds, missing) -> None:
    """The missing minutes are named, rounded up."""
    with user_error("too_little_time", missing):
        choose(candidates(), TEXT, SPEED, stored_law(), lambda shape: 10 - seconds)


def test_the_time_is_divided_whole() -> None:
    """Stages and training steps add up to all of it; tuning takes at most its shares, and few rows leave the rest."""
    shape = shapes(2048, 256)[4]
    rows = {"sft": Rows([500] * 20_000), "dpo": Rows([300] * 40)}
    times = divide_time(shape, TEXT, SPEED.tokens_per_second(shape), 1800, rows)
    assert times.training + sum(times.expected.values()) == pytest.approx(1800)
    assert set(times.expected) == {"tokenizer", "shards", "pretrain", "sft", "dpo", "report"}
    assert times.tuning["dpo"] == 40 // 8
    assert times.expected["sft"] < 0.3 * 1800


@pytest.mark.parametrize(("size", "nearest"), [(1e5, 184_640), (3e6, 2_607_808), (1e7, 11_409_024)])
def test_a_size_is_the_nearest_shape(size, nearest) -> None:
    """By all parameters, embeddings included."""
    (shape,) = fitting_shapes(2048, 0, size)
    assert shape.size == nearest


def test_a_size_beyond_the_memory_is_refused(monkeypatch) -> None:
    """In one line, with what there is."""
    monkeypatch.setattr(memory, "gpu_memory", lambda: 2**30)
    with user_error("out_of_memory", "0.8", "200m"):
        fitting_shapes(2048, 0, 2e8)


@pytest.fixture
def small_gpu(monkeypatch) -> Iterator[None]:
    """A GPU of 1 GiB, of which a block takes one MiB for each of the model's layers and columns."""

    def bytes_of(config, settings, build_optimizer, attention) -> dict[str, int]:
        return {"all": settings.micro_batch * config.hidden_size * config.num_hidden_layers * 2**20}

    monkeypatch.setattr(memory, "device_type", lambda: "cuda")
    monkeypatch.setattr(memory, "gpu_memory", lambda: 2**30)
    monkeypatch.setattr(memory, "memory_of_a_step", bytes_of)
    memory.step_bytes.cache_clear()
    yield
    memory.step_bytes.cache_clear()


def test_a_micro_batch_fits_into_the_gpu(small_gpu) -> None:
    """64 columns and one layer: 64 MiB a block, so of 0.8 GiB at most 12 blocks, and a step of 32 is halved twice."""
    shape = Shape(64, 1, 2048)
    assert memory.divide_blocks(shape, 32) == (8, 4)
    tokens = 3e8
    micro_batch, micro_batches = memory.choose_batch(shape, tokens)
    assert micro_batch <= 12
    assert micro_batch * micro_batches == pytest.approx(0.58 * tokens**0.571 / shape.context, rel=0.1)
    times = planning.TimeTable(300.0, {"pretrain": 20.0}, {})
    choice = planning.Choice(shape, tokens, 1.0, 300.0, 1.0)
    plan = make_plan(choice, TEXT, inputs={}, sample_prompts=[], times=times)
    assert (plan.per_device_train_batch_size, plan.gradient_accumulation_steps) == (
        micro_batch,
        micro_batches,
    )


def test_models_of_which_no_block_fits_are_left_out(small_gpu) -> None:
    """819 MiB: up to 4 layers of 192 columns would go, of the shapes known 3 of 192 are the last."""
    sizes = [(shape.hidden_size, shape.num_hidden_layers) for shape in fitting_shapes(2048, 0, None)]
    assert sizes == [(64, 1), (64, 2), (128, 1), (128, 2), (128, 4), (192, 3)]


@pytest.mark.parametrize(
    ("text_bytes", "characters", "vocab_size"),
    [
        (500_000, {"a": 1}, 1024),
        (5_000_000, {"a": 1}, 2048),
        (40_000_000, {"a": 1}, 8192),
        (5_000_000, {chr(0x4E00 + number): 1 for number in range(3000)}, 8192),
    ],
    ids=["a book", "ten books", "a library", "ten Chinese books"],
)
def test_the_vocabulary_follows_the_text(text_bytes, characters, vocab_size) -> None:
    """About the root of the bytes; a script of thousands of letters needs room for them."""
    assert choose_vocab_size(text_bytes, characters) == vocab_size


def test_weight_decay_grows_with_the_passes() -> None:
    """The usual one for fresh text, what was tuned at four passes, and a limit; less for a model with little room."""
    assert [weight_decay(passes, 3.0) for passes in (0.5, 4, 100)] == [0.1, 0.5, 1.5]
    assert weight_decay(8, 0.5) == 0.5


def plan_of(tuning: dict[str, int]) -> Plan:
    """A plan of five minutes."""
    inputs = {"instructions": "rows of mine.jsonl", "preferences": 'a "pair".jsonl'}
    times = planning.TimeTable(300.0, {"pretrain": 20.0}, tuning)
    prompts = ["Once: upon", 'she said "no', "\x93quoted\x94 \x7f\ufffe"]
    return make_plan(best(5), TEXT, inputs=inputs, sample_prompts=prompts, times=times)


def test_configs_say_what_the_plan_says(tmp_path) -> None:
    """They parse as their stages take them, name the run's folders, and a user's changes stay."""
    plan = plan_of({"sft": 100, "dpo": 20})
    steps = write_configs(plan, tmp_path)
    assert [step.name for step in steps] == ["tokenizer", "shards", "pretrain", "sft", "dpo"]
    found = {step.name: yaml.safe_load(Path(step.config).read_text(encoding="utf-8")) for step in steps}
    settings = PretrainArguments(**found["pretrain"])
    assert settings.sample_prompts == plan.sample_prompts
    assert (settings.max_steps, settings.max_minutes) == (plan.max_steps, plan.max_minutes)
    assert found["shards"]["sources"][1]["held_out"] is True
    assert found["dpo"]["model_name_or_path"] == found["sft"]["output_dir"] == str(tmp_path / "chat")
    assert found["dpo"]["sources"] == [{"name": "preferences", "path": 'a "pair".jsonl', "max_bad_rows": 1.0}]
    Path(steps[0].config).write_text("vocab_size: 512\n")
    write_configs(plan, tmp_path)
    assert Path(steps[0].config).read_text() == "vocab_size: 512\n"


def test_a_run_that_ends_well_before_its_time_keeps_its_length(tmp_path) -> None:
    """Stretched to the time, it would read the text more often than is good."""
    little = dataclasses.replace(TEXT, train_bytes=50_000, held_out_bytes=5_000)
    times = planning.TimeTable(3600.0, {"pretrain": 20.0}, {})
    choice = best(60, little)
    assert choice.passes == planning.MOST_PASSES
    plan = make_plan(choice, little, inputs={}, sample_prompts=[], times=times)
    steps = {step.name: step for step in write_configs(plan, tmp_path)}
    settings = yaml.safe_load(Path(steps["pretrain"].config).read_text(encoding="utf-8"))
    assert "max_minutes" not in settings and settings["max_steps"] == plan.max_steps


def test_a_plan_is_read_as_it_was_written(tmp_path) -> None:
    """And another file in its place is one line."""
    plan = plan_of({})
    plan.write(tmp_path / "plan.json")
    assert planning.read_plan(tmp_path / "plan.json") == plan
    (tmp_path / "plan.json").write_text("{}")
    with user_error("unreadable_file", "plan.json"):
        planning.read_plan(tmp_path / "plan.json")
