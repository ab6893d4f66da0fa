# SPDX-License-Identifier: Apache-2.0
"""Counts of bad rows go on after an interruption. The limits are tested with the sources."""

import json

from scratch_gpt.data.sources.bad_rows import BadRows
from wording import shows, user_error


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
    assert [rows for _, _, _, rows, *_ in again.state()] == [500, 35]


def test_the_limit_is_that_of_the_source():
    """3 of 100 rows are too many by default and fewer than a share of 0.05; with a share of 1 all may be bad."""
    for limit, bad, refused in ((0.01, 3, True), (0.05, 3, False), (0.05, 6, True), (1, 100, False)):
        file = BadRows().open("s", "f", limit)
        for line in range(1, bad + 1):
            file.rows = 100
            file.reject(line, "no text")
        if refused:
            with user_error("too_many_bad_rows", f"{bad} of 100", "max_bad_rows", limit, place="f:1"):
                file.check()
        else:
            file.check()


def test_notes_of_a_source_are_added_up():
    """Files of one source with the same remark are one line, which counts them and names the first."""
    bad_rows = BadRows()
    for source, name in (("s", "a"), ("s", "b"), ("t", "c")):
        bad_rows.open(source, name).note("read as text", name)
    again = BadRows()
    again.restore(json.loads(json.dumps(bad_rows.state())))
    first, second = again.report()
    assert bad_rows.report() == [first, second]
    assert shows(first, "'s'", "read as text", "2, the first in a")
    assert shows(second, "'t'", "1, the first in c")
