# SPDX-License-Identifier: Apache-2.0
"""The tokenizer and shards stages, run as a user runs them, on a small corpus of every format."""

import gzip
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import datasets
import pytest
import yaml

from files_page import not_on_the_page
from scratch_gpt.data.shards.blocks import PackedBlocks
from scratch_gpt.tokenization import load_tokenizer, tokenizer_hash
from wording import shows


STAGES = Path(__file__).parents[2] / "train"


@pytest.fixture
def corpus(tmp_path):
    """Three sources: text, JSON lines (zipped) with one bad row, and the primer."""
    generator = random.Random(0)
    words = [
        "the",
        "cat",
        "saw",
        "a",
        "small",
        "red",
        "house",
        "near",
        "the",
        "old",
        "river",
        "and",
        "went",
        "home",
    ]
    texts = [f"{number}. " + " ".join(generator.choices(words, k=40)) for number in range(300)]
    (tmp_path / "book.txt").write_text("\n\n".join(texts), encoding="utf-8")
    rows = "".join(json.dumps({"body": text.upper()}) + "\n" for text in texts) + "{broken\n"
    (tmp_path / "wiki.jsonl.gz").write_bytes(gzip.compress(rows.encode()))
    return [
        {"name": "book", "path": str(tmp_path / "book.txt"), "weight": 0.5},
        {"name": "wiki", "path": str(tmp_path / "wiki.jsonl.gz"), "weight": 0.3, "text_column": "body"},
        {"name": "primer", "path": "primer", "weight": 0.2},
    ]


def test_both_stages_on_a_mixture(run, corpus, tmp_path, capsys):
    """The folders of the two stages fit each other, hold what the contract says and tell of the bad row."""
    tokenizer_folder, shards_folder = tmp_path / "tokenizer", tmp_path / "shards"
    run("tokenizer", sources=corpus, vocab_size=500, output_dir=str(tokenizer_folder))
    assert sorted(file.name for file in tokenizer_folder.iterdir()) == [
        "chat_template.jinja",
        "run.yaml",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    tokenizer = load_tokenizer(tokenizer_folder)
    assert len(tokenizer) == 512
    assert tokenizer.chat_template
    assert yaml.safe_load((tokenizer_folder / "run.yaml").read_text())["sources"] == corpus
    shown = capsys.readouterr().out
    assert shows(shown, "512 tokens", "bytes", "not learned from", "1 of 301 rows")
    assert shows(shown, "'book': 300 documents", "100.0%")

    config = {
        "sources": corpus,
        "tokenizer": str(tokenizer_folder),
        "output_dir": str(shards_folder),
        "sequence_length": 64,
        "max_tokens": 8000,
        "validation_fraction": 0.1,
    }
    run("shards", **config)
    names = ["run.yaml", "settings.sha256", "train", "validation"]
    assert sorted(file.name for file in shards_folder.iterdir()) == names
    manifest = PackedBlocks(shards_folder / "train").manifest
    assert 8000 <= manifest["tokens"] < 8200
    assert manifest["tokenizer_hash"] == tokenizer_hash(tokenizer)
    for source, declared in zip(manifest["sources"], corpus, strict=True):
        assert source["weight_asked"] == pytest.approx(declared["weight"])
        assert source["weight_consumed"] == pytest.approx(declared["weight"], abs=0.03)
    assert len(PackedBlocks(shards_folder / "validation")) > 0
    assert not_on_the_page(tokenizer_folder) + not_on_the_page(shards_folder) == []


def test_no_file_is_in_use_where_one_is_renamed(run, corpus, tmp_path, windows_files):
    """As Windows asks for: in the tokenizer stage, in shards that read a source again, in shards that are replaced."""
    run("tokenizer", sources=corpus, vocab_size=320, output_dir=str(tmp_path / "tokenizer"))
    config = {
        "sources": corpus,
        "tokenizer": str(tmp_path / "tokenizer"),
        "output_dir": str(tmp_path / "shards"),
    }
    for max_tokens in (60_000, 8000):
        run("shards", **config, sequence_length=64, max_tokens=max_tokens)
        manifest = PackedBlocks(tmp_path / "shards" / "train").manifest
    assert manifest["tokens"] < 8200


def test_the_vocabulary_is_learned_on_the_text_that_the_shards_keep(run, tmp_path, capsys):
    """What the filters or the hash leave out of the shards shapes no merge, and is told."""
    kept = "\n\n".join(f"bdfh {number} jlbd" for number in range(50))
    (tmp_path / "kept.txt").write_text(f"{kept}\n\n{'zxvt ' * 60}\n\nqqww", encoding="utf-8")
    (tmp_path / "twice.txt").write_text(f"{kept}\n\nnmnm 1", encoding="utf-8")
    sources = [
        {"name": "kept", "path": str(tmp_path / "kept.txt"), "filters": {"min_characters": 6}},
        {"name": "twice", "path": str(tmp_path / "twice.txt")},
    ]
    run("tokenizer", sources=sources, vocab_size=1024, output_dir=str(tmp_path / "out"))
    shown = " ".join(capsys.readouterr().out.split())
    reserved = sum("reserved" in token for token in load_tokenizer(tmp_path / "out").get_vocab())
    assert shows(shown, "warning", f"{reserved} of 1,024 tokens are reserved", "set vocab_size 384")
    assert shows(shown, "52 documents", "duplicate 25, max_repeated_ngrams 1, min_characters 1")
    assert shows(shown[shown.index("'twice'") :], "51 documents", "duplicate 25")
    tokens = load_tokenizer(tmp_path / "out").get_vocab()
    assert any("bd" in token for token in tokens)
    assert not any("zx" in token or "qq" in token for token in tokens)


def test_weights_decide_the_vocabulary(run, tmp_path):
    """Of two texts of equal size, the one with nearly all the weight shapes the merges."""
    for name, letters in (("heavy", "bdfhjl"), ("light", "zxvtrp")):
        words = [f"{first}{second}" for first in letters for second in letters]
        (tmp_path / f"{name}.txt").write_text("\n\n".join(words * 20), encoding="utf-8")
    sources = [
        {"name": "heavy", "path": str(tmp_path / "heavy.txt"), "weight": 1000},
        {"name": "light", "path": str(tmp_path / "light.txt"), "weight": 1},
    ]
    config = {
        "sources": sources,
        "vocab_size": 320,
        "output_dir": str(tmp_path / "out"),
        "max_characters": 1000,
    }
    run("tokenizer", **config)
    merged = [
        token for token in load_tokenizer(tmp_path / "out").get_vocab() if token.isascii() and len(token) == 2
    ]
    assert len(merged) > 30
    # Every source is drawn at least once, so one word of the light one is there.
    assert sum(set(token) <= set("zxvtrp") for token in merged) <= 1


def command(name, *arguments):
    """Run a stage file as a program, without a network."""
    return subprocess.run(
        [sys.executable, str(STAGES / f"{name}.py"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(STAGES.parent)},
    )


def test_mistakes_end_the_command_with_one_line(tmp_path):
    """A user's mistake exits with status 2 and one line on stderr, no traceback, and leaves no output folder."""
    (tmp_path / "rows.jsonl").write_text('{"body": "x"}\n' * 20)
    sources = json.dumps([{"name": "rows", "path": str(tmp_path / "rows.jsonl")}])
    done = command("tokenizer", "--sources", sources, "--output_dir", str(tmp_path / "out"))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")
    assert shows(done.stderr, f"{tmp_path}/rows.jsonl:1", "'text'", "(columns: body)")
    assert not (tmp_path / "out").exists()


def test_offline_hub_name_ends_the_command_with_one_line(tmp_path, trained_tokenizer):
    """A Hub data set that cannot be reached is named, with no traceback."""
    trained_tokenizer.save_pretrained(tmp_path)
    sources = '[{"name": "web", "path": "nobody/nothing"}]'
    done = command(
        "shards", "--sources", sources, "--tokenizer", str(tmp_path), "--output_dir", str(tmp_path / "out")
    )
    assert done.returncode == 2
    assert shows(done.stderr.splitlines()[-1], "error: ", "'web'", "nobody/nothing", "Hub")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


# Dataset -> the columns of its rows on the Hub, with text.
SCHEMAS = {
    "HuggingFaceFW/fineweb-edu": ["text", "id", "dump", "url", "file_path", "language", "language_score"],
    "wikimedia/wikipedia": ["id", "url", "title", "text"],
    "common-pile/arxiv_papers_filtered": ["id", "text", "source", "created", "added", "metadata"],
    "common-pile/stackv2_edu_filtered": ["id", "text", "source", "created", "added", "metadata"],
}


@pytest.mark.parametrize(
    "config", sorted((STAGES / "configs" / "mixtures").glob("*.yaml")), ids=lambda p: p.stem
)
def test_ready_mixtures_run_on_rows_of_their_schema(run, config, tmp_path, trained_tokenizer, monkeypatch):
    """Each mixture, with local stand-ins for the Hub datasets: all sources come, in their shares."""
    generator = random.Random(0)
    asked = []

    def load(path, subset, revision):
        asked.append((path, subset))
        rows = []
        for row in range(60):
            text = " ".join(str(generator.randrange(10**6)) for _ in range(250))
            rows.append(dict.fromkeys(SCHEMAS[path], f"{path} {row} {text}"))
        dataset = datasets.Dataset.from_list(rows).to_iterable_dataset(num_shards=3)
        return SimpleNamespace(hash="1f2e", as_streaming_dataset=lambda split: {"train": dataset}[split])

    monkeypatch.setattr(datasets, "load_dataset_builder", load)
    trained_tokenizer.save_pretrained(tmp_path / "tokenizer")
    settings = yaml.safe_load(config.read_text())
    settings |= {
        "tokenizer": str(tmp_path / "tokenizer"),
        "output_dir": str(tmp_path / "out"),
        "max_tokens": 60_000,
        "validation_fraction": 0.3,
    }
    run("shards", **settings)
    manifest = PackedBlocks(tmp_path / "out" / "train").manifest
    assert [(source["path"], source.get("subset")) for source in settings["sources"]] == sorted(
        set(asked), key=asked.index
    )
    weights = [source.get("weight", 1.0) for source in settings["sources"]]
    assert sum(weights) == pytest.approx(1)
    for source, weight in zip(manifest["sources"], weights, strict=True):
        assert source["weight_consumed"] == pytest.approx(weight, abs=0.1)
        assert source["left_out"] == {}


def test_slices_of_an_array_are_merged_by_the_command_without_a_slice(
    run, corpus, tmp_path, trained_tokenizer
):
    """What a job array runs, and then once the same command without --slice."""
    trained_tokenizer.save_pretrained(tmp_path / "tokenizer")
    options = {"sources": corpus[:2], "tokenizer": str(tmp_path / "tokenizer")}
    options |= {"sequence_length": 64, "validation_fraction": 0.1}
    for own in ({"slice": 0}, {"slice": 1}, {}):
        run("shards", **options, num_slices=2, **own, output_dir=str(tmp_path / "merged"))
    run("shards", **options, output_dir=str(tmp_path / "whole"))
    for file in (
        "train/tokens.bin",
        "train/manifest.json",
        "validation/tokens.bin",
        "validation/manifest.json",
    ):
        assert (tmp_path / "merged" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
