# SPDX-License-Identifier: Apache-2.0
"""lm-eval's results as ours: numbers, items, intervals and chance; and, where it is installed, equal to its command."""

import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from scratch_gpt.evaluation.benchmarks.lm_eval_tasks import (
    HarnessArguments,
    items_digest,
    measured_tasks,
    run_tasks,
    task_metrics,
)
from scratch_gpt.evaluation.compare import compare, item_difference
from scratch_gpt.evaluation.metrics.intervals import wilson_ci
from scratch_gpt.runs.results import read_items, read_results
from wording import shows, user_error


def sample(filtered: str = "none", **measures: Any) -> dict[str, Any]:
    hashes = dict.fromkeys(("doc_hash", "prompt_hash", "target_hash"), "x")
    return {"filter": filtered, "arguments": [0, 0, 0, 0], **hashes, **measures}


def found() -> dict[str, Any]:
    """What `simple_evaluate` gives for a group of two choices, a written answer with two filters, and a text."""
    words = [(-6.0, 2), (-2.0, 6)]
    return {
        "results": {
            "quiz": {"alias": "quiz", "acc,none": 0.75, "acc_stderr,none": 0.2},
            "one": {"acc,none": 1.0, "acc_stderr,none": 0.0, "name": "one"},
            "two": {"acc,none": 0.5, "acc_stderr,none": 0.5},
            "sums": {"exact_match,strict-match": 0.5, "exact_match,flexible-extract": 1.0},
            "text": {
                "word_perplexity,none": math.exp(8 / 8),
                "bits_per_byte,none": 1 / math.log(2),
                "perplexity,none": math.exp(1.5),
                "median,none": 3.0,
                "median_stderr,none": 0.5,
                "odd,none": 7.0,
                "odd_stderr,none": "N/A",
            },
        },
        "group_subtasks": {"quiz": ["one", "two"], "one": [], "two": []},
        "configs": {name: {"output_type": "multiple_choice"} for name in ("one", "two")},
        "samples": {
            "one": [sample(acc=1.0), sample(acc=1.0)],
            "two": [sample(acc=True), sample(acc=False)],
            "sums": [
                sample(filtered, exact_match=value)
                for filtered, values in (("strict-match", (1, 0)), ("flexible-extract", (1, 1)))
                for value in values
            ],
            "text": [
                sample(word_perplexity=pair, bits_per_byte=pair, perplexity=-nats, median=nats, odd=nats)
                for pair, nats in zip(words, (1.0, 2.0), strict=True)
            ],
        },
    }


def test_numbers_and_items_are_taken_over(capsys: pytest.CaptureFixture[str]) -> None:
    """A group with its members, filters in the name, chance of choices, sums of pairs; a number without an interval is left out."""
    quiz = task_metrics(found(), "quiz", 0)
    assert {name: metric.value for name, metric in quiz.items()} == {
        "quiz/acc": 0.75,
        "quiz/one/acc": 1.0,
        "quiz/two/acc": 0.5,
    }
    assert quiz["quiz/acc"].ci95 == wilson_ci(0.75, 4)
    assert (quiz["quiz/acc"].n, quiz["quiz/acc"].chance) == (4, 0.25)
    sums = task_metrics(found(), "sums", 0)
    assert {name: metric.value for name, metric in sums.items()} == {
        "sums/exact_match_strict_match": 0.5,
        "sums/exact_match_flexible_extract": 1.0,
    }
    text = task_metrics(found(), "text", 0)
    statistics = {name: metric.items and metric.items.statistic for name, metric in text.items()}
    assert statistics == {
        "text/word_perplexity": "weighted_perplexity",
        "text/bits_per_byte": "bits_per_byte",
        "text/perplexity": "perplexity",
        "text/median": None,
    }
    assert text["text/bits_per_byte"].items.rows == ((6.0, 2.0), (2.0, 6.0))
    assert text["text/median"].ci95 == pytest.approx((3 - 0.98, 3 + 0.98))
    assert shows(capsys.readouterr().out, "text/odd", 7)


def test_a_pattern_or_tag_is_the_tasks_that_it_stands_for() -> None:
    """lm-eval gives a tag no number of its own; members of a group are in the group's file, unless they are asked for."""
    assert measured_tasks(found(), ["quiz", "sums"]) == ["quiz", "sums", "text"]
    assert measured_tasks(found(), ["quiz", "one", "tex*"]) == ["quiz", "one", "sums", "text"]


def test_other_questions_have_another_hash() -> None:
    """By lm-eval's hashes of the items, so that only the same ones are paired."""
    changed = found()
    changed["samples"]["two"][0]["prompt_hash"] = "y"
    assert items_digest(found(), "quiz") != items_digest(changed, "quiz")
    assert items_digest(found(), "sums") == items_digest(changed, "sums")


def test_without_lm_eval_the_cure_is_named(base_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And tasks are needed."""
    with user_error("setting_missing", setting="tasks"):
        HarnessArguments(model=["m"])
    monkeypatch.setattr("scratch_gpt.evaluation.benchmarks.lm_eval_tasks.find_spec", lambda name: None)
    arguments = HarnessArguments(model=[str(base_folder)], tasks=["gsm8k"])
    with user_error("missing_package", "pip install", package="scratch-gpt[harness]"):
        run_tasks(str(base_folder), arguments)


class Manager:
    """lm-eval's list of tasks, with two of them."""

    all_tasks = ("gsm8k", "hellaswag")

    def __init__(self, include_path: str | None) -> None:
        """Files of the user's own are not looked for."""

    def match_tasks(self, names: list[str]) -> list[str]:
        return [name for name in names if name in self.all_tasks]


def test_a_task_that_lm_eval_does_not_know_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the nearest one, before anything is measured."""
    for name, parts in {
        "lm_eval": {"simple_evaluate": lambda *model, **settings: pytest.fail("measured")},
        "lm_eval.models.huggingface": {"HFLM": None},
        "lm_eval.tasks": {"TaskManager": Manager},
    }.items():
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(**parts))
    monkeypatch.setattr("scratch_gpt.evaluation.benchmarks.lm_eval_tasks.find_spec", lambda name: True)
    with user_error("unknown_task", "hellaswag?", "include_path", task="helaswag"):
        run_tasks("model", HarnessArguments(model=["model"], tasks=["gsm8k", "helaswag"]))


FRUIT = """
task: fruit
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: choices
doc_to_target: answer
num_fewshot: 2
fewshot_split: test
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
"""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="needs lm_eval")
def test_figures_are_those_of_the_command(base_folder: Path, tmp_path: Path) -> None:
    """A task of the user's own, through our command and through lm-eval's: the same accuracies; `compare` reads them."""
    rows = [
        {
            "question": f"{n} apples and",
            "choices": [" one more", " no pears at all", " nothing"],
            "answer": n % 3,
        }
        for n in range(40)
    ]
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    data = tasks / "fruit.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tasks / "fruit.yaml").write_text(FRUIT.format(data=data))
    environment = {**os.environ, "HF_DATASETS_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    root = Path(__file__).parents[3]
    ours = [str(root / "eval" / "harness.py"), "--model", str(base_folder)]
    theirs = [
        "-m",
        "lm_eval",
        "run",
        "--model",
        "hf",
        "--device",
        "cpu",
        "--batch_size",
        "8",
        "--output_path",
        str(tmp_path / "out"),
    ]
    theirs += ["--model_args", f"pretrained={base_folder},trust_remote_code=True"]
    for command in (ours, theirs):
        words = [sys.executable, *command, "--tasks", "fruit", "--include_path", str(tasks)]
        done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
    (written,) = (tmp_path / "out").rglob("results_*.json")
    expected = json.loads(written.read_text())["results"]["fruit"]
    results = read_results(base_folder)
    metrics = results["lm_eval_fruit"]["metrics"]
    for measure in ("acc", "acc_norm"):
        assert metrics[f"fruit/{measure}"]["value"] == expected[f"{measure},none"]
        assert (metrics[f"fruit/{measure}"]["n"], metrics[f"fruit/{measure}"]["chance"]) == (
            40,
            pytest.approx(1 / 3),
        )
    assert [score.metric for score in compare({"base": results})] == ["fruit/acc", "fruit/acc_norm"]
    items = read_items(base_folder)["lm_eval_fruit", "fruit/acc"]
    assert item_difference(items, items).value == 0.0
