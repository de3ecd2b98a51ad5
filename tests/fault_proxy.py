"""A TCP proxy before a server, which fails as networks do; its mode is switched while connections live.

    with FaultProxy("/run/.s.PGSQL.5432") as proxy:
        dsn = proxy.dsn(server_dsn)
        proxy.switch("black-hole")

pass        bytes go both ways
delay       bytes go both ways, each `delay_s` later
cut         every connection is reset, and each new one as soon as it is made
black-hole  nobody answers: bytes of both sides are swallowed, new connections wait unaccepted
half-open   the server's side of each connection ended, and the client was not told; nobody answers

A connection that lost bytes, or its other side, is reset when the mode lets bytes pass again: its streams
have a hole. One that said nothing in the meantime goes on.
"""

import asyncio
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Literal, Self, cast
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

Mode = Literal["pass", "delay", "cut", "black-hole", "half-open"]
Upstream = str | tuple[str, int]
"""A unix socket's path, or host and port."""

RESET = struct.pack("ii", 1, 0)  # SO_LINGER on with no time: close() sends RST
SILENT = ("black-hole", "half-open")
BACKLOG = 128


class FaultProxy:
    """One listening address before one server; a thread of its own carries the bytes."""

    def __init__(self, upstream: Upstream, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._upstream = upstream
        self._place = (host, port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault proxy", daemon=True)
        self._listener: socket.socket | None = None
        self._accepts = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._pairs: set[_Pair] = set()
        self.mode: Mode = "pass"
        self.delay_s = 0.0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens: host and port."""
        assert self._listener, "the proxy was not started"
        return cast("tuple[str, int]", self._listener.getsockname()[:2])

    @property
    def connections(self) -> int:
        """How many connections stand, by the proxy's own count."""
        return self._call(self._count())

    def dsn(self, dsn: str) -> str:
        """The same `postgresql://` login, by way of this proxy."""
        parts = urlsplit(dsn)
        host, port = self.address
        login, at, _ = parts.netloc.rpartition("@")
        query = [(name, value) for name, value in parse_qsl(parts.query) if name not in {"host", "port"}]
        return urlunsplit(parts._replace(netloc=f"{login}{at}{host}:{port}", query=urlencode(query)))

    def start(self) -> None:
        """Listen; does nothing when it does already."""
        if self._listener is None:
            self._listener = socket.create_server(self._place, backlog=BACKLOG)
            self._listener.setblocking(False)
            self._thread.start()
            self._call(self._switch("pass", 0.0))

    def stop(self) -> None:
        """Reset every connection and end; does nothing when it doesn't run."""
        if self._listener is None:
            return
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._listener.close()
        self._listener = None

    def switch(self, mode: Mode, *, delay_s: float = 0.0) -> None:
        """Change the mode; when this returns, standing connections are treated so."""
        self._call(self._switch(mode, delay_s))

    # On the loop's thread

    def _call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _count(self) -> int:
        return len(self._pairs)

    async def _switch(self, mode: Mode, delay_s: float) -> None:
        self.mode, self.delay_s = mode, delay_s
        for pair in list(self._pairs):
            if mode == "cut" or (mode not in SILENT and pair.has_hole):
                pair.reset()
            elif mode == "half-open":
                pair.lose_server()
        self._accept(wanted=mode not in SILENT)
        await asyncio.sleep(0)  # what was reset is closed in the loop's next turn

    async def _end(self) -> None:
        self._accept(wanted=False)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for pair in list(self._pairs):
            pair.reset()
        await asyncio.sleep(0)

    def _accept(self, *, wanted: bool) -> None:
        assert self._listener
        if wanted and not self._accepts:
            self._loop.add_reader(self._listener, self._take)
        elif self._accepts and not wanted:
            self._loop.remove_reader(self._listener)
        self._accepts = wanted

    def _take(self) -> None:
        assert self._listener
        with suppress(BlockingIOError, ConnectionError):
            taken, _ = self._listener.accept()
            if self.mode == "cut":
                _reset(taken)
                return
            taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = self._loop.create_task(self._join(taken))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _join(self, taken: socket.socket) -> None:
        """Connect the server's side, then begin to carry."""
        pair = _Pair(self)
        server: asyncio.Transport | None = None
        try:
            if isinstance(self._upstream, str):
                server, _ = await self._loop.create_unix_connection(lambda: pair.server, self._upstream)
            else:
                server, _ = await self._loop.create_connection(lambda: pair.server, *self._upstream)
            await self._loop.connect_accepted_socket(lambda: pair.client, taken)
        except OSError:  # nobody listens there: the client sees a reset
            _reset(taken)
            return
        except asyncio.CancelledError:
            taken.close()
            if server:
                server.abort()
            raise
        self._pairs.add(pair)
        pair.ended = lambda: self._pairs.discard(pair)
        if self.mode == "cut":
            pair.reset()


def _reset(taken: socket.socket) -> None:
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    taken.close()


class _Pair:
    """The two sides of one connection."""

    def __init__(self, proxy: FaultProxy) -> None:
        self.has_hole = False
        self.ended: Callable[[], None] = lambda: None
        self.client = _Side(self, proxy)
        self.server = _Side(self, proxy)
        self.client.other, self.server.other = self.server, self.client

    def reset(self) -> None:
        """End both sides with RST."""
        self.client.abort()
        self.server.abort()
        self.ended()

    def lose_server(self) -> None:
        """End the server's side only."""
        self.has_hole = True
        self.server.abort()


class _Side(asyncio.Protocol):
    """One side: what it says goes to the other, as the proxy's mode has it."""

    other: "_Side"

    def __init__(self, pair: _Pair, proxy: FaultProxy) -> None:
        self._pair = pair
        self._proxy = proxy
        self._early: list[bytes] = []
        self._late: deque[bytes | None] = deque()
        self.transport: asyncio.Transport | None = None

    @property
    def is_gone(self) -> bool:
        """Whether it stood and is over."""
        return self.transport is not None and self.transport.is_closing()

    def abort(self) -> None:
        """End it with RST."""
        if self.transport and not self.is_gone:
            if (end := self.transport.get_extra_info("socket")).family != socket.AF_UNIX:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self.transport.abort()

    def write(self, data: bytes | None) -> None:
        """Send it on; None is the stream's end."""
        if self.transport is None:
            self._early += [data] if data else []
        elif not self.is_gone:
            self.transport.write(data) if data else self.transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send what the other side said before this one stood."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.writelines(self._early)

    def data_received(self, data: bytes) -> None:
        """Carry it."""
        self._carry(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the other side, as the mode has it."""
        del exc
        self._carry(None)
        if self.other.is_gone:
            self._pair.ended()

    def pause_writing(self) -> None:
        """The other side speaks faster than this one hears."""
        if self.other.transport:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        """This one has heard."""
        if self.other.transport and not self.other.is_gone:
            self.other.transport.resume_reading()

    def _carry(self, data: bytes | None) -> None:
        """Hand a piece to the other side now, later, or never."""
        if self._proxy.mode == "delay" or self._late:
            self._late.append(data)
            asyncio.get_running_loop().call_later(self._proxy.delay_s, self._hand_late)
        else:
            self._hand(data)

    def _hand_late(self) -> None:
        self._hand(self._late.popleft())

    def _hand(self, data: bytes | None) -> None:
        if self._proxy.mode in SILENT:
            self._pair.has_hole = True
        else:
            self.other.write(data)
