# SPDX-License-Identifier: Apache-2.0
"""SIGTERM and SIGINT as a wish that the training loop fulfils between two steps."""

import signal
from pathlib import Path
from types import FrameType, TracebackType


class GracefulShutdown:
    """While entered, signals are only noted: the loop asks `requested`, saves, and calls `leave`.

    The third Ctrl-C ends the process at once, as it would without this. (Not the second: a launcher may pass on the one
    that the terminal has sent already.)
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.received: list[int] = []

    def __enter__(self) -> "GracefulShutdown":
        self._previous = {number: signal.signal(number, self._note) for number in self.SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received.append(number)
        if self.received.count(signal.SIGINT) == 3:
            raise KeyboardInterrupt

    @property
    def requested(self) -> bool:
        """Whether this process received a signal to stop."""
        return bool(self.received)

    def exit(self) -> None:
        """End the process with the exit status that shells give to its signal: the run is not complete."""
        raise SystemExit(128 + (self.received or [signal.SIGTERM])[0])


def interrupted_line(checkpoint: Path) -> str:
    """What an interrupted run says when it has saved all that it was."""
    return f"interrupted: saved {checkpoint}; the same command with --resume_from_checkpoint latest resumes"
