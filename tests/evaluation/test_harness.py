# SPDX-License-Identifier: Apache-2.0
"""Arguments of benchmarks, and what evaluating several models leaves behind."""

import json
import shutil
from pathlib import Path

import pytest

from scratch_gpt.evaluation.harness import EvalArguments, examples_digest, run_benchmark
from scratch_gpt.evaluation.metrics.intervals import mean_metric
from scratch_gpt.runs.results import Metric, things_to_ask
from scratch_gpt.settings.parsing import parse
from scratch_gpt.tasks.example import Example
from wording import user_error


def test_beams_do_not_sample(base_folder: Path) -> None:
    """Where a benchmark samples too, it does so without beams."""
    arguments = EvalArguments(model=[str(base_folder)], num_beams=4)
    assert arguments.generation_settings()["num_beams"] == 4
    sampled = arguments.generation_settings(temperature=1.0)
    assert (sampled["num_beams"], sampled["temperature"]) == (1, 1.0)


EXAMPLES = [Example(f"Q{number}", ("a",), "kind", f"Q{number}") for number in range(4)]


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
    ("settings", "expected"),
    [
        ({"model": []}, user_error("setting_missing", "--model", setting="model")),
        ({"model": ["gone"]}, user_error("no_model", folder="gone")),
        ({"output": "x.json", "model": ["a", "b"]}, user_error("too_many_models", "output", count=2)),
        ({"split": "valid"}, user_error("wrong_value", "train", "dev", setting="split", value="valid")),
        ({"on_bad_row": "stop"}, user_error("wrong_value", setting="on_bad_row", value="stop")),
        ({"sources": "["}, user_error("wrong_value", setting="sources", value="[")),
        ({"limit": 0}, user_error("wrong_value", setting="limit", value=0)),
        ({"batch_size": 0}, user_error("wrong_value", setting="batch_size", value=0)),
        ({"temperature": -1.0}, user_error("wrong_value", setting="temperature", value=-1.0)),
        ({"num_beams": 0}, user_error("wrong_value", setting="num_beams", value=0)),
        (
            {"num_beams": 4, "temperature": 1.0},
            user_error("settings_conflict", 4, 1.0, setting="num_beams", other="temperature"),
        ),
        ({"seeds": [0, 1, 0]}, user_error("duplicate_seeds", "0 1 0")),
        ({"model": ["runs/{seed}/chat"]}, user_error("setting_missing", "--seeds 0 1 2", setting="seeds")),
        ({"model": ["runs/{seed}/chat"], "seeds": [5]}, user_error("no_model", folder="runs/5/chat")),
    ],
)
def test_wrong_arguments_are_refused(base_folder: Path, settings: dict, expected: user_error) -> None:
    """One line that names the value."""
    with expected:
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
        {"facts": EXAMPLES[:3], "sums": EXAMPLES},
        lambda model, tokenizer, arguments: {"facts/f1": Metric(next(values), (0.0, 1.0))},
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


def test_questions_that_were_answered_right_are_kept(base_folder: Path) -> None:
    """Of each task the three shortest, for people to ask; not those that were chosen among candidates, nor long ones."""
    rows = [
        Example(text, ("x",), "k", text) for text in ("longer one?", "wrong?", "b?", "a?", "ccc?", "l" * 121)
    ]
    choices = [Example("which?", ("x",), "k", "which", ("x", "y"))]
    right = [1, 0, 1, 1, 1, 1]

    def evaluate(*_: object) -> dict[str, Metric]:
        names = {"facts/exact_match": right, "facts/f1": [0.5] * 6, "choices/accuracy": [1], "sums/x": [0.5]}
        return {name: mean_metric(values, 0) for name, values in names.items()}

    asked = {"facts": rows, "choices": choices, "sums": rows[:1]}
    run_benchmark("qa", EvalArguments(model=[str(base_folder)]), asked, evaluate)
    result = json.loads((base_folder / "results" / "qa.json").read_text())
    assert result["answered"] == {"facts": ["a?", "b?", "ccc?"]}
    assert things_to_ask(base_folder) == ["a?"]


def score_of_seed(model, tokenizer, arguments: EvalArguments) -> dict[str, Metric]:
    """Two items, whose scores are the seed and the seed + 2."""
    return {"facts/f1": mean_metric([arguments.seed, arguments.seed + 2], arguments.seed)}


def test_several_seeds_are_one_number(base_folder: Path) -> None:
    """The mean, each seed's value, their standard deviation; items are averaged over the seeds."""
    arguments = EvalArguments(model=[str(base_folder)], seeds=[0, 1, 5])
    run_benchmark("qa", arguments, {"facts": EXAMPLES[:2]}, score_of_seed)
    metric = json.loads((base_folder / "results" / "qa.json").read_text())["metrics"]["facts/f1"]
    assert metric["value"] == 3.0
    assert metric["seeds"] == {"0": 1.0, "1": 2.0, "5": 6.0}
    assert metric["spread"] == pytest.approx(7**0.5)
    assert metric["ci95"] == [2.0, 4.0]
    (line,) = (base_folder / "results" / "qa.items.jsonl").read_text().splitlines()
    assert json.loads(line)["rows"] == [[2.0], [4.0]]


def test_each_seed_has_its_model(base_folder: Path, tmp_path: Path) -> None:
    """{seed} in a path: each folder gets the result of its seed, the output that of all."""
    for seed in (1, 2):
        shutil.copytree(base_folder, tmp_path / f"run{seed}" / "chat")
    arguments = EvalArguments(
        model=[str(tmp_path / "run{seed}" / "chat")], seeds=[1, 2], output=str(tmp_path / "all.json")
    )
    loaded = []

    def evaluate(model, tokenizer, arguments: EvalArguments) -> dict[str, Metric]:
        loaded.append(Path(model.name_or_path))
        return score_of_seed(model, tokenizer, arguments)

    run_benchmark("qa", arguments, {"facts": EXAMPLES[:2]}, evaluate)
    assert loaded == [tmp_path / "run1" / "chat", tmp_path / "run2" / "chat"]
    one, two = (
        json.loads((tmp_path / f"run{seed}" / "chat" / "results" / "qa.json").read_text()) for seed in (1, 2)
    )
    assert (one["seed"], one["metrics"]["facts/f1"]["value"]) == (1, 2.0)
    assert (two["seed"], two["metrics"]["facts/f1"]["value"]) == (2, 3.0)
    assert json.loads((tmp_path / "all.json").read_text())["metrics"]["facts/f1"]["value"] == 2.5


def test_items_stand_beside_the_result(base_folder: Path, tmp_path: Path) -> None:
    """One line a number that has items, with its statistic and the hash of the task's examples."""
    output = tmp_path / "qa.json"
    arguments = EvalArguments(model=[str(base_folder)], output=str(output))
    run_benchmark("qa", arguments, {"facts": EXAMPLES[:2]}, score_of_seed)
    assert json.loads((tmp_path / "qa.items.jsonl").read_text()) == {
        "metric": "facts/f1",
        "examples": examples_digest(EXAMPLES[:2]),
        "statistic": "mean",
        "rows": [[0.0], [2.0]],
    }
    assert examples_digest(EXAMPLES[:2]) != examples_digest(EXAMPLES[1::-1])
