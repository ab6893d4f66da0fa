# SPDX-License-Identifier: Apache-2.0
"""Each score loads by the file's path and its name, offline, and agrees with an independent computation."""

import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import evaluate
import pytest
import sacrebleu

import scratch_gpt
from scratch_gpt.evaluation.metrics.standalone import write_metric_module
from wording import user_error


Load = Callable[[str], Any]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """`evaluate.load` of a score, with its data in a temporary folder."""
    file = Path(scratch_gpt.__file__).parent / "evaluation" / "metrics" / "scores.py"
    return lambda name: evaluate.load(str(file), name, cache_dir=str(tmp_path), keep_in_memory=True)


def test_answer_match(load: Load) -> None:
    """One of two answers matches exactly, the other shares one word of three."""
    result = load("answer_match").compute(
        predictions=["The Paris", "Rome now"], references=[["paris"], ["it is", "Rome"]]
    )
    assert result == {"exact_match": 0.5, "f1": pytest.approx((1 + 2 / 3) / 2)}


def test_last_number(load: Load) -> None:
    """Only the last numbers are compared."""
    result = load("last_number").compute(predictions=["1 + 2 is 3", "4"], references=[["#### 3"], ["5"]])
    assert result == {"last_number": 0.5}


def test_choice_accuracy(load: Load) -> None:
    """The first is right by likelihood per byte alone, the second is wrong."""
    result = load("choice_accuracy").compute(
        predictions=[[-4.0, -6.0], [-1.0, -2.0]], references=[1, 1], lengths=[[2, 4], [1, 1]]
    )
    assert result == {"accuracy": 0.5}


def test_translation_quality_is_that_of_sacrebleu(load: Load) -> None:
    """BLEU and chrF equal sacreBLEU's own corpus functions."""
    predictions = ["der kleine Hund schläft hier gern", "eine alte Katze trinkt viel Milch"]
    references = ["der kleine Hund schläft gern hier", "eine alte Katze trinkt Milch"]
    result = load("translation_quality").compute(
        predictions=predictions, references=[[text] for text in references]
    )
    assert result["bleu"] == pytest.approx(sacrebleu.corpus_bleu(predictions, [references]).score)
    assert result["chrf"] == pytest.approx(sacrebleu.corpus_chrf(predictions, [references]).score)


def test_text_diversity(load: Load) -> None:
    """Counted by hand: one of two four-word runs is a repetition in the first text, there is none in the second."""
    result = load("text_diversity").compute(predictions=["a a a a a", "b c"])
    assert result == {"repetition": 0.25, "distinct_1": 3 / 7, "distinct_2": 2 / 5, "self_bleu": 0.0}


def test_summary_overlap(load: Load) -> None:
    """Three of four words agree, in order; the better of two references counts."""
    result = load("summary_overlap").compute(
        predictions=["the dog sleeps here", "x"], references=[["no", "the dog sleeps now"], ["y"]]
    )
    assert result == {"rouge_1": 0.375, "rouge_2": pytest.approx(1 / 3), "rouge_l": 0.375}


def test_metrics_of_the_same_columns_combine(load: Load) -> None:
    """One call computes all that take strings and lists of references."""
    names = ("answer_match", "last_number", "summary_overlap", "translation_quality")
    combined = evaluate.combine([load(name) for name in names])
    predictions, references = ["the red dog sleeps 3", "two"], [["the red dog sleeps 3"], ["one", "two"]]
    result = combined.compute(predictions=predictions, references=references)
    alone = [load(name).compute(predictions=predictions, references=references) for name in names]
    assert result == {key: value for values in alone for key, value in values.items()}


def test_bits_per_byte(load: Load) -> None:
    """The texts' nats and bytes are added up before they are divided."""
    result = load("bits_per_byte").compute(predictions=[math.log(2), 3 * math.log(2)], references=[1, 3])
    assert result == {"bits_per_byte": pytest.approx(1.0)}


def test_unknown_scores_are_named(load: Load) -> None:
    """Also where no name is given."""
    for name in ("bleu", None):
        with pytest.raises(ValueError, match="answer_match"):
            load(name)


STANDALONE = """
import sys
sys.modules["scratch_gpt"] = None  # not to be had
import evaluate
metrics = [evaluate.load(sys.argv[1], name, cache_dir=sys.argv[2], keep_in_memory=True) for name in ("answer_match", "translation_quality")]
found = [metric.compute(predictions=["a small dog barks"], references=[["A small dog barks."]]) for metric in metrics]
print(found[0]["exact_match"], round(found[1]["chrf"]))
"""


@pytest.mark.slow
def test_the_module_for_the_hub_stands_alone(tmp_path: Path) -> None:
    """Where this package cannot be imported, it loads from its folder and scores as here."""
    file = write_metric_module(tmp_path / "scratch_gpt_scores")
    command = [sys.executable, "-c", STANDALONE, str(file), str(tmp_path / "cache")]
    environment = {
        **os.environ,
        "HF_HOME": str(tmp_path / "home"),
        "HF_MODULES_CACHE": str(tmp_path / "modules"),
    }
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    chrf = sacrebleu.corpus_chrf(["a small dog barks"], [["A small dog barks."]]).score
    assert done.stdout.split() == ["1.0", str(round(chrf))]


def test_a_module_imports_nothing_of_ours_and_has_a_name(tmp_path: Path) -> None:
    """No import of this package is left in it; a name with a hyphen is refused."""
    write_metric_module(tmp_path / "scores_of_mine")
    texts = {file.name: file.read_text() for file in (tmp_path / "scores_of_mine").iterdir()}
    assert set(texts) >= {"scores_of_mine.py", "words.py", "requirements.txt"}
    assert not any("from scratch_gpt" in text or "import scratch_gpt" in text for text in texts.values())
    write_metric_module(tmp_path / "scores_of_mine")  # again
    with user_error("wrong_value", setting="folder", value="my-scores"):
        write_metric_module(tmp_path / "my-scores")
