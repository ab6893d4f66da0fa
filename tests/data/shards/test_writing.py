# SPDX-License-Identifier: Apache-2.0
"""Shards: nothing lost, nothing added, held-out text held out, and a manifest that tells the truth."""

import errno
import hashlib
import json
import os
import random
import subprocess
import sys
import time

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from scratch_gpt.data.shards import corpus, packing, slices
from scratch_gpt.data.shards import writing as shards
from scratch_gpt.data.shards.arguments import ShardsArguments
from scratch_gpt.data.shards.blocks import PackedBlocks
from scratch_gpt.data.shards.deduplication import text_hash
from scratch_gpt.data.shards.mixed_blocks import MixedBlocks, parse_shards
from scratch_gpt.data.shards.writing import write_shards
from scratch_gpt.tokenization import END_OF_TEXT, PAD, encode_plain, token_byte_lengths, tokenizer_hash
from scratch_gpt.training.pretrain.shuffled_indices import ShuffledIndices, block_order
from wording import shows, user_error


LENGTH = 32


def held_out(text, fraction):
    """Whether a text is held out."""
    return shards.held_out(text_hash(text.encode()), fraction)


@pytest.fixture
def stage(trained_tokenizer, tmp_path):
    """Runs the stage on sources with given texts, those named in `whole` held out; returns the output folder."""
    trained_tokenizer.save_pretrained(tmp_path / "tokenizer")

    def run(texts_by_source, *, weights=None, whole=(), **settings):
        sources = []
        for name, texts in texts_by_source.items():
            path = tmp_path / f"{name}.jsonl"
            path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
            source = {"name": name, "path": str(path), "weight": (weights or {}).get(name, 1)}
            sources.append(source | {"held_out": name in whole})
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


def test_held_out_documents_of_a_source_have_blocks_of_their_own(stage, trained_tokenizer, monkeypatch):
    """Each range of blocks holds the held-out texts of its source and no other; the hash is that of the whole file."""
    monkeypatch.setattr(packing, "BUFFER_TOKENS", 400)
    monkeypatch.setattr(packing, "BUFFER_ROWS", 2)
    texts = {"a": some_texts(200, seed=1), "b": [f"b {text}" for text in some_texts(200, seed=2)]}
    folder = stage(texts, weights={"a": 3, "b": 1}) / "validation"
    manifest = PackedBlocks(folder).manifest
    data = (folder / "tokens.bin").read_bytes()
    assert manifest["content_hash"] == hashlib.sha256(data).hexdigest()
    blocks = [source["block_range"] for source in manifest["sources"]]
    assert [blocks[0][0], blocks[1][1]] == [0, manifest["blocks"]]
    assert 0 < blocks[0][1] == blocks[1][0]
    size = 2 * LENGTH  # bytes of a block
    for (first, stop), source in zip(blocks, manifest["sources"], strict=True):
        (folder / "tokens.bin").write_bytes(data[first * size : stop * size])
        (folder / "manifest.json").write_text(json.dumps({**manifest, "blocks": stop - first}))
        read = [text for text in texts[source["name"]] if held_out(text, 0.2)]
        found = sorted(documents_of(folder, trained_tokenizer))
        assert len(found) > 20
        # a source's stream ends with the first that is used up: what was read of it is there, whole
        assert [piece for piece in found if piece not in pieces_of(read, trained_tokenizer)] == []


@pytest.mark.parametrize("weight", [1, 0])
def test_source_held_out_whole_is_the_validation_side(stage, trained_tokenizer, weight):
    """All of it and nothing else is held out, its texts are left out of the training text, however long that is."""
    own, other = some_texts(60, seed=1), some_texts(40, seed=2)
    texts = {"own": own + other[:7], "test": other}
    folder = stage(texts, whole=["test"], weights={"test": weight}, max_tokens=20_000)
    held, left = pieces_of(other, trained_tokenizer), pieces_of(own, trained_tokenizer)
    assert sorted(documents_of(folder / "validation", trained_tokenizer)) == sorted(held)
    assert {tuple(piece) for piece in documents_of(folder / "train", trained_tokenizer)} == set(
        map(tuple, left)
    )
    train, test = PackedBlocks(folder / "validation").manifest["sources"]
    assert (train["documents"], test["documents"], test["weight_asked"], test["epochs"]) == (0, 40, 0.0, 1.0)
    assert train["left_out"] == {"duplicate": 7}


def test_budget_repeats_sources_and_holds_out_once(stage, trained_tokenizer):
    """With a budget beyond the text it is repeated and said so; validation holds each text one time."""
    texts = some_texts(40)
    folder = stage({"a": texts}, max_tokens=20_000)
    epochs = PackedBlocks(folder / "train").manifest["sources"][0]["epochs"]
    assert epochs > 4
    (repeated,) = [line for line in stage.lines if "repeated" in line]
    assert shows(repeated, "'a'", f"{epochs:.1f} times")
    expected = pieces_of([text for text in texts if held_out(text, 0.2)], trained_tokenizer)
    assert sorted(documents_of(folder / "validation", trained_tokenizer)) == sorted(expected)


def test_same_seed_same_bytes(stage):
    """The same arguments give the same content hash; another seed another order of the same rows."""
    texts = {"a": some_texts(200)}
    first, other, second = (
        PackedBlocks(stage(texts, seed=seed) / "train").manifest["content_hash"] for seed in (0, 1, 0)
    )
    assert first == second != other


@pytest.mark.parametrize("seed", [0, 1])
def test_pretraining_of_the_same_seed_does_not_read_a_text_from_beginning_to_end(
    stage, trained_tokenizer, seed
):
    """The place in the text of what each pass reads is as good as uncorrelated with when it is read."""
    text = " ".join(map(str, range(4000)))
    folder = stage({"a": [text]}, validation_fraction=0, seed=seed)
    blocks = PackedBlocks(folder / "train")
    place = {tuple(row): number for number, row in enumerate(pieces_of([text], trained_tokenizer))}
    order = ShuffledIndices(len(blocks), seed)
    for epoch in range(5):
        read = [tuple(blocks[order[epoch * len(blocks) + index]].tolist()) for index in range(len(blocks))]
        places = [place[row] for row in read if row in place]
        assert len(places) > 300
        assert abs(np.corrcoef(places, range(len(places)))[0, 1]) < 0.2


def test_complete_shards_are_written_once(stage):
    """The same command does nothing and says so; where a byte or a file is not as it was, they are written again."""
    texts = {"a": some_texts(100)}
    folder = stage(texts)
    tokens = folder / "train" / "tokens.bin"
    whole, written = tokens.read_bytes(), tokens.stat().st_mtime_ns
    stage(texts)
    (line,) = stage.lines
    assert shows(line, "complete", folder)
    assert tokens.stat().st_mtime_ns == written
    for spoil in (lambda: tokens.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1])), tokens.unlink):
        spoil()
        stage(texts)
        assert tokens.read_bytes() == whole


def test_buffers_and_batches_do_not_change_the_content(stage, trained_tokenizer, monkeypatch):
    """With a batch and a buffer of a few documents, all documents are still there."""
    texts = some_texts(120)
    monkeypatch.setattr(corpus, "BATCH_BYTES", 500)
    monkeypatch.setattr(packing, "BUFFER_TOKENS", 300)
    monkeypatch.setattr(packing, "BUFFER_ROWS", 2)
    expected = pieces_of([text for text in texts if not held_out(text, 0.2)], trained_tokenizer)
    assert sorted(documents_of(stage({"a": texts}) / "train", trained_tokenizer)) == sorted(expected)


def test_order_of_documents_is_kept_without_shuffling(stage, trained_tokenizer, monkeypatch):
    """Documents come in the order of the source, but for those of two rows; pretraining reads the blocks as they are."""
    monkeypatch.setattr(packing, "ORDERED_ROWS", 2)
    texts = [f"{number} cat" + " house" * (number % 3) for number in range(300)]

    def numbers(folder):
        found = [trained_tokenizer.decode(ids) for ids in documents_of(folder / "train", trained_tokenizer)]
        return [int(text.split()[0]) for text in found]

    shuffled = numbers(stage({"a": texts}))
    folder = stage({"a": texts}, shuffle=False)
    kept = numbers(folder)
    assert sorted(kept) == sorted(shuffled)
    assert max(abs(number - wanted) for number, wanted in zip(kept, sorted(kept), strict=True)) < 40
    assert max(abs(number - wanted) for number, wanted in zip(shuffled, sorted(kept), strict=True)) > 150
    blocks = MixedBlocks(parse_shards(str(folder)), "train")
    order = block_order(blocks, max_steps=2, blocks_per_step=len(blocks), seed=3)
    places = [order[position][1] for position in range(2 * len(blocks))]
    assert places == [*range(len(blocks))] * 2


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
        patch.setattr(shards._Run, "finish", die)
        with pytest.raises(KeyboardInterrupt):
            stage({"a": some_texts(50)})
    assert not (tmp_path / "out").exists()
    assert len(PackedBlocks(stage({"a": some_texts(50)}) / "train")) > 0


def test_incomplete_shards_are_refused(stage, tmp_path):
    """Without a manifest, or with a file of another size than it says, the folder is no shards."""
    folder = stage({"a": some_texts(50)}) / "train"
    (folder / "tokens.bin").write_bytes((folder / "tokens.bin").read_bytes()[:-2])
    with user_error("damaged_file", file=folder / "tokens.bin"):
        PackedBlocks(folder)
    (folder / "manifest.json").unlink()
    with user_error("no_shards", folder=folder):
        PackedBlocks(folder)


SETTINGS = [
    ({"validation_fraction": 1e-9}, user_error("split_empty", "raise", 1e-9, split="validation")),
    ({"validation_fraction": 1 - 1e-9}, user_error("split_empty", "lower", split="training")),
    ({"validation_fraction": 1.5}, user_error("wrong_value", setting="validation_fraction", value=1.5)),
    ({"sequence_length": 1}, user_error("wrong_value", setting="sequence_length", value=1)),
    ({"max_tokens": 0}, user_error("wrong_value", setting="max_tokens", value=0)),
]


@pytest.mark.parametrize(("settings", "expected"), SETTINGS)
def test_setting_that_cannot_work_is_one_clear_line(stage, settings, expected):
    """Each impossible setting is named with its value."""
    with expected:
        stage({"a": some_texts(20)}, **settings)


def test_nothing_is_held_out_where_the_user_says_so(stage):
    """All documents are trained on, one line says so, and the folder is complete."""
    folder = stage({"a": some_texts(20)}, validation_fraction=0)
    assert shows(" ".join(stage.lines), "validation_fraction 0", "20 documents", "100.0%")
    assert PackedBlocks(folder / "train").manifest["documents"] == 20
    empty = PackedBlocks(folder / "validation", may_be_empty=True)
    assert (len(empty), empty.manifest["documents"], empty.manifest["sources"][0]["documents"]) == (0, 0, 0)
    with user_error("shards_empty", "validation_fraction", folder=folder / "validation"):
        PackedBlocks(folder / "validation")
    stage({"a": some_texts(20)}, validation_fraction=0)
    assert shows(*stage.lines, "complete already")


def test_one_document_is_not_divided_by_a_larger_fraction(stage):
    """What helps is to say where documents end; raising the fraction would empty the other side."""
    with user_error("split_empty", "documents: line", 0.2, split="validation"):
        stage({"a": ["one text"]})


def test_endless_primer_needs_a_budget(trained_tokenizer, tmp_path):
    """The primer alone to train on, without max_tokens, would never end, so it is refused."""
    trained_tokenizer.save_pretrained(tmp_path / "tokenizer")
    (tmp_path / "test.txt").write_text("A text.")
    test = {"name": "test", "path": str(tmp_path / "test.txt"), "held_out": True}
    arguments = ShardsArguments(
        sources=[{"name": "p", "path": "primer"}, test],
        tokenizer=str(tmp_path / "tokenizer"),
        output_dir=str(tmp_path / "out"),
    )
    with user_error("setting_missing", setting="max_tokens"):
        write_shards(arguments)


def mixed_sources(tmp_path):
    """Texts with duplicates inside and across sources, bad rows and repetition; three formats."""
    a, b, c = some_texts(150, seed=1), some_texts(90, seed=2), some_texts(60, seed=3)
    b[10:20], c[5:9] = a[40:50], b[30:34]
    a[70] = a[3]
    a[71] = "again and again " * 40
    rows = [json.dumps({"text": text}) + "\n" for text in a]
    rows[80] = "{broken\n"
    (tmp_path / "a.jsonl").write_text("".join(rows), encoding="utf-8")
    (tmp_path / "b.txt").write_text("\n\n".join(b), encoding="utf-8")
    (tmp_path / "c").mkdir(exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table({"body": c[:25]}), tmp_path / "c" / "1.parquet")
    pyarrow.parquet.write_table(pyarrow.table({"body": c[25:]}), tmp_path / "c" / "2.parquet")
    return [
        {"name": "a", "path": str(tmp_path / "a.jsonl"), "weight": 2},
        {"name": "b", "path": str(tmp_path / "b.txt"), "weight": 1},
        {"name": "c", "path": str(tmp_path / "c"), "weight": 1, "text_column": "body"},
        {"name": "p", "path": "primer", "weight": 0.5},
    ]


@pytest.fixture
def arguments(trained_tokenizer, tmp_path, monkeypatch):
    """Makes arguments for the mixed sources; batches, buffers and the time between records of progress are tiny."""
    trained_tokenizer.save_pretrained(tmp_path / "tokenizer")
    monkeypatch.setattr(corpus, "BATCH_BYTES", 700)
    monkeypatch.setattr(packing, "BUFFER_TOKENS", 400)
    monkeypatch.setattr(packing, "BUFFER_ROWS", 2)
    monkeypatch.setattr(shards, "CHECKPOINT_BATCHES", 2)
    monkeypatch.setattr(slices, "CHECKPOINT_BATCHES", 2)
    monkeypatch.setattr(slices, "BATCH_BYTES", 700)
    monkeypatch.setattr(slices, "RUN", 7)
    sources = mixed_sources(tmp_path)

    def make(name, **settings):
        return ShardsArguments(
            sources=sources,
            tokenizer=str(tmp_path / "tokenizer"),
            output_dir=str(tmp_path / name),
            **{"sequence_length": LENGTH, "validation_fraction": 0.2, "seed": 5, **settings},
        )

    return make


def contents(folder):
    """All bytes of both splits."""
    return {
        f"{split}/{name}": (folder / split / name).read_bytes()
        for split in ("train", "validation")
        for name in ("tokens.bin", "manifest.json")
    }


# One pass, and several.
BUDGETS = pytest.mark.parametrize("max_tokens", [None, 40_000])


def test_duplicates_and_repetition_are_left_out_and_counted(arguments, tmp_path, trained_tokenizer):
    """Each text is there once a pass, whatever the source; the manifest and the summary say what was left out."""
    lines = write_shards(arguments("out", max_tokens=40_000))
    sources = PackedBlocks(tmp_path / "out" / "train").manifest["sources"]
    assert [source["bad_rows"] for source in sources] == [1, 0, 0, 0]
    assert sources[0]["left_out"]["max_repeated_ngrams"] == 1
    assert sum(source["left_out"].get("duplicate", 0) for source in sources) == 1 + 10 + 4
    assert sources[3]["left_out"] == {}, "the primer is taken as it is"
    assert sources[0]["epochs"] > 1
    assert any("'a'" in line and "150 documents" in line and "duplicate" in line for line in lines)
    twice = [text for text in some_texts(150, seed=1)[40:50] if held_out(text, 0.2)]
    assert twice
    validation = documents_of(tmp_path / "out" / "validation", trained_tokenizer)
    for piece in pieces_of(twice, trained_tokenizer):
        assert validation.count(piece) == 1


@BUDGETS
def test_interrupted_run_gives_the_bytes_of_an_uninterrupted_one(
    arguments, tmp_path, max_tokens, monkeypatch
):
    """Killed again and again at random documents, started again each time: the same files, and a line that says so."""
    write_shards(arguments("whole", max_tokens=max_tokens))
    generator = random.Random(0)
    add = shards._Run.add
    kills, lines = 0, None
    while lines is None:
        left = generator.randrange(60, 120)

        def add_or_die(self, name, document):
            nonlocal left
            left -= 1
            if not left:
                raise KeyboardInterrupt
            add(self, name, document)

        monkeypatch.setattr(shards._Run, "add", add_or_die)
        try:
            lines = write_shards(arguments("out", max_tokens=max_tokens))
        except KeyboardInterrupt:
            kills += 1
            assert not (tmp_path / "out").exists()
    assert kills > 1
    assert "MB" in lines[0]
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    names = ["run.yaml", "settings.sha256", "train", "validation"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names


def test_run_that_dies_before_its_first_record_starts_afresh(arguments, tmp_path, monkeypatch):
    """What it wrote is written once: the same files, and no word of going on."""
    monkeypatch.setattr(shards, "CHECKPOINT_BATCHES", 1000)
    write_shards(arguments("whole", max_tokens=40_000))
    with monkeypatch.context() as patch:
        patch.setattr(shards._Run, "finish", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_shards(arguments("out", max_tokens=40_000))
    assert (tmp_path / "out.tmp" / "train" / "tokens.bin").stat().st_size > 0
    lines = write_shards(arguments("out", max_tokens=40_000))
    assert "MB" not in lines[0]
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_changed_settings_start_afresh(arguments, tmp_path, monkeypatch):
    """What an interrupted run left is not used for another seed."""
    with monkeypatch.context() as patch:
        patch.setattr(shards._Run, "finish", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_shards(arguments("out"))
    lines = write_shards(arguments("out", seed=6))
    assert "MB" not in lines[0]
    write_shards(arguments("whole", seed=6))
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.slow
def test_run_killed_by_the_system_goes_on(arguments, tmp_path):
    """kill -9 at some moment, in a process of its own; then the same bytes."""
    write_shards(arguments("whole", max_tokens=100_000))
    code = (
        "import sys, json\n"
        "from scratch_gpt.data.shards import corpus, packing, writing as shards\n"
        "from scratch_gpt.data.shards.arguments import ShardsArguments\n"
        "corpus.BATCH_BYTES, packing.BUFFER_TOKENS, packing.BUFFER_ROWS, shards.CHECKPOINT_BATCHES = 700, 400, 2, 2\n"
        "shards.write_shards(ShardsArguments(**json.loads(sys.argv[1])))\n"
    )
    settings = json.dumps(vars(arguments("out", max_tokens=100_000)))
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", code, settings], stdout=subprocess.DEVNULL)
        tokens = tmp_path / "out.tmp" / "train" / "tokens.bin"
        size = tokens.stat().st_size if tokens.is_file() else 0
        while process.poll() is None and not (tokens.is_file() and tokens.stat().st_size > size + 30_000):
            time.sleep(0.01)
        process.kill()
        process.wait()
        assert not (tmp_path / "out").exists()
    assert "MB" in write_shards(arguments("out", max_tokens=100_000))[0]
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_full_disk_leaves_nothing_that_looks_complete(arguments, tmp_path):
    """Where the system refuses to write on, one line says so; with room again, the run goes on to the same bytes."""
    write_shards(arguments("whole"))
    size = (tmp_path / "whole" / "train" / "tokens.bin").stat().st_size
    resource = pytest.importorskip("resource", reason="no limits on Windows")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, limits[1]))
    try:
        with user_error("cannot_write", "File too large", path=tmp_path / "out"):
            write_shards(arguments("out"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / "out").exists()
    assert "MB" in write_shards(arguments("out"))[0]
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_refusal_of_the_system_is_one_clear_line(arguments, tmp_path, monkeypatch, number):
    """No room, no permission, a read-only disk: the folder and the reason in one line."""

    def refuse(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(packing.os, "fsync", refuse)
    with user_error("cannot_write", os.strerror(number), path=tmp_path / "out") as caught:
        write_shards(arguments("out"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_folder_below_a_file_is_one_clear_line(arguments, tmp_path):
    """A path that cannot be made is named."""
    (tmp_path / "file").write_text("")
    with user_error("cannot_write", "Not a directory", path=tmp_path / "file" / "out"):
        write_shards(arguments("file/out"))


def test_source_of_which_nothing_is_left_is_named(stage):
    """A source whose documents are all left out says by which rule."""
    with user_error("source_empty", "a.jsonl", "max_repeated_ngrams 20", source="a"):
        stage({"a": [f"{number} " + "spam and eggs and " * 30 for number in range(20)], "b": some_texts(20)})


def test_number_of_cores_does_not_change_the_bytes(arguments, tmp_path, monkeypatch):
    """The tokenizers library on one thread and on all gives the same shards."""
    for name, parallel in (("one", "false"), ("all", "true")):
        monkeypatch.setenv("TOKENIZERS_PARALLELISM", parallel)
        write_shards(arguments(name))
    assert contents(tmp_path / "one") == contents(tmp_path / "all")


@BUDGETS
@pytest.mark.parametrize("num_slices", [1, 3])
def test_merged_slices_are_the_bytes_of_one_run(arguments, tmp_path, max_tokens, num_slices):
    """Slices written in any order, merged: manifests and tokens as of one run."""
    write_shards(arguments("whole", max_tokens=max_tokens))
    settings = {"max_tokens": max_tokens, "num_slices": num_slices}
    for index in reversed(range(num_slices)):
        (line, *_) = write_shards(arguments("out", slice=index, **settings))
        assert shows(line, f"slice {index} of {num_slices}")
    write_shards(arguments("out", **settings))
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_what_is_read_ahead_does_not_count(arguments, tmp_path, monkeypatch):
    """Manifests are the same whether the next batch was read before the budget was reached, or not."""

    def one_by_one(batches, work):
        for batch in batches:
            work(batch)
            yield batch

    for tokens in range(10_000, 17_000, 700):
        write_shards(arguments(f"ahead{tokens}", max_tokens=tokens))
    monkeypatch.setattr(shards, "work_ahead", one_by_one)
    for tokens in range(10_000, 17_000, 700):
        write_shards(arguments(f"plain{tokens}", max_tokens=tokens))
        assert contents(tmp_path / f"plain{tokens}") == contents(tmp_path / f"ahead{tokens}")
