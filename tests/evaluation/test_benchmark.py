# SPDX-License-Identifier: Apache-2.0
"""Arguments of benchmarks, and what evaluating several models leaves behind."""

import json
import shutil
from pathlib import Path

import pytest

from scratch_gpt.errors import UserError
from scratch_gpt.evaluation.benchmark import EvalArguments, run_benchmark
from scratch_gpt.evaluation.runner import Metric
from scratch_gpt.training.arguments import parse


def test_arguments_come_from_the_command_line_and_a_file(base_folder: Path, tmp_path: Path) -> None:
    """Several models, sources as JSON, the command line before the file."""
    config = tmp_path / "x.yaml"
    config.write_text("tasks: [facts, sums]\nmax_new_tokens: 9\nseed: 3\n")
    args = ["--config", str(config), "--model", str(base_folder), str(base_folder), "--seed", "4"]
    arguments = parse(EvalArguments, [*args, "--sources", '[{"name": "x", "path": "y"}]'])
    assert arguments.model == [str(base_folder)] * 2
    assert (arguments.tasks, arguments.max_new_tokens, arguments.seed) == (["facts", "sums"], 9, 4)
    assert arguments.sources == [{"name": "x", "path": "y"}]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": []}, "model is missing"),
        ({"model": ["gone"]}, "no model in gone"),
        ({"output": "x.json", "model": ["a", "b"]}, "output takes one file, but 2 models"),
        ({"split": "valid"}, "split must be train, dev or test, got 'valid'"),
        ({"on_bad_row": "stop"}, "on_bad_row must be skip or fail"),
        ({"sources": "["}, "--sources must be JSON"),
        ({"limit": 0}, "limit must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_wrong_arguments_are_refused(base_folder: Path, settings: dict, message: str) -> None:
    """One line that names the value."""
    with pytest.raises(UserError, match=message):
        EvalArguments(**{"model": [str(base_folder)], **settings})


def test_each_model_gets_its_own_result_file(
    base_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Results lie in the models' folders by default, with the settings and the number of examples."""
    other = Path(shutil.copytree(base_folder, tmp_path / "other"))
    arguments = EvalArguments(model=[str(base_folder), str(other)], limit=5)
    values = iter((0.1, 0.2))
    run_benchmark(
        "qa",
        arguments,
        {"facts": 3, "sums": 4},
        lambda model, tokenizer: {"facts/f1": Metric(next(values), (0.0, 1.0))},
        {"extra": 1},
    )
    results = [json.loads((folder / "results" / "qa.json").read_text()) for folder in (base_folder, other)]
    assert [result["metrics"]["facts/f1"]["value"] for result in results] == [0.1, 0.2]
    assert [result["model"] for result in results] == [str(base_folder), str(other)]
    assert [result["n"] for result in results] == [7, 7]
    assert results[0]["settings"]["examples"] == {"facts": 3, "sums": 4}
    assert results[0]["settings"]["limit"] == 5
    assert results[0]["settings"]["extra"] == 1
    assert "facts/f1" in capsys.readouterr().out
