# SPDX-License-Identifier: Apache-2.0
"""Formats: rows keep their numbers wherever reading begins; what the formats hold is tested with the sources as well."""

import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest

from scratch_gpt.data.sources.bad_rows import BadRow
from scratch_gpt.data.sources.formats import Reader
from wording import user_error


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.jsonl.gz", "a.parquet"])
@pytest.mark.parametrize("start", [0, 1, 1023, 1024, 1500, 2000])
def test_reading_from_a_row_gives_the_rest(tmp_path, name, start):
    """The rows after a start are those of a whole read without the first ones, also across batches of parquet."""
    path = tmp_path / name
    if name.endswith("parquet"):
        pyarrow.parquet.write_table(pyarrow.table({"n": list(range(2000))}), path)
    elif name.endswith("txt"):
        path.write_text("\n\n".join(map(str, range(2000))))
    else:
        data = "".join(f"{number}\n" for number in range(2000)).encode()
        path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    whole = list(Reader().rows(path))
    assert [number for number, _ in whole] == list(range(1, 2001))
    assert list(Reader().rows(path, start)) == whole[start:]


def test_blank_lines_keep_their_numbers(tmp_path):
    """The number of a row of .jsonl is its line, blank ones counted."""
    (tmp_path / "a.jsonl").write_text("1\n\n3\n")
    assert [number for number, _ in Reader().rows(tmp_path / "a.jsonl")] == [1, 3]
    assert list(Reader().rows(tmp_path / "a.jsonl", 1)) == [(3, "3\n")]


def test_binary_file_is_refused(tmp_path):
    """A zero byte is no text, even where it is UTF-8."""
    (tmp_path / "a.txt").write_bytes(b"fine\n\x00\x00\x01\n")
    with user_error("binary_file", place=f"{tmp_path}/a.txt:2"):
        list(Reader().rows(tmp_path / "a.txt"))


def read(path, data, **settings):
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return list(Reader(**settings).rows(path))


def test_csv_fields_hold_delimiters_quotes_and_line_ends(tmp_path):
    """Rows have the numbers of the lines that they end in; the header tells the delimiter."""
    rows = read(tmp_path / "a.csv", 'id,text\r\n1,"a, ""b""\r\nc"\r\n2,d\r\n')
    assert rows == [(3, {"id": "1", "text": 'a, "b"\nc'}), (4, {"id": "2", "text": "d"})]
    assert read(tmp_path / "b.csv", "id;text\n1;a, b\n") == [(2, {"id": "1", "text": "a, b"})]
    assert read(tmp_path / "c.tsv", "id\ttext\n1\ta, b\n") == [(2, {"id": "1", "text": "a, b"})]
    (fine, (number, bad)) = read(tmp_path / "d.csv", "id,text\n1,a\n2,b, c\n")
    assert (fine[0], number, type(bad)) == (2, 3, BadRow)
    assert "2 columns" in str(bad)


ROW, OTHER = {"a": 1, "b": "x"}, {"a": 2, "b": "y"}
ROWS = [{"a": "x" * 90_000}, {"a": "]"}, {"a": [{"b": 1}]}]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize("indent", [None, 1])
def test_json_values_of_any_shape(tmp_path, name, indent):
    """An array, or objects one after the other, on one line or many, whatever the file is called."""
    texts = [json.dumps(row, indent=indent) for row in ROWS]
    array = ",\n".join(texts)
    for data in (
        json.dumps(ROWS, indent=indent),
        "\n".join(texts),
        "".join(texts),
        array,
        f"[\n{array}\n]\n",
    ):
        rows = read(tmp_path / name, data)
        assert [json.loads(row) if isinstance(row, str) else row for _, row in rows] == ROWS
    assert read(tmp_path / name, "[]") == []


@pytest.mark.parametrize("indent", [None, 2])
def test_the_list_in_a_json_object_is_its_rows(tmp_path, indent):
    """`data` beside a version, as question sets have it; an object without such a list is one row."""
    rows = [{"a": 1}, {"a": 2}]
    assert [
        row for _, row in read(tmp_path / "a.json", json.dumps({"v": 1, "data": rows}, indent=indent))
    ] == rows
    one = {"messages": rows}
    assert [row for _, row in read(tmp_path / "b.json", json.dumps(one, indent=indent))] == [one]


def test_arrow_files_of_both_formats(tmp_path):
    """Streams, as `datasets` writes them, and files, as Feather does, in several batches."""
    table = pyarrow.table({"n": list(range(10))})
    expected = [(number + 1, {"n": number}) for number in range(10)]
    for name, new in (("a.arrow", pyarrow.ipc.new_stream), ("b.arrow", pyarrow.ipc.new_file)):
        with new(str(tmp_path / name), table.schema) as writer:
            writer.write_table(table, max_chunksize=3)
        assert list(Reader().rows(tmp_path / name)) == expected
        assert list(Reader().rows(tmp_path / name, 4)) == expected[4:]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.csv", "sep=;\r\na;b\r\n1;2\r\n", [{"a": "1", "b": "2"}]),
        ("a.jsonl", '[{"a": 1}]\n[{"a": 2}]\n', [[{"a": 1}], [{"a": 2}]]),
        (
            "a.json",
            '{"data": [{"title": "t", "paragraphs": [{"context": "P", "qas": [{"question": "Q", "answers": []}]}]}]}',
            [{"question": "Q", "answers": [], "context": "P"}],
        ),
    ],
    ids=["excel", "arrays", "squad"],
)
def test_rows_as_programs_write_them(tmp_path, name, text, expected):
    """Excel's line before the header, an array a line, SQuAD's articles."""
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    rows = [row for _, row in Reader().rows(tmp_path / name)]
    assert [json.loads(row) if isinstance(row, str) else row for row in rows] == expected


def test_empty_rows_of_a_table_are_none(tmp_path):
    """Excel's below the table, and blank lines above it; the numbers stay those of the lines."""
    assert read(tmp_path / "a.csv", "\n\na,b\n1,\n,\n,2\n , \n") == [
        (4, {"a": "1", "b": ""}),
        (6, {"a": "", "b": "2"}),
    ]
    assert read(tmp_path / "b.csv", "sep=;\na;b\n1;2\n") == [(3, {"a": "1", "b": "2"})]


def test_a_quote_that_is_never_closed_is_a_bad_row(tmp_path):
    """It would make the rest of the file one field, without a word."""
    ((first, row), (last, bad)) = read(tmp_path / "a.csv", 'id,text\n1,a\n2,"b\n3,c\n')
    assert (first, row, last) == (2, {"id": "1", "text": "a"}, 5)
    assert isinstance(bad, BadRow)
    assert "line 2" in str(bad)
    assert read(tmp_path / "b.csv", 'id,text\n1,"a"') == [(2, {"id": "1", "text": "a"})]
    assert read(tmp_path / "c.csv", "id,text\n") == read(tmp_path / "d.csv", "") == []


def test_the_commas_of_one_column_part_nothing(tmp_path):
    """The first line has none."""
    assert read(tmp_path / "a.csv", 'text\na, b\n\n"c; d"\n') == [
        (2, {"text": "a, b"}),
        (4, {"text": "c; d"}),
    ]


@pytest.mark.parametrize(
    "table",
    [
        {"a": {"0": 1, "1": 2}, "b": {"0": "x", "1": "y"}},
        {"0": ROW, "1": OTHER},
        {"a": [1, 2], "b": ["x", "y"]},
        {"columns": ["a", "b"], "index": [0, 1], "data": [[1, "x"], [2, "y"]]},
    ],
)
def test_tables_of_pandas_are_rows(tmp_path, table):
    """By columns, by rows and split, as `to_json` and `to_dict` write them; other objects are one row."""
    assert [row for _, row in read(tmp_path / "a.json", json.dumps(table))] == [ROW, OTHER]
    assert [row for _, row in read(tmp_path / "d.json", '{"data": ["x", "y"]}')] == ["x", "y"]
    for one in (
        {"translation": {"de": "x"}, "meta": {"n": 1}},
        {"messages": [{"role": "user"}], "tools": [{}]},
    ):
        assert [row for _, row in read(tmp_path / "b.json", json.dumps(one))] == [one]


@pytest.mark.parametrize(
    ("name", "text", "shown"),
    [
        ("a.txt", '{"text": "a"}\n{"text": "b"}\n', ".jsonl"),
        ("a.txt", "<!DOCTYPE html>\n<html></html>\n", "HTML"),
        ("a.html", "<html></html>\n", "entities"),
        ("a.jsonl", "", "nothing"),
        ("a.txt", "caf\xe9", "cp1252"),
    ],
)
def test_what_is_read_otherwise_than_meant_is_reported(tmp_path, name, text, shown):
    """One line each, also of a file that was recognized."""
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    (note,) = Reader().notes(tmp_path / name)
    assert shown in note


def test_a_further_suffix_of_text_changes_nothing(tmp_path):
    """Editors append it."""
    rows = read(tmp_path / "a.jsonl.txt", '{"a": 1}\n')
    assert [json.loads(row) for _, row in rows] == [{"a": 1}]
    assert read(tmp_path / "b.txt", "a\n") == [(1, "a")]


@pytest.mark.parametrize("rule", ["---", "* * *", "#####"])
def test_lines_of_signs_are_reported(tmp_path, rule):
    """They are read as text; the line names the separator that divides there."""
    text = f"\n{rule}\n".join(f"text {number}" for number in range(30))
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    assert f'separator: "\\n{rule}\\n"' in Reader().notes(tmp_path / "a.txt")[0]
    separated = Reader("separator", f"\n{rule}\n")
    assert [row for _, row in separated.rows(tmp_path / "a.txt")] == [
        f"text {number}" for number in range(30)
    ]
    assert not separated.notes(tmp_path / "a.txt")


def test_quotes_in_tsv_files_are_letters_unless_they_enclose_fields(tmp_path):
    """Programs that write no quotes leave them in: read as enclosing, they would merge rows without a word."""
    plain = 'id\ttext\n1\t"Hello, he said.\n2\tfoo\n3\t"Bye" he said\n4\tlast\n'
    assert [row["text"] for _, row in read(tmp_path / "a.tsv", plain)] == [
        '"Hello, he said.',
        "foo",
        '"Bye" he said',
        "last",
    ]
    quoted = 'id\ttext\n1\t"two\nlines"\n2\t"tab ""here"""\n'
    assert [row["text"] for _, row in read(tmp_path / "b.tsv", quoted)] == ["two\nlines", 'tab "here"']
    late = "id\ttext\n" + "1\tfine\n" * 200_000 + '2\t"open\n3\tlost\n4\t"closed\n'
    kinds = {type(row) for _, row in read(tmp_path / "c.tsv", late)[-2:]}
    assert BadRow in kinds


def test_two_columns_of_one_name_are_refused(tmp_path):
    with user_error("duplicate_name", "a.csv", name="prompt"):
        read(tmp_path / "a.csv", "prompt,prompt,completion\na,b,c\n")


def test_a_list_inside_rows_is_no_list_of_rows(tmp_path):
    """Only a file that is one object may hold its rows in a list."""
    rows = [{"text": "the doc", "items": ["x", "y"]}, {"text": "other", "items": ["z"]}]
    written = "\n".join(json.dumps(row, indent=1) for row in rows)
    assert [row for _, row in read(tmp_path / "a.jsonl", written)] == rows
    assert [row for _, row in read(tmp_path / "b.json", json.dumps(rows[0]))] == rows[:1]
    asked = [{"id": 1, "questions": [{"q": "a"}]}, {"id": 2, "questions": [{"q": "b"}]}]
    written = "\n".join(json.dumps(row, indent=1) for row in asked)
    assert [row for _, row in read(tmp_path / "c.jsonl", written)] == asked
    for whole in ({"version": "1", "data": asked}, {"data": asked}):
        assert [row for _, row in read(tmp_path / "d.json", json.dumps(whole, indent=1))] == asked
    assert [row for _, row in read(tmp_path / "e.json", json.dumps({"data": ["a", "b"]}))] == ["a", "b"]


def test_values_that_python_cannot_hold_are_one_line(tmp_path):
    bad = (
        pyarrow.array([b"\xff\xfe"], pyarrow.binary())
        .cast(pyarrow.large_binary())
        .view(pyarrow.large_string())
    )
    pyarrow.parquet.write_table(pyarrow.table({"text": bad}), tmp_path / "a.parquet")
    with user_error("unreadable_file", "a.parquet", file=tmp_path / "a.parquet"):
        list(Reader().rows(tmp_path / "a.parquet"))


def test_markers_on_lines_of_their_own_are_no_text(tmp_path):
    (tmp_path / "a.txt").write_text("one\n<|endoftext|>\ntwo\n<|endoftext|>\n")
    assert not any("inside" in note for note in Reader("line").notes(tmp_path / "a.txt"))
