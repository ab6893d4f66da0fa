# SPDX-License-Identifier: Apache-2.0
"""`eval/engineering/new_comparison.py`: the settings of a recipe, and texts that would share a folder."""

import new_comparison as script
import pytest

from scratch_gpt.new.configs import write_configs
from scratch_gpt.new.planning import Choice, TextFigures, TimeTable, make_plan
from scratch_gpt.new.shapes import Shape
from scratch_gpt.runs.folders import read_yaml
from wording import user_error


def test_texts_of_the_same_name_are_refused() -> None:
    """They would share a run."""
    with user_error("settings_conflict", "a/book.txt", "b/book.jsonl", setting="texts"):
        script.NewComparisonArguments(texts=["a/book.txt", "b/book.jsonl"])


@pytest.mark.parametrize("recipe", script.RECIPES, ids=lambda recipe: recipe.name)
def test_a_recipe_decides_its_settings_alone(recipe, tmp_path, monkeypatch) -> None:
    """100 steps of half a second in 50 seconds; of the plan of `new` only the text is left, and the corpus is shared."""
    monkeypatch.setattr(script, "seconds_per_step", lambda *settings: 0.5)
    text = TextFigures(1_000_000, 50_000, 3.0, 2.5, 1.0, 1.0)
    choice = Choice(Shape(64, 1, 1024), 1e6, 3.0, 60.0, 2.0)
    times = TimeTable(60.0, {"pretrain": 0.0}, {"sft": 7})
    planned = make_plan(choice, text, inputs={}, sample_prompts=["Once"], times=times)
    plan = recipe.plan(planned, 50.0)
    steps = {step.name: step for step in write_configs(plan, tmp_path, {"corpus": tmp_path / "shared"})}
    assert set(steps) == {"tokenizer", "shards", "pretrain"}
    settings = read_yaml(steps["pretrain"].config)
    assert settings["model_config"]["hidden_size"] == recipe.hidden_size
    assert settings["model_config"]["max_position_embeddings"] == recipe.context
    assert settings["per_device_train_batch_size"] == recipe.blocks
    assert (settings["learning_rate"], settings["weight_decay"]) == (
        recipe.learning_rate,
        recipe.weight_decay,
    )
    assert (settings["max_steps"], settings["max_minutes"]) == (100, round(50 / 60, 2))
    assert settings["sample_prompts"] == ["Once"]
    tokenizer = read_yaml(steps["tokenizer"].config)
    assert tokenizer["vocab_size"] == recipe.vocab_size
    assert tokenizer["sources"][0]["path"] == (tmp_path / "shared" / "train.jsonl").as_posix()
