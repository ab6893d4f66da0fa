# SPDX-License-Identifier: Apache-2.0
"""Scores on public benchmarks, in the Hub's form."""

import json
from pathlib import Path

import pytest
import yaml
from huggingface_hub._eval_results import parse_eval_result_entries

from scratch_gpt.evaluation.benchmarks.layouts import LAYOUTS
from scratch_gpt.evaluation.benchmarks.public import task_settings
from scratch_gpt.publishing import pack, write_card
from scratch_gpt.publishing.eval_results import MEASURES
from scratch_gpt.tasks.example import Example


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_has_a_measure(layout: str) -> None:
    """What its task scores holds one of those that make an entry."""
    example = Example("x", ("1", "2"), "x", "x", ("1", "2"), 0)
    scores = task_settings(LAYOUTS[layout])["score"]("1", example)
    assert scores.keys() & set(MEASURES)


def test_a_benchmark_of_the_hub_has_an_entry(chat_folder: Path) -> None:
    """As the Hub's own reader reads it, and it goes up; copies in files have none; an old file does not stay."""
    noted = {
        "layout": "gsm8k",
        "path": "openai/gsm8k",
        "subset": "main",
        "split": "test",
        "revision": "c0ffee",
    }
    noted |= {"num_fewshot": 5, "apply_chat_template": True}
    metric = {"value": 0.25, "ci95": [0.2, 0.3], "chance": None}
    result = {"task": "qa", "model": "chat", "n": 2, "seed": 0, "versions": {}}
    result["settings"] = {"benchmarks": {"gsm8k": noted, "copy": {**noted, "revision": None}}}
    result["metrics"] = {"gsm8k/strict_match": metric, "copy/strict_match": metric}
    (chat_folder / "results").mkdir()
    path = chat_folder / "results" / "qa.json"
    path.write_text(json.dumps(result))
    write_card(chat_folder)
    file = chat_folder / ".eval_results" / "scratch-gpt.yaml"
    (entry,) = parse_eval_result_entries(yaml.safe_load(file.read_text()))
    assert (entry.dataset_id, entry.task_id, entry.value) == ("openai/gsm8k", "gsm8k", 0.25)
    assert entry.dataset_revision == "c0ffee"
    for fact in ("strict_match", "0.2 to 0.3", "5 examples", "split test", "subset main", "template on"):
        assert fact in entry.notes
    assert ".eval_results/scratch-gpt.yaml" in [each.path for each in pack(chat_folder).files]
    path.unlink()
    write_card(chat_folder)
    assert not file.exists()
