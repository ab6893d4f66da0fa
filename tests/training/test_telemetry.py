# SPDX-License-Identifier: Apache-2.0
"""log.jsonl: one row a step, also over interruptions."""

from scratch_gpt.training.telemetry import RunLog


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
