# SPDX-License-Identifier: Apache-2.0
"""Batched evaluation beside a loop over single examples."""

from pathlib import Path

import batching_speed
import pytest

from scratch_gpt.settings.parsing import parse


def test_batching_is_timed(chat_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both ways give the same results on all examples."""
    settings = ["--limit", "4", "--batch_size", "4", "--max_new_tokens", "4", "--repeats", "1"]
    words = ["--model", str(chat_folder), *settings]
    batching_speed.main(parse(batching_speed.BatchingSpeedArguments, words))
    output = capsys.readouterr().out
    assert "4/4" in output
    assert "16/16" in output
