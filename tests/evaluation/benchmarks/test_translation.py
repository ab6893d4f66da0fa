# SPDX-License-Identifier: Apache-2.0
"""Translation scores against sacreBLEU's own functions."""

import importlib.util
import math
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
import sacrebleu
from sacrebleu.tokenizers import tokenizer_spm

from scratch_gpt.data.sources.source import parse_sources
from scratch_gpt.evaluation.benchmarks import translation
from scratch_gpt.evaluation.harness import EvalArguments
from scratch_gpt.evaluation.metrics.bleu_tokenizers import check_tokenizer
from scratch_gpt.evaluation.metrics.intervals import bootstrap_ci
from scratch_gpt.tasks.example import Example
from scratch_gpt.tasks.task import Task, score_translation
from wording import user_error


PREDICTIONS = [
    "der kleine Hund schläft hier gern",
    "eine alte Katze trinkt viel Milch",
    "das rote Haus steht dort",
]
REFERENCES = [
    ("der kleine Hund schläft gern hier", "der kleine Hund schläft hier gern"),
    ("eine alte Katze trinkt Milch",),
    ("das rote Haus steht dort",),
]
# sacreBLEU's layout: one list for each number of the reference, None where a sentence has fewer
STREAMS = [[row[0] for row in REFERENCES], [REFERENCES[0][1], None, None]]
EXPECTED = {
    "bleu": sacrebleu.corpus_bleu(PREDICTIONS, STREAMS).score,
    "chrf": sacrebleu.corpus_chrf(PREDICTIONS, STREAMS).score,
}


@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_summed_statistics_give_the_corpus_score(name: str) -> None:
    """Sentences may have different numbers of references; sums of statistics score as the corpus does."""
    metric = translation.corpus_metrics()[name]
    statistics = translation.sentence_statistics(metric, PREDICTIONS, REFERENCES)
    assert len(statistics) == 3
    assert translation.corpus_score(metric, statistics) == pytest.approx(EXPECTED[name])
    assert translation.corpus_score(metric, statistics.sum(axis=0)) == pytest.approx(EXPECTED[name])


def test_models_are_compared_to_copying(monkeypatch, tiny_model, tiny_tokenizer, base_folder) -> None:
    """Each score with its interval; the chance level is what the source sentences score."""
    sources = ["the small dog", "an old cat", "das rote Haus steht dort"]
    words = ["der kleine hund", "eine alte katze", "das rote Haus steht dort"]
    examples = [
        Example(source, references, "test", source)
        for source, references in zip(sources, REFERENCES, strict=True)
    ]
    monkeypatch.setattr(translation, "predict", lambda *arguments: PREDICTIONS)
    metrics = translation.evaluate_translation(
        tiny_model,
        tiny_tokenizer,
        Task("pairs", lambda split: examples, score_translation),
        examples,
        EvalArguments(model=[str(base_folder)]),
        SimpleNamespace(translate=dict(zip(sources, words, strict=True)).get),
    )
    for name, expected in EXPECTED.items():
        metric = metrics[f"pairs/{name}"]
        assert metric.value == pytest.approx(expected)
        assert metric.ci95[0] < expected < metric.ci95[1] + 1e-9
        assert metric.n == 3
    assert metrics["pairs/bleu"].chance == pytest.approx(sacrebleu.corpus_bleu(sources, STREAMS).score)
    assert metrics["pairs/bleu"].baselines == {
        "copied_source": metrics["pairs/bleu"].chance,
        "word_by_word": pytest.approx(sacrebleu.corpus_bleu(words, STREAMS).score),
    }
    assert metrics["pairs/exact_match"].value == pytest.approx(2 / 3)
    assert metrics["pairs/exact_match"].chance == pytest.approx(1 / 3)


def test_the_interval_is_that_of_corpora_drawn_again() -> None:
    """Resampling statistics equals resampling sentences and scoring each corpus anew."""
    metric = translation.corpus_metrics()["bleu"]
    statistics = translation.sentence_statistics(metric, PREDICTIONS, REFERENCES)
    low, high = bootstrap_ci(statistics, 5, partial(translation.corpus_score, metric), resamples=50)
    random = np.random.default_rng(5)
    drawn = [random.integers(3, size=3) for _ in range(50)]
    scores = [
        sacrebleu.corpus_bleu(
            [PREDICTIONS[i] for i in rows], [[stream[i] for i in rows] for stream in STREAMS]
        ).score
        for rows in drawn
    ]
    assert (low, high) == pytest.approx(tuple(np.quantile(scores, [0.025, 0.975])))


def test_signatures_tell_how_scores_were_made() -> None:
    """One signature a score, with the number of references and the version of sacreBLEU."""
    examples = {"pairs": [Example("x", ("a b", "c"), "test", "x")]}
    signatures = translation.signatures(examples)
    assert set(signatures) == {"pairs/bleu", "pairs/chrf"}
    assert signatures["pairs/bleu"].startswith("nrefs:2|case:mixed|")
    assert sacrebleu.__version__ in signatures["pairs/chrf"]


@pytest.mark.parametrize(
    ("column", "text", "expected"),
    [
        ("de", "Guten Tag", "13a"),
        ("zh", "今天天气很好", "zh"),
        ("target", "今天天气很好", "zh"),
        ("th", "วันนี้อากาศดี", "char"),
        ("target", "วันนี้อากาศดี", "char"),
        ("target", "Добрый день", "13a"),
        ("ja", "日本", "ja-mecab"),
        ("target", "今日はいい天気です", "ja-mecab"),
        ("target", "오늘 날씨가 좋아요", "ko-mecab"),
    ],
)
def test_the_language_chooses_bleus_tokenizer(column: str, text: str, expected: str, caplog) -> None:
    """By the column's name, else by the script; characters where a package is missing, which is said."""
    declared = [{"name": "pairs", "path": "primer", "columns": {"source": "en", "target": column}}]
    examples = {"pairs": [Example("x", (text,), "test", "x")]}
    package = {"ja-mecab": "MeCab", "ko-mecab": "mecab_ko"}.get(expected)
    missing = package is not None and importlib.util.find_spec(package) is None
    chosen = translation.bleu_tokenizers(declared, examples, None)
    assert chosen == {"pairs": "char" if missing else expected}
    assert (expected in caplog.text) == missing
    assert "|tok:" + chosen["pairs"] in translation.signatures(examples, chosen)["pairs/bleu"]
    assert translation.bleu_tokenizers(declared, examples, "intl") == {"pairs": "intl"}


def test_the_embedded_pairs_need_no_sources() -> None:
    """The references' script tells the language."""
    examples = {"en-de": [Example("the dog", ("der Hund",), "test", "x")]}
    assert translation.bleu_tokenizers([], examples, None) == {"en-de": "13a"}


@pytest.mark.parametrize(
    ("tokenizer", "package", "reference", "prediction", "shared", "length"),
    [
        ("zh", "sacrebleu", "今天天气非常好啊", "今天天气非常好吧", (7, 6, 5, 4), 8),
        ("char", "sacrebleu", "วันนี้อากาศดีจัง", "วันนี้อากาศดีมาก", (13, 12, 11, 10), 16),
        (
            *(
                "ja-mecab",
                "MeCab",
                "今日はとても良い天気ですね風が強いです",
                "今日はとても良い天気ですが風が強いです",
            ),
            *((10, 8, 6, 4), 11),
        ),
        (
            *("ko-mecab", "mecab_ko", "오늘은 날씨가 정말 좋아서 강에 갔습니다"),
            *("오늘은 날씨가 정말 좋아서 공원에 갔습니다", (10, 8, 6, 4), 11),
        ),
    ],
)
def test_bleu_counts_what_a_language_writes_as_words(
    tokenizer: str, package: str, reference: str, prediction: str, shared: tuple[int, ...], length: int
) -> None:
    """Of the n-grams of a translation so many are the reference's, counted by hand; by blanks it would share none."""
    pytest.importorskip(package)
    metric = translation.corpus_metrics(tokenizer)["bleu"]
    statistics = translation.sentence_statistics(metric, [prediction], [(reference,)])
    precisions = [count / (length - order) for order, count in enumerate(shared)]
    expected = 100 * math.prod(precisions) ** 0.25
    assert translation.corpus_score(metric, statistics) == pytest.approx(expected)


def test_unusable_tokenizers_are_refused(monkeypatch, tmp_path: Path) -> None:
    """Unknown ones are listed; one without its package names it, one without its model says why there is none."""
    with user_error("wrong_value", "flores200", setting="bleu_tokenizer", value="words"):
        check_tokenizer("words")
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with user_error("missing_package", "flores200", package="sentencepiece"):
        check_tokenizer("flores200")

    def offline(address: str) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setitem(sys.modules, "sentencepiece", SimpleNamespace(SentencePieceProcessor=object))
    monkeypatch.setattr(tokenizer_spm, "SACREBLEU_DIR", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", offline)
    with user_error("no_network", "Name or service not known", tokenizer="flores200"):
        check_tokenizer("flores200")


def test_the_columns_give_the_direction() -> None:
    """The languages of an instruction are those of the columns' codes; a column that is none is named."""
    forth, back, other = parse_sources(
        [
            {"name": "forth", "path": "primer", "columns": {"source": "en", "target": "de"}},
            {"name": "back", "path": "primer", "columns": {"source": "de", "target": "en"}},
            {"name": "other", "path": "primer", "columns": {"source": "english", "target": "de"}},
        ]
    )
    template = "{source_language}: {source}. {target_language}:"
    assert translation.with_languages(template, forth) == "English: {source}. German:"
    assert translation.with_languages(template, back) == "German: {source}. English:"
    assert translation.with_languages("Into {target_language}: {source}", other) == "Into German: {source}"
    with user_error("unknown_language", "'other'", "{source_language}", column="english"):
        translation.with_languages(template, other)


def test_a_file_is_asked_in_its_direction(tmp_path: Path) -> None:
    """Two sources of one file, and one with a template of its own; the copied source is the bare sentence."""
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"en": "a dog", "de": "ein Hund"}\n')
    declared = [
        {"name": "forth", "path": str(path), "columns": {"source": "en", "target": "de"}},
        {"name": "back", "path": str(path), "columns": {"source": "de", "target": "en"}},
        {
            "name": "own",
            "path": str(path),
            "columns": {"source": "en", "target": "de"},
            "template": "German, please: {source}",
        },
    ]
    tasks = translation.file_translations(
        declared,
        "skip",
        "Into {target_language}: {source}",
        "{source_language}: {source}\n{target_language}:",
    )
    asked = [task.prompts(task.examples("test"), chat=True)[0] for task in tasks]
    assert asked == ["Into German: a dog", "Into English: ein Hund", "German, please: a dog"]
    continued = [task.prompts(task.examples("test"), chat=False)[0] for task in tasks]
    assert continued[1:] == ["German: ein Hund\nEnglish:", "English: a dog\nGerman:"]
    assert [task.source(task.examples("test")[0]) for task in tasks] == ["a dog", "ein Hund", "a dog"]
    words = translation.word_translations(declared[:1], "skip", ["forth", "back"])["forth"]
    assert words.translate("zebra") == "zebra"
    assert translation.word_translations([], "skip", ["forth"]) == {}
    with user_error("source_unmatched", "training_pairs", "forth, back", source="own"):
        translation.word_translations(declared[2:], "skip", ["forth", "back"])
