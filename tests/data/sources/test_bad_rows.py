# SPDX-License-Identifier: Apache-2.0
"""Counts of bad rows go on after an interruption. The limits are tested with the sources."""

import json

from scratch_gpt.data.sources.bad_rows import BadRows
from wording import shows


def test_restored_counts_go_on():
    """A file in the middle is counted on; one that was read to its end is not counted again."""
    bad_rows = BadRows()
    done, middle = bad_rows.open("s", "done"), bad_rows.open("s", "middle")
    done.rows, done.ended = 500, True
    done.reject(7, "no text")
    middle.rows = 30
    again = BadRows()
    again.restore(json.loads(json.dumps(bad_rows.state())))
    (line,) = again.report()
    assert bad_rows.report() == [line]
    assert shows(line, "done", "1 of 500 rows", "line 7: no text")
    again.open("s", "done").rows += 500
    again.open("s", "middle").rows += 5
    assert [rows for _, _, rows, *_ in again.state()] == [500, 35]
