# SPDX-License-Identifier: Apache-2.0
"""log.jsonl: one row a step, also over interruptions."""

import math

from scratch_gpt.runs.log import RunLog, check_trackers
from wording import user_error


def test_rows_after_the_resumed_step_are_forgotten(tmp_path) -> None:
    """Resuming at step 20 keeps the rows up to 20, and a torn last line is dropped."""
    log = RunLog(tmp_path / "log.jsonl")
    for step in (10, 20, 30):
        log.write(step=step, loss=1.0 / 3)
    with log.path.open("a") as file:
        file.write('{"step": 40, "lo')
    assert [row["step"] for row in log.rows()] == [10, 20, 30]
    log.truncate_after(20)
    log.write(step=30, loss=0.5)
    assert [row["step"] for row in log.rows()] == [10, 20, 30]
    assert log.rows()[0]["loss"] == 0.333333333


def test_a_sample_may_hold_any_character(tmp_path) -> None:
    """Also those that end a line elsewhere; nothing behind them is lost."""
    path = tmp_path / "samples.jsonl"
    texts = ["a\u2028b", "\u2029", "\x85 c", "d\n"]
    path.write_text(
        "".join(f'{{"step": {n}, "text": "{t.strip()}"}}\n' for n, t in enumerate(texts)), "utf-8"
    )
    assert [row["text"] for row in RunLog(path).rows()] == [text.strip() for text in texts]


def test_trackers_that_cannot_be_used_are_named(monkeypatch) -> None:
    """One that Accelerate does not know, and one that is not installed."""
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", list)
    check_trackers([])
    with user_error("wrong_value", setting="report_to", value="diary"):
        check_trackers(["diary"])
    with user_error("missing_package", "pip install trackio", package="trackio"):
        check_trackers(["trackio"])


def test_a_float32_is_read_back_with_all_its_bits(tmp_path) -> None:
    """Nine digits: so equal rows are equal losses."""
    log = RunLog(tmp_path / "log.jsonl")
    values = [math.ldexp(1 + k / 2**23, -3) for k in (1, 2, 3)]  # neighbours among float32 numbers
    for value in values:
        log.write(step=0, loss=value)
    assert len({row["loss"] for row in log.rows()}) == 3
