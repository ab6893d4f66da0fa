# SPDX-License-Identifier: Apache-2.0
"""Settings of the rlhf stage."""

from pathlib import Path
from typing import Any

import pytest
from trl import GRPOConfig, RLOOConfig

from scratch_gpt.errors import UserError
from scratch_gpt.training.rlhf_arguments import RLHFArguments


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model_name_or_path": None}, "model_name_or_path is missing"),
        ({"reward_model": None}, "reward_model is missing"),
        ({"algorithm": "ppo"}, "must be rloo or grpo, got 'ppo'"),
        ({"sources": None}, "sources: name at least one"),
        ({"push_to_hub": True}, "push_to_hub needs hub_model_id"),
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


def test_grpo_gets_the_same_settings(tmp_path: Path) -> None:
    """One flag chooses the algorithm; all settings that both have go along."""
    settings = {"beta": 0.25, "num_generations": 4, "max_steps": 7, "temperature": 0.9, "learning_rate": 3e-4}
    common = {
        "model_name_or_path": "chat",
        "reward_model": "reward",
        "sources": [{"name": "primer", "path": "primer"}],
        "output_dir": str(tmp_path),
    }
    assert isinstance(RLHFArguments(**common, **settings).for_trainer(), RLOOConfig)
    chosen = RLHFArguments(**common, **settings, algorithm="grpo").for_trainer()
    assert isinstance(chosen, GRPOConfig)
    assert {name: getattr(chosen, name) for name in settings} == settings
    assert chosen.mask_truncated_completions
    assert chosen.output_dir == str(tmp_path)
