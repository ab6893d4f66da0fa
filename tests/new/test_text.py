# SPDX-License-Identifier: Apache-2.0
"""What is read of a user's files: all kinds, unreadable ones beside good ones, nothing twice, a part held out."""

import gzip
import itertools
import json
from pathlib import Path

import pytest

from scratch_gpt.data.sources.spellings import ENCODED_TWICE, NOT_NFC
from scratch_gpt.new.text import cut, find_files, skipped_files, text_column, write_corpus
from wording import user_error


def paragraphs(count: int, seed: str = "") -> list[str]:
    """Different paragraphs of about 300 bytes."""
    return [" ".join(f"word{seed}{number * 40 + place}" for place in range(30)) for number in range(count)]


def read(corpus: Path, side: str) -> list[str]:
    """The documents of a side."""
    lines = (corpus / f"{side}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines]


def test_running_text_keeps_every_character(tmp_path) -> None:
    """Passages end at blank lines; together they are the file, a twentieth of them held out."""
    text = "\n\n".join(paragraphs(400))
    (tmp_path / "book.txt").write_text(text)
    summary = write_corpus([tmp_path / "book.txt"], "running", 1e9, tmp_path / "corpus")
    train, held_out = (read(tmp_path / "corpus", side) for side in ("train", "held_out"))
    assert 0.03 < sum(map(len, held_out)) / len(text) < 0.06
    pieces = sorted([*train, *held_out], key=text.index)
    assert "\n\n".join(pieces) == text
    assert summary.documents == len(pieces) > 40
    assert summary.previews == [pieces[0], pieces[1], pieces[-1]]


@pytest.mark.parametrize("word", ["Rose", "роза", "薔薇"])
@pytest.mark.parametrize("least", [20_000, 31_000])
def test_a_small_text_without_blank_lines_has_something_held_out(word, least, tmp_path) -> None:
    """A long poem, in letters of one, two and three bytes: enough to learn from, so not refused."""
    lines = [f"{word} {number * 7919} {word * (number % 9)}" for number in range(3000)]
    kept = itertools.accumulate(len(line.encode()) + 1 for line in lines)
    text = "\n".join(line for line, size in zip(lines, kept) if size < least + 500)
    (tmp_path / "poem.txt").write_text(text, encoding="utf-8")
    summary = write_corpus([tmp_path / "poem.txt"], "running", 1e9, tmp_path / "corpus")
    assert summary.size >= least
    assert 0.02 < summary.held_out / summary.size < 0.3


def test_cut_knows_lines_without_an_end() -> None:
    """A line of any length is cut, a short document stays whole, and nothing is lost."""
    assert list(cut(["a\n", "\n", "b\n"], 100)) == ["a\n\nb"]
    pieces = list(cut(["x" * 950], 100))
    assert "".join(pieces) == "x" * 950 and max(map(len, pieces)) <= 300
    assert list(cut(["aaaa\n", "\n", "bbbb\n", "\n"], 4)) == ["aaaa", "bbbb"]


@pytest.mark.parametrize("letter", ["x", "я", "水", "\U0001f600"])
def test_passages_have_their_size_in_every_script(letter) -> None:
    """In bytes: one line without an end, and one behind a line of another script."""
    pieces = list(cut([letter * 9000], 1000))
    assert "".join(pieces) == letter * 9000
    assert all(1000 <= len(piece.encode()) <= 3000 for piece in pieces[:-1])


def test_odd_spellings_are_reported(tmp_path) -> None:
    """Accents apart from their letters, and letters that were encoded twice: in running text and in rows, and where."""
    text = "\n\n".join(paragraphs(200))
    (tmp_path / "a.txt").write_text(text + "\n\nTe\u0301te\n", encoding="utf-8")
    rows = [json.dumps({"text": each}) for each in [*paragraphs(9, "b"), "TÃªte " * 40]]
    (tmp_path / "b.jsonl").write_text("\n".join(rows), encoding="utf-8")
    files = [tmp_path / "a.txt", tmp_path / "b.jsonl"]
    notes = write_corpus(files, "running", 1e9, tmp_path / "corpus").notes
    assert [(NOT_NFC in note, str(files[0]) in note) for note in notes] == [(True, True), (False, False)]
    assert ENCODED_TWICE in notes[1] and f"{files[1]}:10" in notes[1]


def test_unreadable_files_are_named_and_the_others_used(tmp_path) -> None:
    """A PDF, a binary file, an empty one, a broken gzip: each with its reason; the good ones make the corpus."""
    (tmp_path / "a.txt").write_text("\n\n".join(paragraphs(100)))
    with gzip.open(tmp_path / "b.jsonl.gz", "wt") as file:
        file.writelines(json.dumps({"id": 1, "body": text}) + "\n" for text in paragraphs(100, "b"))
    (tmp_path / "c.pdf").write_bytes(b"%PDF-1.7")
    (tmp_path / "d.txt").write_bytes(bytes(range(256)) * 8)
    (tmp_path / "e.txt").write_text("")
    (tmp_path / "f.txt.gz").write_bytes(b"no gzip")
    files = find_files([str(tmp_path / "*")], tmp_path / "out")
    summary = write_corpus(files, "running", 1e9, tmp_path / "corpus")
    assert {Path(name).name for name in summary.unread} == {"c.pdf", "d.txt", "e.txt", "f.txt.gz"}
    assert summary.files == 2
    assert any("'body'" in note for note in summary.notes)


def test_what_a_folder_holds_beside_is_named(tmp_path) -> None:
    """A book in a format that is not read, with the cure; not the run's own files."""
    for name in ("a.txt", "b.epub", "c.py", "out/d.bin"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("text")
    files = find_files([str(tmp_path)], tmp_path / "out")
    skipped = skipped_files([str(tmp_path)], files, tmp_path / "out")
    assert files == [tmp_path / "a.txt"]
    assert skipped.keys() == {str(tmp_path / "b.epub"), str(tmp_path / "c.py")}
    assert ".txt" in skipped[str(tmp_path / "b.epub")]


def test_nothing_is_read_twice(tmp_path) -> None:
    """A file that is named twice, a text that comes twice, the run's own folder."""
    book = tmp_path / "book.txt"
    book.write_text("\n\n".join(paragraphs(100)))
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "old.txt").write_text("own")
    assert find_files([str(book), str(tmp_path)], tmp_path / "runs") == [book]
    (tmp_path / "copy.txt").write_bytes(book.read_bytes())
    summary = write_corpus([book, tmp_path / "copy.txt"], "block", 1e9, tmp_path / "corpus")
    assert summary.documents == summary.left_out["duplicate"] == 100


def test_the_files_of_other_runs_are_not_read(tmp_path) -> None:
    """Neither the corpus of a run beside the text nor its tokenizer; a user's own plan and corpus are text."""
    (tmp_path / "book.txt").write_text("text")
    for name in ("runs/a/plan.json", "runs/a/corpus/train.jsonl", "runs/a/chat/tokenizer.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert find_files([str(tmp_path)], tmp_path / "out") == [tmp_path / "book.txt"]
    assert not skipped_files([str(tmp_path)], [tmp_path / "book.txt"], tmp_path / "out")
    with user_error("no_files", path=tmp_path / "runs"):
        find_files([str(tmp_path / "runs")], tmp_path / "out")
    (tmp_path / "runs/a/corpus/novel.txt").write_text("text")
    assert tmp_path / "runs/a/corpus/novel.txt" in find_files([str(tmp_path)], tmp_path / "out")


def test_more_text_than_the_time_allows_is_thinned_evenly(tmp_path) -> None:
    """A quarter of the documents, from the whole of the file."""
    lines = paragraphs(400)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    size = (tmp_path / "rows.jsonl").stat().st_size
    summary = write_corpus([tmp_path / "rows.jsonl"], "running", size / 4, tmp_path / "corpus")
    kept = sorted(
        lines.index(text) for side in ("train", "held_out") for text in read(tmp_path / "corpus", side)
    )
    assert kept == list(range(3, 400, 4))
    assert summary.left_out == {"over_the_time": 300}


@pytest.mark.parametrize(
    ("rows", "column"),
    [
        ([{"title": "a", "text": "b"}], "text"),
        ([{"title": "a title", "story": "a story that is longer", "year": 1900}], "story"),
        (["a row that is its text"], "text"),
    ],
)
def test_the_column_of_the_text_is_found(rows, column, tmp_path) -> None:
    """`text`, or else the one that holds the most."""
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert text_column(tmp_path / "rows.jsonl") == column


def test_too_little_text_is_one_line(tmp_path) -> None:
    """Empty, or a page: how much would be enough, and why files were not read; nothing is left behind."""
    (tmp_path / "a.txt").write_text("A page.\n")
    (tmp_path / "b.pdf").write_bytes(b"%PDF-1.7")
    files = [tmp_path / "a.txt", tmp_path / "b.pdf"]
    with user_error("too_little_text", "b.pdf", needed=20_000):
        write_corpus(files, "running", 1e9, tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()
    with user_error("file_not_found", file="no.txt"):
        find_files(["no.txt"], tmp_path)


def test_scripts_are_named(tmp_path) -> None:
    """By the letters' names in Unicode, the largest share first."""
    (tmp_path / "a.txt").write_text(
        "\n\n".join(f"мир {text} 日本" for text in ["слово " * 8 + str(n) for n in range(400)])
    )
    summary = write_corpus([tmp_path / "a.txt"], "block", 1e9, tmp_path / "corpus")
    assert list(summary.scripts()) == ["Cyrillic", "CJK"]
