# SPDX-License-Identifier: Apache-2.0
"""One model, one thread: requests wait in line, and the event loop stays free for everybody else.

A second thread reads and tokenizes requests, so that a large one delays neither the answers nor `/health`.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from scratch_gpt.serving.protocol import RequestError


# As many as text-generation-inference lets wait (its max_concurrent_requests).
MAX_WAITING = 128

Result = TypeVar("Result")
Emit = Callable[[Any], None]
Work = Callable[[Emit, threading.Event], None]
Receive = Callable[[], Awaitable[Any]]


class GenerationQueue:
    """Runs work in the order in which it came."""

    def __init__(self) -> None:
        self._preparing = ThreadPoolExecutor(1, "prepare")
        self._working = ThreadPoolExecutor(1, "generate")
        self.waiting = 0  # requests that are prepared, wait or are answered

    @contextlib.contextmanager
    def _place(self) -> Any:
        self.waiting += 1
        try:
            yield
        finally:
            self.waiting -= 1

    async def prepare(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """The result of `function`, computed beside the event loop.

        Raises:
            RequestError: too many requests wait already (status 429).
        """
        if self.waiting >= MAX_WAITING:
            raise RequestError(
                f"{MAX_WAITING} requests are waiting: try again later", status=429, code="queue_full"
            )
        with self._place():
            return await asyncio.get_running_loop().run_in_executor(self._preparing, function, *arguments)

    async def run(self, work: Work, receive: Receive) -> AsyncIterator[Any]:
        """Yield what `work(emit, cancelled)` emits; what it raises is raised here.

        `cancelled` is set when the client hangs up, which the ASGI callable `receive` says, or when whoever iterates
        stops: work that waits is left out, work that runs ends by itself.
        """
        loop, events = asyncio.get_running_loop(), asyncio.Queue[Any]()
        cancelled = threading.Event()
        over = object()

        def emit(event: Any) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the server ends
                loop.call_soon_threadsafe(events.put_nowait, event)

        def run() -> None:
            try:
                if not cancelled.is_set():
                    work(emit, cancelled)
                emit(over)
            except BaseException as error:  # raised again where the pieces are read
                emit(error)

        async def hang_up() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            cancelled.set()
            events.put_nowait(over)

        with self._place():
            future = self._working.submit(run)
            watcher = asyncio.create_task(hang_up())
            try:
                while (event := await events.get()) is not over:
                    if isinstance(event, BaseException):
                        raise event
                    yield event
            finally:
                cancelled.set()
                future.cancel()
                watcher.cancel()

    def close(self) -> None:
        """Drop what waits, and end the threads."""
        for executor in (self._preparing, self._working):
            executor.shutdown(wait=False, cancel_futures=True)
