# SPDX-License-Identifier: Apache-2.0
"""Formats: rows keep their numbers wherever reading begins. What the formats hold is tested with the sources."""

import gzip

import pyarrow
import pyarrow.parquet
import pytest

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
    (tmp_path / "a.txt").write_bytes(b"fine\n\x00\x01\n")
    with user_error("binary_file", place=f"{tmp_path}/a.txt:2"):
        list(Reader().rows(tmp_path / "a.txt"))
