# SPDX-License-Identifier: Apache-2.0
"""An application at an address of this machine, until Ctrl-C."""

import contextlib
import socket
from typing import Any

import uvicorn

from scratch_gpt.errors import UserError


# How long an answer that is being written may go on after Ctrl-C.
GRACE_SECONDS = 3


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections at `host` and `port`; 0 is a free port.

    Raises:
        UserError: the port is in use, or the address is not this machine's.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]  # without the address once more
        message = f"cannot listen on {host} port {port}: {reason}; choose another --port or --host"
        raise UserError("cannot_listen", message, port=port) from None


class _Announced(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, announcement: str) -> None:
        super().__init__(config)
        self.announcement = announcement

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print(self.announcement, flush=True)


def run_server(app: Any, listener: socket.socket, announcement: str, log_level: str | None = None) -> None:
    """Answer requests to the ASGI application `app` until Ctrl-C; say so once it does."""
    config = uvicorn.Config(app, log_level=log_level, timeout_graceful_shutdown=GRACE_SECONDS)
    with contextlib.suppress(KeyboardInterrupt):  # passed on by uvicorn, which has ended in order
        _Announced(config, announcement).run(sockets=[listener])
