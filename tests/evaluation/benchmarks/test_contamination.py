# SPDX-License-Identifier: Apache-2.0
"""Overlap with the training text against a plain search, and on packed blocks."""

import json
import random
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from scratch_gpt.evaluation.benchmarks.contamination import (
    Overlap,
    item_texts,
    overlap_metrics,
    overlaps,
    run_hashes,
    shard_documents,
    unsearched_sources,
    word_hashes,
)
from scratch_gpt.tasks.example import Example
from scratch_gpt.tokenization import END_OF_TEXT, encode_plain
from wording import user_error


def plain_runs(text: str, length: int) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[start : start + length]) for start in range(len(words) - length + 1)}


def test_overlaps_are_those_of_a_plain_search() -> None:
    """Random texts that share passages: the found and all runs of each item, as sets of words say."""
    draw = random.Random(0)
    vocabulary = ["Dog", "cat,", "sleeps", "schön", "3", "hat", "red", "blue"]

    def words(count: int) -> str:
        return " ".join(draw.choices(vocabulary, k=count))

    passages = [words(20) for _ in range(6)]
    documents = [f"{words(30)} {passage}. {words(9)}" for passage in passages[:3]] + [words(5)]
    items = [
        passages[0],  # whole
        f"{words(20)} {passages[1]}",  # in part
        passages[4],  # not at all
        passages[2][: passages[2].index(" ", 40)],  # shorter than 13 words, looked for as a whole
        "too short",
    ]
    for item, found in zip(items, overlaps(items, documents), strict=True):
        length = min(13, len(re.findall(r"\w+", item)))
        runs = plain_runs(item, length) if length >= 8 else set()
        expected = runs & set().union(*(plain_runs(document, length) for document in documents))
        assert (found.found, found.total) == (len(expected), len(runs))
    assert overlaps(items[:1], documents)[0].share == 1.0


def test_case_and_punctuation_do_not_hide_a_run() -> None:
    """The words count, not how they are written."""
    item = "The red dog sleeps in the old house near the small blue river now"
    (found,) = overlaps([item], [item.upper().replace(" ", ", ")])
    assert found.share == 1.0


@pytest.mark.parametrize(
    ("item", "document"),
    [
        ("长江是中国最长的河流，流经十一个省。", "我们知道：长江是中国最长的河流，流经十一个省。很长"),
        ("हिन्दी में एक बहुत लंबा वाक्य यहाँ लिखा है", "फिर — हिन्दी में एक बहुत लंबा वाक्य यहाँ लिखा है"),
        ("une très élégante façon de le dire à l'été", "Une très e\u0301légante façon de le dire, à l’été"),
    ],
)
def test_other_scripts_are_found(item: str, document: str) -> None:
    """Characters are the words of Chinese; combining marks belong to their letters, however they are encoded."""
    (found,) = overlaps([item], [document])
    assert found.found == found.total > 0
    assert overlaps([item], [document[:-12]])[0].share < 1


def test_runs_in_another_order_are_others() -> None:
    """The hash knows the order of words, and repeated words."""
    hashes = [run_hashes(word_hashes(text), 3)[0] for text in ("a b c", "c b a", "b a c", "a a c", "a c c")]
    assert len(set(hashes)) == 5
    assert run_hashes(word_hashes("a b"), 3).size == 0


def test_documents_come_out_of_packed_blocks(tiny_tokenizer) -> None:
    """Each document of a block is a text of its own, without padding and marks."""
    texts = ["The dog sleeps.", "A cat. schön", "Lily has a hat."]
    end = tiny_tokenizer.convert_tokens_to_ids(END_OF_TEXT)
    first, second, third = ([*ids, end] for ids in encode_plain(tiny_tokenizer, texts))
    width = len(first) + len(second) + 3
    rows = np.full((2, width), tiny_tokenizer.pad_token_id)
    rows[0, : len(first) + len(second)] = first + second
    rows[1, : len(third)] = third
    assert list(shard_documents(rows, tiny_tokenizer)) == texts


def test_short_items_do_not_count() -> None:
    """Two items are judged, one of them contaminated by half; a benchmark of short items alone is refused at once."""
    metrics = overlap_metrics("t", [Overlap(1, 2), Overlap(0, 3), Overlap(0, 0)], 0)
    assert metrics["t/contaminated"].value == 0.5
    assert metrics["t/overlap"].value == 0.25
    assert metrics["t/overlap"].n == 2
    short, long = (Example("word " * count, ("yes",), "", "") for count in (6, 7))
    assert item_texts("t", [short, long])[1].split() == ["word"] * 7 + ["yes"]
    with user_error("items_too_short", 8, task="t"):
        item_texts("t", [short])


def test_a_model_is_that_of_the_blocks(tmp_path: Path) -> None:
    """Pretrained on other blocks it is refused; what its later stages learned from is named."""
    later = {"stage": "sft", "data": {"sources": [{"name": "squad"}, {"name": "dolly"}]}}
    stages = [{"stage": "pretrain", "data": {"sources": [], "content_hash": "abc"}}, later]
    (tmp_path / "provenance.json").write_text(json.dumps({"stages": stages}))
    blocks = SimpleNamespace(folder=Path("shards/train"), manifest={"content_hash": "abc"})
    assert unsearched_sources(tmp_path, blocks) == ["sft (squad, dolly)"]
    blocks.manifest["content_hash"] = "def"
    for model in (tmp_path, tmp_path / "unknown"):
        with user_error("trained_on_other_shards", "shards/train", folder=model):
            unsearched_sources(model, blocks)


def test_of_several_shards_the_others_are_named(tmp_path: Path) -> None:
    """A model that was pretrained on a mixture is that of each of its folders."""
    data = {"sources": [], "content_hash": "both", "content_hashes": {"runs/web": "abc", "runs/books": "def"}}
    (tmp_path / "provenance.json").write_text(json.dumps({"stages": [{"stage": "pretrain", "data": data}]}))
    blocks = SimpleNamespace(folder=Path("runs/web/train"), manifest={"content_hash": "abc"})
    assert unsearched_sources(tmp_path, blocks) == ["pretrain (runs/books)"]
