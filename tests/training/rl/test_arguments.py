# SPDX-License-Identifier: Apache-2.0
"""Settings of the rlhf stage."""

from pathlib import Path
from typing import Any

import pytest
from trl import GRPOConfig, RLOOConfig

from scratch_gpt.errors import UserError
from scratch_gpt.settings.parsing import parse
from scratch_gpt.training.rl.arguments import RLHFArguments
from scratch_gpt.training.rl.reward_functions import Reward


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model_name_or_path": None}, "model_name_or_path is missing"),
        ({"reward_model": None}, "reward_model is missing"),
        ({"algorithm": "ppo"}, "must be rloo or grpo, got 'ppo'"),
        ({"sources": None}, "sources: name at least one"),
        ({"push_to_hub": True}, "push_to_hub needs hub_model_id"),
        ({"save_steps": 3}, "save_steps 3 must be as eval_steps 10"),
        ({"max_kl": 0.0}, "max_kl must be above 0, got 0.0"),
        ({"patience": -1}, "patience must be above 0, got -1"),
        (
            {"scale_rewards": "batch"},
            "scale_rewards is not rloo's: use normalize_advantages or reward_clip_range",
        ),
        ({"algorithm": "grpo", "scale_rewards": "all"}, "must be group, batch or none, got 'all'"),
        (
            {"algorithm": "grpo", "reward_clip_range": [-1, 1]},
            "reward_clip_range is not grpo's: use scale_rewards",
        ),
        ({"reward_clip_range": [1, -1]}, r"reward_clip_range must be \[lowest, highest\], got \[1, -1\]"),
        ({"reward_weights": [1.0]}, "reward_weights: give each entry of rewards its own weight"),
    ],
)
def test_missing_settings_are_named(settings: dict[str, Any], message: str) -> None:
    """What a stage cannot do without is asked for in one line."""
    complete = {
        "model_name_or_path": "chat",
        "reward_model": "reward",
        "sources": [{"name": "primer", "path": "primer"}],
        "output_dir": "out",
    }
    with pytest.raises(UserError, match=message):
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
