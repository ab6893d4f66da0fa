# SPDX-License-Identifier: Apache-2.0
"""Shards: nothing lost, nothing added, held-out text held out, and a manifest that tells the truth."""

import hashlib
import json
import random

import numpy as np
import pytest

from scratch_gpt.data import shards
from scratch_gpt.data.shards import PackedBlocks, held_out, pack, write_shards
from scratch_gpt.errors import UserError
from scratch_gpt.tokenization import END_OF_TEXT, PAD, encode_plain, token_byte_lengths, tokenizer_hash
from scratch_gpt.training.arguments import ShardsArguments


LENGTH = 32


@pytest.fixture
def stage(trained_tokenizer, tmp_path):
    """Runs the stage on sources with given texts; returns the output folder."""
    trained_tokenizer.save_pretrained(tmp_path / "tokenizer")

    def run(texts_by_source, *, weights=None, **settings):
        sources = []
        for name, texts in texts_by_source.items():
            path = tmp_path / f"{name}.jsonl"
            path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
            sources.append({"name": name, "path": str(path), "weight": (weights or {}).get(name, 1)})
        arguments = ShardsArguments(
            sources=sources,
            tokenizer=str(tmp_path / "tokenizer"),
            output_dir=str(tmp_path / "out"),
            **{"sequence_length": LENGTH, "validation_fraction": 0.2, **settings},
        )
        run.lines = write_shards(arguments)
        return tmp_path / "out"

    return run


def some_texts(count, seed=0, longest=60):
    """Distinct texts of unlike length; one of them spells a special token."""
    generator = random.Random(seed)
    words = ["cat", "house", "tree", "runs", "<|endoftext|>", "caf\u00e9", "42"]
    return [
        f"{number} " + " ".join(generator.choices(words, k=generator.randrange(1, longest)))
        for number in range(count)
    ]


def documents_of(folder, tokenizer):
    """Documents read back from the rows: split after each end of text; full rows without one continue in no row."""
    end, padding = tokenizer.convert_tokens_to_ids([END_OF_TEXT, PAD])
    found = []
    for row in PackedBlocks(folder):
        tokens = [int(token) for token in row if token != padding]
        assert list(row[: len(tokens)]) == tokens, "padding stands at the end only"
        while tokens:
            cut = tokens.index(end) + 1 if end in tokens else len(tokens)
            found.append(tokens[:cut])
            tokens = tokens[cut:]
    return found


def pieces_of(texts, tokenizer):
    """What the texts must become: plain tokens and an end of text, cut in pieces of a row."""
    end = tokenizer.convert_tokens_to_ids(END_OF_TEXT)
    documents = [[*ids, end] for ids in encode_plain(tokenizer, texts)]
    return [document[i : i + LENGTH] for document in documents for i in range(0, len(document), LENGTH)]


def test_every_document_is_written_once_and_whole(stage, trained_tokenizer):
    """The pieces in the rows are those of the texts, on the side that the hash of the text says."""
    texts = some_texts(300)
    folder = stage({"a": texts})
    for split, held in (("train", False), ("validation", True)):
        expected = pieces_of([text for text in texts if held_out(text, 0.2) == held], trained_tokenizer)
        assert sorted(documents_of(folder / split, trained_tokenizer)) == sorted(expected)
        assert len(expected) > 30


def test_manifest_tells_what_is_in_the_file(stage, trained_tokenizer):
    """Counts, padding, hashes and shares equal those counted from the texts and from the bytes on disk."""
    texts = {"a": some_texts(200, seed=1), "b": some_texts(200, seed=2)}
    folder = stage(texts, weights={"a": 3, "b": 1}, max_tokens=6000) / "train"
    manifest = json.loads((folder / "manifest.json").read_text())
    data = (folder / "tokens.bin").read_bytes()
    tokens = np.frombuffer(data, dtype=np.uint16).reshape(-1, LENGTH)
    end, padding = trained_tokenizer.convert_tokens_to_ids([END_OF_TEXT, PAD])
    assert manifest["blocks"] == len(tokens) == len(PackedBlocks(folder))
    assert manifest["padding_tokens"] == (tokens == padding).sum()
    assert manifest["tokens"] == (tokens != padding).sum() >= 6000
    assert manifest["documents"] == (tokens == end).sum()
    assert manifest["content_hash"] == hashlib.sha256(data).hexdigest()
    assert manifest["tokenizer_hash"] == tokenizer_hash(trained_tokenizer)
    assert (manifest["dtype"], manifest["vocab_size"], manifest["sequence_length"]) == ("uint16", 512, LENGTH)
    assert manifest["bytes"] == token_byte_lengths(trained_tokenizer)[tokens].sum()
    a, b = manifest["sources"]
    assert (a["name"], a["weight_asked"], b["weight_asked"]) == ("a", 0.75, 0.25)
    assert a["weight_consumed"] == a["bytes"] / manifest["bytes"] == pytest.approx(0.75, abs=0.05)
    assert a["tokens"] + b["tokens"] == manifest["tokens"]
    size = sum(len(text.encode()) for text in texts["a"])
    assert a["epochs"] == pytest.approx(a["bytes"] / 0.8 / size, rel=0.2)


def test_budget_repeats_sources_and_holds_out_once(stage, trained_tokenizer):
    """With a budget beyond the text it is repeated and said so; validation holds each text one time."""
    texts = some_texts(40)
    folder = stage({"a": texts}, max_tokens=20_000)
    epochs = PackedBlocks(folder / "train").manifest["sources"][0]["epochs"]
    assert epochs > 4
    assert any(f"source 'a' is repeated {epochs:.1f} times" in line for line in stage.lines)
    expected = pieces_of([text for text in texts if held_out(text, 0.2)], trained_tokenizer)
    assert sorted(documents_of(folder / "validation", trained_tokenizer)) == sorted(expected)


def test_same_seed_same_bytes(stage):
    """The same arguments give the same content hash; another seed another order of the same rows."""
    texts = {"a": some_texts(200)}
    first, second, other = (
        PackedBlocks(stage(texts, seed=seed) / "train").manifest["content_hash"] for seed in (0, 0, 1)
    )
    assert first == second != other


def test_buffers_and_batches_do_not_change_the_content(stage, trained_tokenizer, monkeypatch):
    """With a batch and a buffer of a few documents, all documents are still there."""
    texts = some_texts(120)
    monkeypatch.setattr(shards, "BATCH_BYTES", 500)
    monkeypatch.setattr(shards, "BUFFER_TOKENS", 300)
    expected = pieces_of([text for text in texts if not held_out(text, 0.2)], trained_tokenizer)
    assert sorted(documents_of(stage({"a": texts}) / "train", trained_tokenizer)) == sorted(expected)


def test_packing_is_best_fit_decreasing():
    """Lengths 7 6 5 3 2 2 in rows of 10 become 7+3, 6+2+2, 5: worked out by hand."""
    rows = pack([np.full(length, length) for length in (3, 2, 7, 2, 5, 6)], 10)
    assert [[len(piece) for piece in row] for row in rows] == [[7, 3], [6, 2, 2], [5]]


def test_packing_wastes_little_on_short_documents():
    """Ten thousand documents of 1 to 100 tokens fill rows of 128 to more than 99.5%."""
    generator = np.random.default_rng(0)
    pieces = [np.zeros(length) for length in generator.integers(1, 101, size=10_000)]
    rows = pack(pieces, 128)
    assert sum(map(len, rows)) == 10_000
    assert max(sum(map(len, row)) for row in rows) <= 128
    assert sum(map(len, pieces)) / (128 * len(rows)) > 0.995


def test_held_out_share_is_about_the_fraction():
    """Of ten thousand texts about the asked share is held out, nested for a larger share."""
    small = {text for text in map(str, range(10_000)) if held_out(text, 0.05)}
    large = {text for text in map(str, range(10_000)) if held_out(text, 0.1)}
    assert abs(len(small) - 500) < 70
    assert small < large


def test_interrupted_run_leaves_nothing_that_looks_complete(stage, monkeypatch, tmp_path):
    """A stage that dies while writing leaves no folder under the final name, and the next run succeeds."""

    def die(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shards._SplitWriter, "finish", die)
        with pytest.raises(KeyboardInterrupt):
            stage({"a": some_texts(50)})
    assert not (tmp_path / "out").exists()
    assert len(PackedBlocks(stage({"a": some_texts(50)}) / "train")) > 0


def test_incomplete_shards_are_refused(stage, tmp_path):
    """Without a manifest, or with a file of another size than it says, the folder is no shards."""
    folder = stage({"a": some_texts(50)}) / "train"
    (folder / "tokens.bin").write_bytes((folder / "tokens.bin").read_bytes()[:-2])
    with pytest.raises(UserError, match="its manifest says"):
        PackedBlocks(folder)
    (folder / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"no complete shards in .*run the shards stage first"):
        PackedBlocks(folder)


SETTINGS = {
    r"validation side is empty: raise validation_fraction, now 1e-09": {"validation_fraction": 1e-9},
    r"training side is empty: lower validation_fraction": {"validation_fraction": 1 - 1e-9},
    r"validation_fraction must be between 0 and 1, got 1.5": {"validation_fraction": 1.5},
    r"sequence_length must be at least 2, got 1": {"sequence_length": 1},
    r"max_tokens must be at least 1, got 0": {"max_tokens": 0},
}


@pytest.mark.parametrize("message", SETTINGS)
def test_setting_that_cannot_work_is_one_clear_line(stage, message):
    """Each impossible setting is named with its value."""
    with pytest.raises(UserError, match=message):
        stage({"a": some_texts(20)}, **SETTINGS[message])


def test_endless_primer_needs_a_budget(trained_tokenizer, tmp_path):
    """The primer alone without max_tokens would never end, so it is refused."""
    trained_tokenizer.save_pretrained(tmp_path / "tokenizer")
    arguments = ShardsArguments(
        sources=[{"name": "p", "path": "primer"}],
        tokenizer=str(tmp_path / "tokenizer"),
        output_dir=str(tmp_path / "out"),
    )
    with pytest.raises(UserError, match="max_tokens is missing: the primer is endless"):
        write_shards(arguments)
