# SPDX-License-Identifier: Apache-2.0
"""The corpus: what a later pass keeps, the order of work ahead, tokens in place of text."""

import json
import threading

import numpy as np
import pytest

from scratch_gpt.data.shards.corpus import (
    Document,
    SourceStream,
    open_corpus,
    text_reader,
    tokenize,
    work_ahead,
)
from scratch_gpt.data.shards.deduplication import HashSet
from scratch_gpt.data.sources.bad_rows import BadRows
from scratch_gpt.data.sources.source import parse_sources, parts_of
from scratch_gpt.tokenization import END_OF_TEXT
from wording import shows


def stream(tmp_path, name, texts, seen, **settings):
    """A stream over the texts of one .jsonl file."""
    path = tmp_path / f"{name}.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (source,) = parse_sources([{"name": name, "path": str(path), **settings}])
    reader = text_reader(source, BadRows(), parts_of(source, seed=0))
    return SourceStream(source, reader, seen, tmp_path / f"{name}.kept")


def test_later_passes_keep_what_the_first_one_kept(tmp_path):
    """A source owns the texts that it had first: its second pass has them again, and no other source's ever."""
    seen = HashSet()
    a = stream(tmp_path, "a", ["one", "two", "one", "", "three"] + ["x"] * 200, seen)
    b = stream(tmp_path, "b", ["two", "four", "three", "four"] + ["y"] * 200, seen)
    first_a = iter(a)
    assert [next(first_a).text, next(first_a).text] == ["one", "two"]
    assert [document.text for document in b] == ["four", "three", "y"]
    assert [document.text for document in first_a] == ["x"]
    assert a.left_out == {"duplicate": 2 + 199, "bad_row": 1}
    for _ in range(2):
        later = list(a)
        assert [document.text for document in later] == ["one", "two", "x"]
        assert not any(document.first_pass for document in later)
        assert [document.text for document in b] == ["four", "three", "y"]
    assert a.documents == 205, "counted in the first pass only"


def test_duplicates_stay_where_asked(tmp_path):
    """`deduplicate: false` keeps every text of a source, and does not count for the others."""
    seen = HashSet()
    a = stream(tmp_path, "a", ["one", "one"], seen, deduplicate=False)
    assert [document.text for document in a] == ["one", "one"]
    assert [document.text for document in a] == ["one", "one"]
    assert [document.text for document in stream(tmp_path, "b", ["one"], seen)] == ["one"]


@pytest.mark.parametrize("stop", [1, 3, 5, 8, 9])
def test_restored_stream_goes_on_in_any_pass(tmp_path, stop):
    """Stopped after some documents of the first, second or third pass, and restored in a new object."""
    texts = ["one", "two", "one", "three", "four"]

    def three_passes(source_stream):
        while source_stream.passes < 3:
            yield from source_stream

    whole = [document.text for document in three_passes(stream(tmp_path, "whole", texts, HashSet()))]
    stopped = stream(tmp_path, "a", texts, HashSet())
    documents = three_passes(stopped)
    drawn = [next(documents).text for _ in range(stop)]
    state = json.loads(json.dumps(stopped.state()))
    next(documents)
    stopped.flush()
    again = stream(tmp_path, "a", texts, HashSet())
    again.restore(state)
    again.remember()
    assert drawn + [document.text for document in three_passes(again)] == whole
    assert again.left_out == {"duplicate": 1}


def test_tokens_take_the_place_of_text(trained_tokenizer):
    """Text becomes its tokens and an end of text; documents that have tokens are left alone."""
    ids = np.array([1, 2], np.uint16)
    documents = [Document(0, 1, text="a cat"), Document(0, 2, ids=ids)]
    tokenize(trained_tokenizer, documents)
    end = trained_tokenizer.convert_tokens_to_ids(END_OF_TEXT)
    assert documents[0].ids.tolist() == [*trained_tokenizer("a cat").input_ids, end]
    assert documents[0].ids.dtype == np.uint16
    assert documents[0].text == ""
    assert documents[1].ids is ids


def test_work_ahead_keeps_the_order_and_reads_while_it_works():
    """Batches come out in their order, and the second is read before the work on the first is done."""
    read_two = threading.Event()

    def batches():
        yield ["a"]
        read_two.set()
        yield ["b"]
        yield ["c"]

    def work(batch):
        assert read_two.wait(timeout=20)
        batch.append("done")

    assert list(work_ahead(batches(), work)) == [["a", "done"], ["b", "done"], ["c", "done"]]


def test_failing_work_is_raised():
    """An error in the other thread reaches the caller."""
    with pytest.raises(ZeroDivisionError):
        list(work_ahead(iter([1, 2, 3]), lambda batch: 1 / 0))


def test_usage_of_sources(tmp_path):
    """Documents, bytes and share of each: whole, of a part by the size of its text, unknown, and endless."""
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "a.txt").write_text("\n\n".join(f"text {number}" for number in range(1000)))
    (tmp_path / "t" / "scan.pdf").write_text("")
    (tmp_path / "r.jsonl").write_text("".join(f'{{"text": "row {number}"}}\n' for number in range(1000)))
    (tmp_path / "s.txt").write_text("one\n\none\n\ntwo")
    paths = {"t": tmp_path / "t", "r": tmp_path / "r.jsonl", "s": tmp_path / "s.txt", "p": "primer"}
    sources = parse_sources([{"name": name, "path": str(path)} for name, path in paths.items()])
    corpus = open_corpus(sources, BadRows(), 0, "first_exhausted", tmp_path)
    for _ in corpus.mixture:
        pass
    used = {"t": (tmp_path / "t" / "a.txt").stat().st_size // 2, "r": 99, "s": 6, "p": 1234}
    lines = corpus.usage(used)
    assert shows(lines[0], "'t'", used["t"], "about 50%", "scan.pdf")
    assert shows(lines[1], "'r'", "99 bytes", "not read to its end")
    assert shows(lines[2], "'s'", "2 documents", "6 bytes", "100.0%")
    assert shows(lines[3], "'p'", "1,234 bytes") and "%" not in lines[3]
