# SPDX-License-Identifier: Apache-2.0
"""Rows as files that readers read back."""

import json

import pytest

from scratch_gpt.data.rows.examples import example_rows
from scratch_gpt.data.sources.bad_rows import BadRows
from scratch_gpt.data.sources.source import parse_sources


@pytest.fixture
def read(tmp_path):
    """Writes rows to a file and reads them back with a reader."""

    def run(reader, rows, **settings):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        sources = parse_sources([{"name": "s", "path": str(path), **settings}])
        run.bad_rows = BadRows()
        if reader is example_rows:
            return example_rows(sources[0], run.bad_rows)[1]
        return reader(sources, "train", run.bad_rows, 0)

    return run
