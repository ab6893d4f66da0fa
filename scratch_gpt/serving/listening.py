# SPDX-License-Identifier: Apache-2.0
"""An application at an address of this machine, until Ctrl-C."""

import contextlib
import ipaddress
import socket
from typing import Any

import uvicorn

from scratch_gpt.errors import UserError


# How long an answer that is being written may continue after Ctrl-C.
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


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None


class HostCheck:
    """ASGI middleware: refuse a request whose Host header is a name that is not this server's.

    A page of another site can point its own name at this machine (DNS rebinding), and the browser then lets it read
    the answers. Its requests carry that name. An address cannot be pointed elsewhere, so any is accepted. A server on
    all interfaces (0.0.0.0, ::) has names that it does not know, such as a proxy's: there any name is accepted.

    Starlette's TrustedHostMiddleware takes a list of names, no addresses, and reads no IPv6 one before version 1.0.
    """

    def __init__(self, app: Any, host: str) -> None:
        self.app = app
        address = _address(host)
        self.allow_any = address is not None and address.is_unspecified
        self.names = {"localhost", host.lower()}

    def allows(self, header: str) -> bool:
        """Whether a request with this Host header is answered."""
        name = header.lower()
        name = name.partition("]")[0] + "]" if name.startswith("[") else name.partition(":")[0]
        return self.allow_any or name.removesuffix(".") in self.names or _address(name) is not None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if len(hosts) == 1 and self.allows(hosts[0]):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            known = " or ".join(sorted(self.names))
            line = f"Host {', '.join(hosts)[:100]!r} is not this server: ask {known}, or start it with another --host\n"
            headers = [(b"content-type", b"text/plain; charset=utf-8")]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": line.encode()})


class _Announced(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, announcement: str) -> None:
        super().__init__(config)
        self.announcement = announcement

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print(self.announcement, flush=True)


def run_server(
    app: Any, listener: socket.socket, host: str, announcement: str, log_level: str | None = None
) -> None:
    """Answer requests to the ASGI application `app` until Ctrl-C; say so once it does.

    `host` is what `listener` listens on, as the user named it: requests that name another host are refused.
    """
    config = uvicorn.Config(
        HostCheck(app, host), log_level=log_level, timeout_graceful_shutdown=GRACE_SECONDS
    )
    with contextlib.suppress(KeyboardInterrupt):  # passed on by uvicorn, which has ended in order
        _Announced(config, announcement).run(sockets=[listener])
