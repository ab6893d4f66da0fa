# SPDX-License-Identifier: Apache-2.0
"""Signals become a wish, and the old handlers come back."""

import os
import signal

import pytest

from scratch_gpt.runs.graceful_shutdown import GracefulShutdown


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noted_and_becomes_the_exit_status(number) -> None:
    """128 + its number; nothing is thrown at the place where it arrives."""
    before = signal.getsignal(number)
    with GracefulShutdown() as shutdown:
        assert not shutdown.requested
        os.kill(os.getpid(), number)
        assert shutdown.requested
        with pytest.raises(SystemExit) as left:
            shutdown.exit()
    assert left.value.code == 128 + number
    assert signal.getsignal(number) is before


def test_the_third_interrupt_ends_at_once() -> None:
    """The first two may be one keystroke, passed on by a launcher."""
    with GracefulShutdown():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_process_that_was_not_told_itself_leaves_too() -> None:
    """Another process of the run got the signal."""
    with pytest.raises(SystemExit) as left:
        GracefulShutdown().exit()
    assert left.value.code == 143
