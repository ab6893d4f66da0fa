# SPDX-License-Identifier: Apache-2.0
"""Slices: who owns which row, going on, and merges that are refused. That merges equal one run stands in test_shards."""

import json
import shutil
from types import SimpleNamespace

import datasets
import pytest

from scratch_gpt.data.shards import corpus, slices
from scratch_gpt.data.shards import writing as shards
from scratch_gpt.data.shards.arguments import ShardsArguments
from scratch_gpt.data.shards.slices import _slice_reader, slice_folder
from scratch_gpt.data.shards.writing import write_shards
from scratch_gpt.data.sources.bad_rows import BadRows
from scratch_gpt.data.sources.source import parse_sources
from wording import shows, user_error


def write_rows(path, count):
    """A .jsonl of numbered texts."""
    path.write_text("".join(json.dumps({"text": f"{path.stem} {number}"}) + "\n" for number in range(count)))


@pytest.fixture
def arguments(trained_tokenizer, tmp_path, monkeypatch):
    """Makes arguments for one source of 500 rows, read in tiny batches."""
    monkeypatch.setattr(slices, "BATCH_BYTES", 100)
    monkeypatch.setattr(slices, "CHECKPOINT_BATCHES", 2)
    monkeypatch.setattr(slices, "RUN", 7)
    trained_tokenizer.save_pretrained(tmp_path / "tokenizer")
    write_rows(tmp_path / "a.jsonl", 500)

    def make(**settings):
        return ShardsArguments(
            sources=[{"name": "a", "path": str(tmp_path / "a.jsonl")}],
            tokenizer=str(tmp_path / "tokenizer"),
            output_dir=str(tmp_path / "out"),
            **{"num_slices": 2, "sequence_length": 32, "validation_fraction": 0.2, **settings},
        )

    return make


@pytest.mark.parametrize("files", [1, 5])
def test_each_row_belongs_to_one_slice(tmp_path, files, monkeypatch):
    """One file is divided by runs of rows; many files as wholes."""
    monkeypatch.setattr(slices, "RUN", 4)
    for number in range(files):
        write_rows(tmp_path / f"{number}.jsonl", 30)
    (source,) = parse_sources([{"name": "s", "path": str(tmp_path / "*.jsonl")}])
    shares = [
        [document.text for document in _slice_reader(source, BadRows(), index, 3)((0, 0), True)]
        for index in range(3)
    ]
    assert sorted(text for share in shares for text in share) == sorted(
        f"{number} {row}" for number in range(files) for row in range(30)
    )
    assert all(shares)
    if files > 3:
        assert len({text.split()[0] for text in shares[0]}) == 2


def test_interrupted_slice_goes_on_to_the_same_bytes(arguments, tmp_path, monkeypatch):
    """A slice that dies twice and is started again writes the files of one that did not."""
    write_shards(arguments(slice=0))
    folder = slice_folder(tmp_path / "out", 0, 2)
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    folder.rename(tmp_path / "whole")
    append = slices._append
    for allowed in (5, 4):
        left = allowed

        def append_or_die(*args):
            nonlocal left
            append(*args)
            left -= 1
            if not left:
                raise KeyboardInterrupt

        monkeypatch.setattr(slices, "_append", append_or_die)
        with pytest.raises(KeyboardInterrupt):
            write_shards(arguments(slice=0))
        assert not folder.exists()
    monkeypatch.setattr(slices, "_append", append)
    appended = []
    monkeypatch.setattr(slices, "_append", lambda *args: appended.append(args) or append(*args))
    write_shards(arguments(slice=0))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole
    rows = [document.row for _, _, documents, _ in appended for document in documents]
    assert min(rows) > 30, "what was done before the interruption is not done again"


def test_complete_slice_is_written_once(arguments, tmp_path):
    """The same command does nothing and says so, also of the merge whose slices are gone; a cut-off file is replaced."""
    write_shards(arguments(slice=0))
    tokens = slice_folder(tmp_path / "out", 0, 2) / "0.tokens"
    whole, written = tokens.read_bytes(), tokens.stat().st_mtime_ns
    (line,) = write_shards(arguments(slice=0))
    assert shows(line, "complete", tokens.parent)
    assert tokens.stat().st_mtime_ns == written
    tokens.write_bytes(whole[:-2])
    write_shards(arguments(slice=0))
    assert tokens.read_bytes() == whole
    write_shards(arguments(slice=1))
    write_shards(arguments())
    shutil.rmtree(tokens.parents[1])
    (line,) = write_shards(arguments())
    assert shows(line, "complete", tmp_path / "out")


def test_merge_needs_all_slices_of_the_same_settings(arguments, tmp_path, trained_tokenizer):
    """A missing, a damaged and a differing slice are named, with the cure."""
    with user_error("slice_incomplete", "--slice 0", slice=0):
        write_shards(arguments())
    write_shards(arguments(slice=0))
    with user_error("slice_incomplete", "--slice 1", slice=1):
        write_shards(arguments())
    write_shards(arguments(slice=1))
    text = (tmp_path / "tokenizer" / "tokenizer.json").read_text()
    (tmp_path / "tokenizer" / "tokenizer.json").write_text(text.replace("{1,2}", "{1,3}"))
    with user_error("slice_mismatch", slice=0, setting="tokenizer_hash"):
        write_shards(arguments())
    (tmp_path / "tokenizer" / "tokenizer.json").write_text(text)
    tokens = slice_folder(tmp_path / "out", 1, 2) / "0.tokens"
    tokens.write_bytes(tokens.read_bytes()[:-2])
    with user_error("damaged_file", "--slice 1", file=tokens):
        write_shards(arguments())


def test_merge_may_change_what_concerns_the_merge(arguments, tmp_path):
    """Another block length, held-out share, weight and deduplication need no new slices."""
    for index in (0, 1):
        write_shards(arguments(slice=index))
    changed = arguments(sequence_length=16, validation_fraction=0.5)
    changed.sources[0] |= {"weight": 7, "deduplicate": False}
    write_shards(changed)
    (tmp_path / "out").rename(tmp_path / "merged")
    changed.num_slices = None
    write_shards(changed)
    for name in ("train/tokens.bin", "train/manifest.json"):
        assert (tmp_path / "merged" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


def test_a_source_held_out_whole_needs_no_weight(arguments, tmp_path):
    """Its rows are in the slices, and the merge holds them out."""
    write_rows(tmp_path / "b.jsonl", 50)
    for index in (0, 1, None):
        settings = arguments(slice=index)
        source = {"name": "b", "path": str(tmp_path / "b.jsonl"), "weight": 0, "held_out": True}
        settings.sources.append(source)
        write_shards(settings)
    manifest = json.loads((tmp_path / "out" / "validation" / "manifest.json").read_text())
    assert [source["documents"] for source in manifest["sources"]] == [0, 50]


@pytest.fixture
def hub(arguments, monkeypatch):
    """A Hub whose dataset moves on to another commit where `newest` is set, and `hub.arguments` that read it."""

    def load(path, subset, revision):
        commit = revision or hub.newest
        stream = datasets.Dataset.from_dict({"text": [f"{commit} {number}" for number in range(200)]})
        return SimpleNamespace(hash=commit, as_streaming_dataset=lambda split: stream.to_iterable_dataset())

    def make(revision=None, **settings):
        made = arguments(**settings)
        made.sources = [{"name": "h", "path": "user/corpus", "filters": False, "revision": revision}]
        return made

    monkeypatch.setattr(datasets, "load_dataset_builder", load)
    hub = SimpleNamespace(newest="c1", arguments=make)
    return hub


@pytest.mark.parametrize("settings", [{"slice": 0}, {"num_slices": None}], ids=["slice", "whole"])
def test_an_interrupted_try_keeps_to_its_commit(hub, settings, tmp_path, monkeypatch):
    """The dataset moves on in between: the same files as without the interruption."""
    monkeypatch.setattr(corpus, "BATCH_BYTES", 100)
    monkeypatch.setattr(shards, "CHECKPOINT_BATCHES", 2)
    folder = slice_folder(tmp_path / "out", 0, 2) if "slice" in settings else tmp_path / "out"

    def files():
        return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    write_shards(hub.arguments(**settings))
    whole = files()
    folder.rename(tmp_path / "first")
    save_progress = slices.save_progress

    def save_and_die(*args):
        save_progress(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        for module in (slices, shards):
            patch.setattr(module, "save_progress", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            write_shards(hub.arguments(**settings))
    hub.newest = "c2"
    write_shards(hub.arguments(**settings))
    assert files() == whole


def test_slices_of_two_commits_are_not_merged(hub, tmp_path):
    """Both are named, with the cure; the merge's manifest says of which commit its text is."""
    write_shards(hub.arguments(slice=0))
    hub.newest = "c2"
    write_shards(hub.arguments(slice=1))
    with user_error("slice_mismatch", "c1", "c2", "user/corpus", slice=1, setting="commit"):
        write_shards(hub.arguments())
    for index in (0, 1, None):
        write_shards(hub.arguments("c1", slice=index))
    manifest = json.loads((tmp_path / "out" / "train" / "manifest.json").read_text())
    assert manifest["sources"][0]["commit"] == "c1"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"num_slices": 0}, user_error("wrong_value", setting="num_slices", value=0)),
        ({"slice": 2}, user_error("wrong_value", "num_slices 2", setting="slice", value=2)),
        (
            {"num_slices": None, "slice": 0},
            user_error("wrong_value", "num_slices None", setting="slice", value=0),
        ),
    ],
)
def test_impossible_slice_is_one_clear_line(arguments, settings, expected):
    """Numbers of slices that cannot be are refused at once."""
    with expected:
        arguments(**settings)
