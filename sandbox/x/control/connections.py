"""Connections: uvicorn's HTTP connection, which an answer may reset, and whose end a request may wait for."""

import asyncio
import socket
import struct

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

_LINGER_NOT = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: closing sends RST, not FIN


class Connection(H11Protocol):
    """One client's connection; each of its requests finds it in `request.state.connection`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The client has connected."""
        super().connection_made(transport)
        self.gone = asyncio.Event()
        self.app_state = {**self.app_state, "connection": self}

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has left, or was left."""
        super().connection_lost(exc)
        self.gone.set()

    async def reset(self) -> None:
        """Ends the connection by a TCP reset; what wasn't sent yet is thrown away."""
        if self.gone.is_set():
            return
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        self.transport.abort()
        await self.gone.wait()


class Reset(Response):
    """No answer: the connection is reset. In the log its status is 0."""

    def __init__(self) -> None:
        super().__init__()
        self.status_code = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's form
        """Resets the connection in the answer's place."""
        await connection_of(scope).reset()


def connection_of(scope: Scope) -> Connection:
    """The connection that a request came by."""
    connection: Connection = scope["state"]["connection"]
    return connection


async def client_has_left(request: Request, patience_s: float) -> bool:
    """Waits for the client to close its connection, at most so many seconds; whether it did."""
    try:
        async with asyncio.timeout(patience_s):
            return await connection_of(request.scope).gone.wait()
    except TimeoutError:
        return False
