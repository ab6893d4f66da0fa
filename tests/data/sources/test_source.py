# SPDX-License-Identifier: Apache-2.0
"""Sources: every format gives the same documents, bad rows are counted or refused, each mistake is one clear line."""

import bz2
import csv
import gzip
import io
import itertools
import json
import lzma
from types import SimpleNamespace

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from scratch_gpt import primer
from scratch_gpt.data.sources.bad_rows import BadRows
from scratch_gpt.data.sources.columns import pick_text
from scratch_gpt.data.sources.filters import NO_FILTERS, Filters
from scratch_gpt.data.sources.source import (
    CORPUS_SETTINGS,
    ROW_SETTINGS,
    iter_documents,
    parse_sources,
    parts_of,
    read_documents,
    read_rows,
)
from wording import shows, user_error


TEXTS = ["One line.", "Two\nlines.", "Caf\u00e9 \U0001f600"]


def documents(path, bad_rows=None, **settings):
    """All documents of a one-source corpus."""
    (source,) = parse_sources([{"name": "s", "path": str(path), **settings}])
    return list(read_documents(source, bad_rows or BadRows(), seed=0))


COMPRESS = {".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress}


def write_rows(path, rows):
    """Write rows in the format that the suffixes of `path` say."""
    suffix = path.suffixes[0]
    sink, text, table = pyarrow.BufferOutputStream(), io.StringIO(), pyarrow.Table.from_pylist(rows)
    if suffix in (".jsonl", ".ndjson"):
        text.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    elif suffix == ".json":
        json.dump(rows, text, ensure_ascii=False, indent=1)
    elif suffix in (".csv", ".tsv"):
        writer = csv.DictWriter(text, list(rows[0]), delimiter="\t" if suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)
    elif suffix == ".parquet":
        pyarrow.parquet.write_table(table, sink)
    else:
        with pyarrow.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
    write_compressed(path, text.getvalue().encode() or sink.getvalue().to_pybytes())


def write_compressed(path, data):
    """Write bytes as the last suffix of `path` says."""
    if path.suffix == ".zst":
        data = pyarrow.compress(data, codec="zstd", asbytes=True)
    path.write_bytes(COMPRESS.get(path.suffix, bytes)(data))


def write_corpus(path, texts=TEXTS):
    """Write the texts in the format that the suffixes of `path` say."""
    if ".txt" in path.suffixes:
        write_compressed(path, "\n\n".join(texts).encode())
    else:
        write_rows(path, [{"id": 1, "text": text} for text in texts])
    return path


FORMATS = ["txt", "jsonl", "ndjson", "json", "csv", "tsv", "parquet", "arrow"]


@pytest.mark.parametrize(
    "suffix", [*FORMATS, *(f"{name}.gz" for name in FORMATS), "txt.zst", "json.xz", "csv.bz2"]
)
def test_every_format_gives_the_same_documents(tmp_path, suffix):
    """The same three texts come out of text and tables, compressed or not."""
    assert documents(write_corpus(tmp_path / f"corpus.{suffix}")) == TEXTS


def test_folder_and_glob_read_all_files_in_order(tmp_path):
    """A folder means its data files of any format, a glob the files that match, sorted by name."""
    (tmp_path / "sub").mkdir()
    write_corpus(tmp_path / "b.jsonl", ["b"])
    write_corpus(tmp_path / "a.txt", ["a"])
    write_corpus(tmp_path / "sub" / "c.parquet", ["c"])
    (tmp_path / "notes.log").write_text("not data")
    assert documents(tmp_path) == ["a", "b", "c"]
    assert documents(tmp_path / "**" / "*.parquet") == ["c"]


def test_text_files_by_block_or_whole(tmp_path):
    """Blank lines, also with spaces in them, divide blocks; `file` keeps all; line ends and the BOM are normalised."""
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbf\r\n  indented\r\nx\r\n \t\r\n\r\ny\r\n")
    assert documents(path) == ["  indented\nx", "y"]
    assert documents(path, documents="file") == ["  indented\nx\n \t\n\ny"]


def test_any_text_suffix_can_be_named(tmp_path):
    """Source code matched by a glob is read as text."""
    (tmp_path / "a.py").write_text("x = 1\n")
    assert documents(tmp_path / "*.py", documents="file") == ["x = 1"]


def test_text_column_is_configurable(tmp_path):
    """The text may stand in a column of another name."""
    (tmp_path / "a.jsonl").write_text('{"body": "hello"}\n')
    assert documents(tmp_path / "a.jsonl", text_column="body") == ["hello"]


def test_primer_is_taken_as_it_is_and_other_text_filtered():
    """The primer repeats itself on purpose; for other sources filters and deduplication are on."""
    sources = [{"name": "p", "path": "primer"}, {"name": "w", "path": "user/corpus"}]
    primer_source, web = parse_sources(sources)
    assert (primer_source.filters, primer_source.deduplicate) == (NO_FILTERS, False)
    assert (web.filters, web.deduplicate) == (Filters(), True)


@pytest.mark.parametrize("place", [(0, 0), (0, 2), (1, 0), (1, 1), (2, 1)])
def test_documents_after_a_place(tmp_path, place):
    """From the place of a document on come those after it, whatever the format of the part."""
    for name in ("a.txt", "b.jsonl", "c.parquet"):
        write_corpus(tmp_path / name)
    (source,) = parse_sources([{"name": "s", "path": str(tmp_path)}])
    parts = parts_of(source, seed=0)
    whole = list(iter_documents(source, BadRows(), parts))
    assert [(document.part, document.row) for document in whole] == [
        (p, r) for p in range(3) for r in (1, 2, 3)
    ]
    rest = [document for document in whole if (document.part, document.row) > place]
    assert list(iter_documents(source, BadRows(), parts, place)) == rest


def test_parts_of_a_hub_dataset_are_its_files(monkeypatch):
    """The shards of a streamed dataset are parts, in order; reading goes on inside one."""

    def load(*args, **kwargs):
        texts = [str(number) for number in range(10)]
        dataset = datasets.Dataset.from_dict({"text": texts}).to_iterable_dataset(num_shards=3)
        return SimpleNamespace(hash="1f2e", as_streaming_dataset=lambda split: dataset)

    monkeypatch.setattr(datasets, "load_dataset_builder", load)
    (source,) = parse_sources([{"name": "s", "path": "user/corpus"}])
    parts = parts_of(source, seed=0)
    assert [part.name for part in parts] == ["user/corpus[0]", "user/corpus[1]", "user/corpus[2]"]
    assert list(read_documents(source, BadRows(), seed=0)) == [str(number) for number in range(10)]
    rest = iter_documents(source, BadRows(), parts, (1, 2))
    assert [document.text for document in rest] == ["6", "7", "8", "9"]


def test_primer_is_a_source():
    """The path `primer` gives the embedded corpus of the seed."""
    (source,) = parse_sources([{"name": "p", "path": "primer"}])
    read = read_documents(source, BadRows(), seed=3)
    assert list(itertools.islice(read, 5)) == list(itertools.islice(primer.documents(seed=3), 5))
    (source,) = parse_sources([{"name": "p", "path": "primer", "subset": "curriculum"}])
    read = read_documents(source, BadRows(), seed=3)
    assert list(itertools.islice(read, 5)) == list(itertools.islice(primer.documents(3, curriculum=True), 5))
    with user_error("wrong_value", setting="subset", value="x"):
        parse_sources([{"name": "p", "path": "primer", "subset": "x"}])


def test_hub_dataset_is_streamed(monkeypatch):
    """A name that is no file is asked of the Hub, with subset, revision and split, as a stream; its commit is kept."""
    asked = []

    def stream(**kwargs):
        asked.append(kwargs)
        return datasets.Dataset.from_dict({"body": ["a", "b"]}).to_iterable_dataset()

    def load(*args, **kwargs):
        asked.append((args, kwargs))
        return SimpleNamespace(hash="1f2e", as_streaming_dataset=stream)

    monkeypatch.setattr(datasets, "load_dataset_builder", load)
    settings = {"subset": "sample", "split": "validation", "revision": "v1", "text_column": "body"}
    (source,) = parse_sources([{"name": "s", "path": "user/corpus", **settings}])
    assert source.commit is None
    assert list(read_documents(source, BadRows(), seed=0)) == ["a", "b"]
    assert asked == [(("user/corpus", "sample"), {"revision": "v1"}), {"split": "validation"}]
    assert (source.revision, source.commit) == ("v1", "1f2e")


def test_unreachable_hub_dataset_is_one_clear_line(monkeypatch):
    """Without a network the name, and the two things to look at, are said."""

    def load(*args, **kwargs):
        raise ConnectionError("Couldn't reach the Hub")

    monkeypatch.setattr(datasets, "load_dataset_builder", load)
    with user_error("dataset_unreachable", "Couldn't reach the Hub", path="user/corpus"):
        documents("user/corpus")


BAD_LINES = {
    b'{"text": "cut': ["JSON"],
    b'{"text": "gr\xc3\xb6\xc3\x9fer caf\xe9"}': ["UTF-8"],
    b'["text"]': ["JSON", "list"],
    b'{"id": 1, "body": "x"}': ["'text'", "(columns: id, body)"],
    b'{"text": null}': ["'text'", "null"],
    b'{"text": 5}': ["'text'", "int"],
    b'{"text": " \\n"}': ["'text'", "empty"],
    b'{"text": "\\ud83d"}': ["'text'", "surrogate"],
}


@pytest.mark.parametrize("line", BAD_LINES)
def test_one_bad_row_is_left_out_and_reported(tmp_path, line):
    """A bad row among good ones is skipped, and file, line and reason are reported; with `fail` it is an error."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"text": "good"}\n\n' + line + b'\n{"text": "fine"}\n')
    bad_rows = BadRows("skip")
    assert documents(path, bad_rows) == ["good", "fine"]
    assert bad_rows.count("s") == 1
    (report,) = bad_rows.report()
    assert shows(report, path, "1 of 3 rows", "line 3:", *BAD_LINES[line])
    with user_error("bad_row", *BAD_LINES[line], place=f"{path}:3"):
        documents(path, BadRows("fail"))


@pytest.mark.parametrize(
    ("bad", "good", "refused"), [(2, 198, False), (3, 197, True), (1, 0, True), (1, 9, False)]
)
def test_more_than_one_percent_of_bad_rows_is_refused(tmp_path, bad, good, refused):
    """Up to 1% is skipped, and always a single row among others; beyond, the file is refused with its counts."""
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "good"}\n' * good + '{"text": ""}\n' * bad)
    if refused:
        with user_error("too_many_bad_rows", f"{bad} of {good + bad}", place=f"{path}:{good + 1}"):
            documents(path)
    else:
        assert len(documents(path)) == good


def test_a_wrong_column_is_noticed_before_the_end(tmp_path):
    """Where all rows are bad, 101 of them are enough to say so: a stream may have no end."""
    (tmp_path / "rows.jsonl").write_text('{"id": 1}\n' * 100_000)
    with user_error(
        "too_many_bad_rows", "'text'", "columns: id", "101 of 101", place=f"{tmp_path}/rows.jsonl:1"
    ):
        documents(tmp_path / "rows.jsonl")


def test_check_judges_a_file_that_was_left_in_the_middle(tmp_path):
    """A stage that stops early still hears of too many bad rows."""
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": ""}\n{"text": ""}\n' + '{"text": "good"}\n' * 10)
    (source,) = parse_sources([{"name": "s", "path": str(path)}])
    bad_rows = BadRows()
    next(read_documents(source, bad_rows, seed=0))
    with user_error("too_many_bad_rows", "2 of 3"):
        bad_rows.check()


def test_a_second_pass_is_not_counted_twice(tmp_path):
    """Reading a source again leaves the report as it was."""
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a"}\n{"text": ""}\n')
    bad_rows = BadRows()
    assert documents(path, bad_rows) + documents(path, bad_rows) == ["a", "a"]
    assert bad_rows.count("s") == 1
    assert len(bad_rows.report()) == 1


def broken_gzip(path):
    """A gzip file that ends in the middle."""
    path.write_bytes(gzip.compress(b"text\n" * 100_000)[:-20])


UNREADABLE = {
    "latin.txt": (
        lambda path: path.write_bytes(b"plain\n\nDvo\xf8\xe1k\n\nDvo\xf8\xe1k\n"),
        user_error("too_many_bad_rows", "latin.txt:2", "line 3", "0xf8", "set encoding", "cp1250"),
    ),
    "cut.txt.gz": (broken_gzip, user_error("unreadable_file", "gz")),
    "no.jsonl.gz": (lambda path: path.write_bytes(b"{}"), user_error("unreadable_file", "gz")),
    "no.jsonl.zst": (lambda path: path.write_bytes(b"{}"), user_error("unreadable_file", "zst")),
    "no.txt.xz": (lambda path: path.write_bytes(b"{}"), user_error("unreadable_file", "xz")),
    "no.txt.bz2": (lambda path: path.write_bytes(b"{}"), user_error("unreadable_file", "bz2")),
    "no.parquet": (lambda path: path.write_bytes(b"{}"), user_error("unreadable_file", "parquet")),
    "no.arrow": (lambda path: path.write_bytes(b"{}"), user_error("unreadable_file", "arrow")),
    "cut.json": (
        lambda path: path.write_bytes(b'[{"text": "a"}, {"te'),
        user_error("unreadable_file", "row 1"),
    ),
    "zipped.txt": (
        lambda path: path.write_bytes(gzip.compress(b"text")),
        user_error("unsupported_format", ".gz"),
    ),
    "pointer.jsonl": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1f2e\n"),
        user_error("unsupported_format", "git lfs pull"),
    ),
    "book.pdf": (lambda path: path.write_bytes(b"%PDF"), user_error("unsupported_format", ".txt")),
    "text.zip": (lambda path: path.write_bytes(b"PK"), user_error("unsupported_format", "unpack")),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_unreadable_file_is_refused_whatever_the_policy(tmp_path, name):
    """A file in a wrong encoding, broken or of another format is named, with the line where there is one."""
    write, expected = UNREADABLE[name]
    write(tmp_path / name)
    with expected as caught:
        documents(tmp_path / name)
    assert shows(str(caught.value), tmp_path / name)


MISTAKES = [
    (
        [{"name": "a", "path": "primer", "wieght": 1}],
        user_error("unknown_key", "entry 1", "name, path", key="wieght"),
    ),
    ([{"name": "a"}], user_error("setting_missing", "entry 1", setting="path")),
    (
        [{"name": "a", "path": "primer"}, {"path": "primer"}],
        user_error("setting_missing", "entry 2", setting="name"),
    ),
    (["primer"], user_error("wrong_value", setting="entry 1", value="primer")),
    (
        [{"name": "a", "path": "primer", "weight": -1}],
        user_error("wrong_value", "'a'", setting="weight", value=-1),
    ),
    (
        [{"name": "a", "path": "primer", "weight": "much"}],
        user_error("wrong_value", setting="weight", value="much"),
    ),
    ([{"name": "a", "path": "primer", "weight": 0}], user_error("all_weights_zero")),
    (
        [{"name": "a", "path": "primer"}, {"name": "a", "path": "primer"}],
        user_error("duplicate_name", name="a"),
    ),
    ([{"name": "a", "path": "missing.txt"}], user_error("file_not_found", "'a'", file="missing.txt")),
    ([{"name": "a", "path": "missing/tokens.bin"}], user_error("file_not_found", file="missing/tokens.bin")),
    ([{"name": "a", "path": "./missing/folder"}], user_error("file_not_found", file="./missing/folder")),
    ([{"name": "a", "path": "primmer"}], user_error("file_not_found", "primer?", file="primmer")),
    ([{"name": "a", "path": "missing/*.jsonl"}], user_error("no_files", "'a'", path="missing/*.jsonl")),
    (
        [{"name": "a", "path": "primer", "documents": "page"}],
        user_error("wrong_value", "block", "file", setting="documents", value="page"),
    ),
    (
        [{"name": "a", "path": "primer", "documents": "separator"}],
        user_error("setting_missing", setting="separator"),
    ),
    (
        [{"name": "a", "path": "primer", "documents": "line", "separator": "#"}],
        user_error("setting_without_effect", "line", setting="separator"),
    ),
    (
        [{"name": "a", "path": "user/text", "documents": "line"}],
        user_error("setting_without_effect", setting="documents"),
    ),
    (
        [{"name": "a", "path": "user/text", "encoding": "cp9999"}],
        user_error("wrong_value", "cp1252", setting="encoding", value="cp9999"),
    ),
    (
        [{"name": "a", "path": "user/text", "encoding": "base64"}],
        user_error("wrong_value", setting="encoding", value="base64"),
    ),
    (
        [{"name": "a", "path": "user/text", "encoding": "cp1252"}],
        user_error("setting_without_effect", setting="encoding"),
    ),
    (
        [{"name": "a", "path": "primer", "max_bad_rows": 2}],
        user_error("wrong_value", setting="max_bad_rows", value=2),
    ),
    (
        [{"name": "a", "path": "primer", "text_column": ["x"]}],
        user_error("wrong_value", setting="text_column", value=["x"]),
    ),
    (
        [{"name": "a", "path": "primer", "filters": {"min_words": 1}}],
        user_error("unknown_key", "'a'", key="min_words"),
    ),
    (
        [{"name": "a", "path": "primer", "deduplicate": "no"}],
        user_error("wrong_value", "'a'", "true", "false", setting="deduplicate", value="no"),
    ),
    ([{"name": "a", "path": "primer", "held_out": True}], user_error("source_endless", source="a")),
    (
        [{"name": "a", "path": "primer", "deduplicate": True}],
        user_error("setting_without_effect", setting="deduplicate"),
    ),
    (
        [{"name": "a", "path": "primer", "columns": "text"}],
        user_error("wrong_value", setting="columns", value="text"),
    ),
]


@pytest.mark.parametrize(("declared", "expected"), MISTAKES)
def test_mistake_in_a_declaration_is_one_clear_line(declared, expected):
    """Each wrong declaration names the source or entry, the value and what is possible."""
    with expected:
        parse_sources(declared)


@pytest.mark.parametrize(
    ("name", "value"), [("held_out", True), ("filters", {"min_characters": 9}), ("deduplicate", True)]
)
def test_settings_of_documents_are_refused_for_rows(name, value):
    """What the shards stage alone heeds is not passed over in silence; what changes nothing is let pass."""
    with user_error("setting_without_effect", "entry 1", CORPUS_SETTINGS[name], setting=name):
        parse_sources([{"name": "a", "path": "user/rows", name: value}], CORPUS_SETTINGS)
    assert parse_sources([{"name": "a", "path": "user/rows", name: False}], CORPUS_SETTINGS)


@pytest.mark.parametrize(
    ("name", "value"), [("columns", {"text": "body"}), ("template", "{source}"), ("system", "Be.")]
)
def test_settings_of_rows_are_refused_for_documents(name, value):
    """Documents have one column, and it has a key of its own."""
    with user_error("setting_without_effect", "text_column", setting=name):
        parse_sources([{"name": "a", "path": "user/text", name: value}], ROW_SETTINGS)


def test_folder_without_data_is_refused(tmp_path):
    """An empty folder is not an empty corpus but a mistake."""
    with user_error("no_files", ".txt", path=tmp_path):
        documents(tmp_path)


def report(path, **settings):
    """What is reported of a one-source corpus that was read."""
    bad_rows = BadRows()
    documents(path, bad_rows, **settings)
    return bad_rows.report()


def test_what_is_not_as_declared_is_reported(tmp_path):
    """An end-of-text marker, tags, a file of many lines that is one document, and letters apart from their accents."""
    (tmp_path / "a.txt").write_text("one\n\nstill one\n<|endoftext|>\ntwo\n")
    assert documents(tmp_path / "a.txt") == ["one\n\nstill one", "two"]
    assert shows(*report(tmp_path / "a.txt"), "<|endoftext|>", "a.txt")
    assert report(tmp_path / "a.txt", separator="<|endoftext|>") == [], "as declared"
    (tmp_path / "a.txt").write_text("one<|endoftext|>two<|endoftext|>three")
    assert shows(*report(tmp_path / "a.txt"), "warning", 'separator: "<|endoftext|>"')
    assert report(tmp_path / "a.txt", separator="<|endoftext|>") == []
    (tmp_path / "b.html").write_text("<p>one</p>")
    assert documents(tmp_path / "b.html") == ["<p>one</p>"]
    assert shows(*report(tmp_path / "b.html"), ".html", "tags")
    (tmp_path / "c.txt").write_text("a line\n" * 100)
    assert shows(*report(tmp_path / "c.txt"), "warning", "documents: line", "c.txt")
    assert report(tmp_path / "c.txt", documents="file") == report(tmp_path / "c.txt", documents="line") == []
    (tmp_path / "d.txt").write_text("cafe\u0301\n\ncaf\u00e9\n\nnai\u0308ve", encoding="utf-8")
    assert documents(tmp_path / "d.txt") == ["cafe\u0301", "caf\u00e9", "nai\u0308ve"]
    assert shows(*report(tmp_path / "d.txt"), "NFC", "2, the first in", "d.txt:1")
    twice = "caf\u00e9, \u201cna\u00efve\u201d".encode().decode("cp1252", "ignore")
    (tmp_path / "e.txt").write_text(f"caf\u00e9\n\n{twice}", encoding="utf-8")
    assert documents(tmp_path / "e.txt") == ["caf\u00e9", twice]
    assert shows(*report(tmp_path / "e.txt"), "twice", "1, the first in", "e.txt:2")


def test_bad_bytes_cost_their_document_alone(tmp_path):
    """A byte that is no UTF-8, or a zero byte, leaves out one block; `fail` stops there, and all of them may be allowed."""
    (tmp_path / "a.txt").write_bytes(
        b"good\n\nfi\nne\n\n\xc3\xb6\xc3\x9f caf\xe9\n\nze\x00ro\n\n" + b"x\n\n" * 100
    )
    with user_error("bad_row", "line 6", "0xe9", place=f"{tmp_path}/a.txt:3"):
        documents(tmp_path / "a.txt", BadRows("fail"))
    with user_error("too_many_bad_rows", "2 of 104"):
        documents(tmp_path / "a.txt")
    bad_rows = BadRows()
    assert documents(tmp_path / "a.txt", bad_rows, max_bad_rows=0.02) == ["good", "fi\nne"] + ["x"] * 100
    assert shows(*bad_rows.report(), "2 of 104 rows", "line 6: byte 0xe9")


def test_strings_of_a_json_array_are_documents(tmp_path):
    """What is no text is a bad row."""
    (tmp_path / "a.json").write_text('["one", "two", 3]')
    assert documents(tmp_path / "a.json") == ["one", "two"]


def test_a_wrong_column_names_its_cure(tmp_path):
    """The key, and of several files also which to name."""
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    with user_error("too_many_bad_rows", "(columns: a, b)", "text_column") as caught:
        documents(tmp_path / "a.csv")
    assert "glob" not in str(caught.value)
    (tmp_path / "b.txt").write_text("text")
    with user_error("too_many_bad_rows", "text_column", "glob"):
        documents(tmp_path)


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.json", "a.jsonl.zst", "a.arrow"])
def test_rows_are_read_from_every_format(tmp_path, name):
    """Rows of instructions or preferences come from the same readers."""
    row = {"prompt": "Why?", "response": 'Since "so", it\nis.'}
    write_rows(tmp_path / name, [row])
    (source,) = parse_sources([{"name": "s", "path": str(tmp_path / name)}])
    ((place, read),) = read_rows(source, BadRows(), lambda row: row)
    assert read == row
    assert place.startswith(f"{tmp_path / name}:")


def test_rows_are_not_read_from_text(tmp_path):
    """A text file has no columns; where rows are needed, it is refused by name."""
    write_corpus(tmp_path / "a.txt")
    (source,) = parse_sources([{"name": "s", "path": str(tmp_path / "a.txt")}])
    with user_error("unsupported_format", ".jsonl", file=tmp_path / "a.txt"):
        list(read_rows(source, BadRows(), lambda row: pick_text(row, "text")))


@pytest.mark.parametrize(("setting", "value"), [("split", "test"), ("subset", "en"), ("revision", "main")])
def test_loose_files_have_no_splits(tmp_path, setting, value):
    """All of a folder's files would be read, whatever the split."""
    for name in ("train.jsonl", "test.jsonl"):
        (tmp_path / name).write_text('{"text": "a"}\n')
    for path in (tmp_path, tmp_path / "test.jsonl"):
        with user_error("setting_without_effect", "'s'", value, setting=setting):
            parse_sources([{"name": "s", "path": str(path), setting: value}])


def test_a_test_split_among_the_files_is_told(tmp_path):
    """A folder without a card has no splits: all its files are read, and trained on."""
    for name in ("train-00000.jsonl", "test-00000.jsonl", "contest.jsonl", "latest_news.jsonl"):
        (tmp_path / name).write_text('{"text": "a"}\n')
    bad_rows = BadRows()
    (source,) = parse_sources([{"name": "s", "path": str(tmp_path)}])
    assert len(list(read_documents(source, bad_rows, 0))) == 4
    (line,) = bad_rows.report()
    assert shows(line, "warning", "test-00000.jsonl") and "contest" not in line
    (tmp_path / "train-00000.jsonl").unlink()
    bad_rows, (source,) = BadRows(), parse_sources([{"name": "s", "path": str(tmp_path)}])
    assert len(list(read_documents(source, bad_rows, 0))) == 3
    assert bad_rows.report() == []
