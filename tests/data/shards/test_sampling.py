# SPDX-License-Identifier: Apache-2.0
"""The tokenizer's sample: from the whole of long documents, within its budget, with some text kept aside."""

import itertools

import pytest

from scratch_gpt import primer
from scratch_gpt.data.shards.corpus import open_corpus
from scratch_gpt.data.shards.sampling import KEPT_ASIDE, TokenizerSample, spread_pieces
from scratch_gpt.data.sources.bad_rows import BadRows
from scratch_gpt.data.sources.source import parse_sources


def sample_of(tmp_path, path, max_document_characters=10**6, max_characters=10**9, **settings):
    """The sample of one source, and the pieces that it gives."""
    sources = parse_sources([{"name": "s", "path": str(path), **settings}])
    corpus = open_corpus(sources, BadRows(), 0, "all_exhausted", tmp_path)
    sample = TokenizerSample(corpus, max_document_characters, max_characters)
    return sample, list(sample)


def test_pieces_of_a_text_are_the_text():
    """Nothing is lost, and no word is cut where there are spaces; where there are none, pieces still end."""
    text = " ".join(f"word{number}" for number in range(5000))
    for whole, pieces in (
        (text, spread_pieces(text, len(text))),
        ("x" * 5000, spread_pieces("x" * 5000, 5000)),
    ):
        assert "".join(pieces) == whole
        assert max(map(len, pieces)) <= 1100
    assert all(piece[0] == " " for piece in spread_pieces(text, len(text))[1:])


@pytest.mark.parametrize("most", [100, 10_000, 50_000])
def test_pieces_of_a_long_text_are_from_all_of_it(most):
    """A limit of a tenth still sees every tenth of the text, and keeps to the limit."""
    text = "".join(letter * 100_000 for letter in "abcdefghij")
    pieces = spread_pieces(text, most)
    assert sum(map(len, pieces)) == most
    assert {piece[0] for piece in pieces} == set("abcdefghij")


def test_text_kept_aside_is_not_learned_from(tmp_path):
    """About a fiftieth, the same in every pass; with it the pieces are the whole text, all of which counts as used."""
    text = "\n\n".join(f"document {number} of many" for number in range(2000))
    (tmp_path / "a.txt").write_text(text)
    (tmp_path / "b.txt").write_text("\n\n".join(f"another {number}" for number in range(9000)))
    sample, pieces = sample_of(tmp_path, tmp_path / "a.txt")
    assert not set(sample.aside) & set(pieces)
    assert sorted([*sample.aside, *pieces]) == sorted(text.split("\n\n"))
    assert 2000 / KEPT_ASIDE / 2 < len(sample.aside) < 2000 / KEPT_ASIDE * 2
    assert sample.used == {"s": len(text) - 2 * 1999}
    assert sample.learned == pieces
    sources = parse_sources([{"name": name, "path": str(tmp_path / f"{name}.txt")} for name in "ab"])
    corpus = open_corpus(sources, BadRows(), 0, "all_exhausted", tmp_path)
    repeated = list(TokenizerSample(corpus, 1000, 10**9))
    assert repeated.count(pieces[0]) > 1, "the smaller source is read again"
    assert not set(sample.aside) & set(repeated)


def test_drawing_stops_at_the_budget(tmp_path):
    """Characters of all pieces together; a document counts with as many as it may."""
    (tmp_path / "a.txt").write_text("\n\n".join(letter * 300 for letter in "abcdefghi"))
    sample, pieces = sample_of(tmp_path, tmp_path / "a.txt", 100, 250, filters=False)
    assert "".join(pieces) == "a" * 100 + "b" * 100 + "c" * 50
    assert sample.shortened >= 3


def test_of_the_primer_whole_documents_are_drawn(tmp_path):
    """As they come, to the budget; what follows them is kept aside."""
    sample, pieces = sample_of(tmp_path, "primer", 10**6, 20_000)
    text = "".join(itertools.islice(primer.documents(0), 400))
    drawn = "".join(pieces)
    assert len(drawn) == 20_000 and text.startswith(drawn)
    assert sum(map(len, sample.aside)) >= 20_000 / KEPT_ASIDE
    assert not set(sample.aside) & set(pieces)
