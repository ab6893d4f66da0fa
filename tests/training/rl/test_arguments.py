# SPDX-License-Identifier: Apache-2.0
"""Settings of the rlhf stage."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from trl import GRPOConfig, RLOOConfig

from scratch_gpt.settings.parsing import parse
from scratch_gpt.training.rl.arguments import RLHFArguments
from scratch_gpt.training.rl.reward_functions import Reward
from wording import user_error


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"model_name_or_path": None}, user_error("setting_missing", setting="model_name_or_path")),
        ({"reward_model": None}, user_error("setting_missing", "--reward_model", setting="reward_model")),
        ({"algorithm": "ppo"}, user_error("wrong_value", "rloo", "grpo", setting="algorithm", value="ppo")),
        ({"sources": None}, user_error("setting_missing", setting="sources")),
        ({"push_to_hub": True}, user_error("setting_missing", setting="hub_model_id")),
        ({"save_steps": 3}, user_error("settings_conflict", 3, 10, setting="save_steps", other="eval_steps")),
        ({"max_kl": 0.0}, user_error("wrong_value", setting="max_kl", value=0.0)),
        ({"patience": -1}, user_error("wrong_value", setting="patience", value=-1)),
        (
            {"scale_rewards": "batch"},
            user_error("settings_conflict", "rloo", "reward_clip_range", setting="scale_rewards"),
        ),
        (
            {"algorithm": "grpo", "scale_rewards": "all"},
            user_error("wrong_value", "group", setting="scale_rewards", value="all"),
        ),
        (
            {"algorithm": "grpo", "reward_clip_range": [-1, 1]},
            user_error("settings_conflict", "grpo", "scale_rewards", setting="reward_clip_range"),
        ),
        (
            {"reward_clip_range": [1, -1]},
            user_error("wrong_value", setting="reward_clip_range", value=[1, -1]),
        ),
        ({"loss_type": "bnpo"}, user_error("settings_conflict", "grpo", setting="loss_type")),
        (
            {"importance_sampling_level": "sequence"},
            user_error("settings_conflict", "grpo", setting="importance_sampling_level"),
        ),
        (
            {"algorithm": "grpo", "max_tool_calling_iterations": 3},
            user_error("setting_without_effect", setting="max_tool_calling_iterations"),
        ),
        (
            {"vllm_mode": "server"},
            user_error("setting_without_effect", "use_vllm", setting="vllm_mode"),
        ),
        ({"lora_r": 4}, user_error("setting_without_effect", "use_peft", setting="lora_r")),
        (
            {"reward_weights": [1.0]},
            user_error("setting_without_effect", "rewards", setting="reward_weights"),
        ),
    ],
)
def test_missing_settings_are_named(settings: dict[str, Any], expected: user_error) -> None:
    """What a stage cannot do without is asked for in one line."""
    complete = {
        "model_name_or_path": "chat",
        "reward_model": "reward",
        "sources": [{"name": "primer", "path": "primer"}],
        "output_dir": "out",
    }
    with expected:
        RLHFArguments(**{**complete, **settings})


COMMON = {
    "model_name_or_path": "chat",
    "reward_model": "reward",
    "sources": [{"name": "primer", "path": "primer"}],
}
REWARDS = [Reward("model", 1.0, lambda *_: []), Reward("finished", 0.5, lambda *_: [])]


def test_grpo_gets_the_same_settings(tmp_path: Path) -> None:
    """One flag chooses the algorithm; all settings that both have go along, and the rewards' weights."""
    settings = {"beta": 0.25, "num_generations": 4, "max_steps": 7, "temperature": 0.9, "learning_rate": 3e-4}
    common = {**COMMON, "output_dir": str(tmp_path), **settings}
    assert isinstance(RLHFArguments(**common).for_trainer(REWARDS), RLOOConfig)
    chosen = RLHFArguments(**common, algorithm="grpo").for_trainer(REWARDS)
    assert isinstance(chosen, GRPOConfig)
    assert {name: getattr(chosen, name) for name in settings} == settings
    assert chosen.mask_truncated_completions
    assert chosen.output_dir == str(tmp_path)
    assert chosen.reward_weights == [1.0, 0.5]
    assert (chosen.eval_strategy, chosen.save_steps, chosen.load_best_model_at_end) == ("steps", 10, True)
    assert chosen.scale_rewards == "group"


def test_all_settings_of_grpo_reach_its_trainer(tmp_path: Path) -> None:
    """From a command line: every field of TRL's is an option, and the ones that are given arrive."""
    given = {
        "loss_type": "bnpo",
        "importance_sampling_level": "sequence",
        "top_entropy_quantile": 0.5,
        "delta": 1.5,
    }
    words = [f"--{name}={value}" for name, value in given.items()]
    words += ["--model_name_or_path=c", "--reward_model=r", "--algorithm=grpo", f"--output_dir={tmp_path}"]
    arguments = parse(RLHFArguments, [*words, "--sources", '[{"name": "primer", "path": "primer"}]'])
    chosen = arguments.for_trainer(REWARDS)
    assert {name: getattr(chosen, name) for name in given} == given
    assert {entry.name for entry in fields(GRPOConfig)} <= {entry.name for entry in fields(RLHFArguments)}


def test_rewards_are_scaled_as_the_algorithm_does(tmp_path: Path) -> None:
    """From a command line: clipping and normalising for rloo, dividing by a deviation for grpo."""
    words = ["--model_name_or_path", "c", "--reward_model", "r", "--output_dir", str(tmp_path)]
    words += ["--sources", '[{"name": "primer", "path": "primer"}]']
    clipped = parse(
        RLHFArguments, [*words, "--reward_clip_range", "-2", "2", "--normalize_advantages", "true"]
    ).for_trainer(REWARDS)
    assert clipped.reward_clip_range == [-2.0, 2.0]
    assert clipped.normalize_advantages
    scaled = parse(RLHFArguments, [*words, "--algorithm", "grpo", "--scale_rewards", "batch"])
    assert scaled.for_trainer(REWARDS).scale_rewards == "batch"


def test_rules_alone_need_no_reward_model(tmp_path: Path) -> None:
    """Without the entry model nothing has to be loaded."""
    settings = {**COMMON, "reward_model": None, "output_dir": str(tmp_path)}
    arguments = RLHFArguments(**settings, rewards=[{"name": "finished"}])
    assert arguments.rewards == [{"name": "finished", "weight": 1.0}]
