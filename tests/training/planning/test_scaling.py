# SPDX-License-Identifier: Apache-2.0
"""The rules at points computed by hand, and that they fill what is open and nothing else."""

import pytest

from scratch_gpt.training.planning.scaling import (
    apply_scaling_rules,
    divide_step,
    good_passes,
    short_warmup,
    step_law_batch,
    step_law_learning_rate,
)
from scratch_gpt.training.pretrain.arguments import PretrainArguments
from scratch_gpt.training.pretrain.continued import BaseRun
from wording import shows, user_error


FOLDERS = {"shards": "s", "tokenizer": "t", "output_dir": "o"}
# The demo's model: 1.2 million parameters in the layers.
PARAMETERS = {"embeddings": 700_000, "attention": 590_000, "mlp": 608_000, "norms": 2_000}


def filled(
    available_tokens=2_400_000, num_processes=1, sequence_length=128, passes=4.0, base_run=None, **given
):
    return apply_scaling_rules(
        PretrainArguments(**FOLDERS, **given),
        PARAMETERS,
        sequence_length=sequence_length,
        available_tokens=available_tokens,
        passes=passes,
        base_run=base_run,
        num_processes=num_processes,
        fits=lambda blocks: blocks * sequence_length <= 4096,
    )


def test_the_step_law_at_powers_of_ten() -> None:
    """10^9 parameters, 10^11 tokens: 1.79 x 10^(-6.417 + 3.377) and 0.58 x 10^6.281."""
    assert step_law_learning_rate(10**9, 10**11) == pytest.approx(1.6325e-3, rel=1e-3)
    assert step_law_batch(10**11) == pytest.approx(1.1077e6, rel=1e-3)
    assert step_law_learning_rate(10**4, 10**6) == 0.01  # the law says 0.17


@pytest.mark.parametrize(
    ("parameters", "tokens_per_step", "max_steps", "steps"),
    [
        (1_000_000, 1_000, 20_000, 1000),  # 20 tokens a parameter: a twentieth
        (1_000_000, 1_000, 100_000, 1000),  # as many tokens as parameters
        (1_000_000, 1_000, 2_000, 100),  # a short run: a twentieth
        (1_000_000, 1_000, 3, 1),
    ],
)
def test_warm_up(parameters, tokens_per_step, max_steps, steps) -> None:
    """The smaller of the two bounds."""
    assert short_warmup(parameters, tokens_per_step, max_steps) == steps


@pytest.mark.parametrize(("blocks", "parts"), [(20, (20, 1)), (33, (16, 2)), (130, (32, 4)), (1, (1, 1))])
def test_a_step_is_divided_until_it_fits(blocks, parts) -> None:
    """32 blocks fit; the parts are equal, so the step may be a little smaller or larger."""
    assert divide_step(blocks, lambda size: size <= 32) == parts


def test_no_block_fits() -> None:
    """One block a micro-batch is the least."""
    assert divide_step(3, lambda size: False) == (1, 3)


def test_the_demo_by_rule_is_near_what_was_tuned_by_hand() -> None:
    """Tuned: 1e-2 and 2,048 tokens a step over 2.4 million tokens, which are fewer than 20 a parameter."""
    arguments, lines = filled(num_train_epochs=1.0)
    assert arguments.per_device_train_batch_size * 128 == 2560  # 0.58 x 2.4e6^0.571 = 2550
    assert arguments.gradient_accumulation_steps == 1
    assert arguments.max_steps == 937  # 2,400,000 / 2560
    assert arguments.learning_rate == pytest.approx(0.00753, rel=2e-3)
    assert arguments.warmup_steps == 47  # a twentieth
    assert len(lines) == 3
    assert "extrapolated" in lines[1]
    assert all("hf.co/papers" in line or "Step Law" in line for line in lines)


@pytest.mark.parametrize(
    ("epochs", "passes"),
    [(None, 4), (0.3, 4), (1.0, 4), (2.5, 1.6), (9.0, 1)],  # how often a source stands in the shards already
)
def test_little_text_is_read_up_to_four_times(epochs, passes) -> None:
    """2.4 million tokens for 1.9 million parameters, which want 38; no source more often than that, but once at least."""
    sources = [{"name": "a", "epochs": 0.5}, {"name": "b", "epochs": epochs}]
    allowed = good_passes({"sources": sources})
    assert allowed == pytest.approx(passes)
    arguments, lines = filled(passes=allowed)
    step = arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps * 128
    assert 0 <= passes * 2_400_000 - arguments.max_steps * step < step
    assert shows(lines[0], "2,400,000 tokens", f"{passes:g} passes", "2305.16264", "20 tokens")
    assert filled(available_tokens=20_000_000)[0].max_steps * step < 38_000_000  # less than two passes


def test_a_continued_run_is_warmed_up_to_the_peak_of_its_base() -> None:
    """1% of its steps, to the rate of the run that is known; else by the Step Law."""
    base_run = BaseRun(learning_rate=3e-3, step=10, is_stable=True)
    arguments, lines = filled(model_name_or_path="base", base_run=base_run, max_steps=700)
    assert (arguments.learning_rate, arguments.warmup_steps) == (3e-3, 7)
    assert sum("2403.08763" in line for line in lines) == 2
    assert any("stable" in line for line in lines)
    unknown, _ = filled(model_name_or_path="stock", max_steps=700)
    assert unknown.learning_rate == filled(max_steps=700)[0].learning_rate
    assert unknown.warmup_steps == 7
    given, lines = filled(model_name_or_path="base", base_run=base_run, learning_rate=1e-4, warmup_steps=0)
    assert (given.learning_rate, given.warmup_steps) == (1e-4, 0)
    assert not any("2403.08763" in line for line in lines)


def test_much_text_is_read_up_to_twenty_tokens_a_parameter() -> None:
    """1.9 million parameters, 38 million tokens."""
    arguments, lines = filled(available_tokens=10**9)
    tokens_per_step = arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps * 128
    assert 0 <= 38_000_000 - arguments.max_steps * tokens_per_step < tokens_per_step
    assert shows(lines[0], "20 tokens")


def test_what_is_given_stays() -> None:
    """All of it: no rule speaks. The budget alone: no rule speaks of that."""
    given = {"max_steps": 7, "learning_rate": 1e-3, "warmup_steps": 0}
    given |= {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 2}
    arguments, lines = filled(**given)
    assert {name: getattr(arguments, name) for name in given} == given
    assert lines == []
    arguments, lines = filled(num_train_epochs=2.0, per_device_train_batch_size=5)
    assert arguments.gradient_accumulation_steps == 6  # 4.8e6 tokens: 3788 a step, 30 blocks
    assert arguments.max_steps == 4_800_000 // (30 * 128)
    assert not any(line.startswith("max_steps") for line in lines)
    assert filled(tokens=2_400_000, available_tokens=None)[0].max_steps == 937


def test_processes_share_a_step() -> None:
    """The same tokens a step on four processes as on one."""
    one, four = filled(tokens=10**8)[0], filled(tokens=10**8, num_processes=4)[0]
    blocks = [each.per_device_train_batch_size * each.gradient_accumulation_steps for each in (one, four)]
    assert blocks[0] == pytest.approx(4 * blocks[1], rel=0.05)
    assert one.learning_rate == pytest.approx(four.learning_rate, rel=0.01)


def test_passes_over_no_shards_are_refused() -> None:
    """A plan before there are shards cannot count them."""
    with user_error("setting_missing", "num_train_epochs 1", "--tokens", setting="tokens"):
        filled(available_tokens=None, num_train_epochs=1.0)
