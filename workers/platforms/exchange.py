"""One HTTP/1.1 request and its answer, on a fresh connection, within a total deadline.

Libraries bound each socket operation, so a server that sends one byte a second holds them for ever,
and they retry and follow redirects by themselves. An act on the outside world must happen at most
once and must be known to have left or not to have left; so this module does one thing, once:

    ExchangeError
    ├── NotSent      nothing of the request left the machine: doing it again is safe
    └── Unanswered   the request may have left and no answer came: never repeat a write by itself
"""

import io
import queue
import select
import socket
import ssl
import struct
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import TYPE_CHECKING, cast
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from requests.utils import DEFAULT_CA_BUNDLE_PATH

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BODY_CAP_BYTES = 10_000_000
CHUNK_BYTES = 65_536
DEFAULT_PORTS = {"http": 80, "https": 443}
POLL_RDHUP = getattr(select, "POLLRDHUP", 0)  # Linux only: the peer will write no more
TCP_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux only

Address = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str, int]]


class ExchangeError(Exception):
    """No answer came; the subclass says whether the request may have left."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NotSent(ExchangeError):  # noqa: N818  named for what is known
    """Nothing of the request left the machine; send it again later."""


class Unanswered(ExchangeError):  # noqa: N818  the same
    """The request may have left; before repeating a write, look whether it happened."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be sent: `url` is absolute, http or https; header names and values are latin-1."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = b""

    def encoded(self) -> bytes:
        """The request's bytes as they go to the socket."""
        parts = urlsplit(self.url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [f"{self.method} {path} HTTP/1.1", f"Host: {parts.netloc.rpartition('@')[2]}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        lines += ["Accept-Encoding: identity", "Connection: close"]
        if self.body or self.method not in {"GET", "HEAD"}:
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back; header names are in lower case, cookies left out.

    `fault` says why the body is not whole (cut off, too big, too slow); None when it is whole.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    fault: str | None = None


class Deadline:
    """A point on the monotonic clock after which an exchange is over."""

    def __init__(self, after_s: float) -> None:
        self._at_s = time.monotonic() + after_s

    def remaining_s(self) -> float:
        """Seconds left, more than zero; raises TimeoutError when none are."""
        left_s = self._at_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the deadline has passed")
        return left_s


def trust() -> ssl.SSLContext:
    """Verify certificates and names against the system's authorities and the bundled ones."""
    context = ssl.create_default_context()
    context.load_verify_locations(DEFAULT_CA_BUNDLE_PATH)
    return context


def proxy_for(url: str) -> str | None:
    """The environment's proxy for an https `url`, or None; plain http goes directly."""
    parts = urlsplit(url)
    if parts.scheme != "https" or proxy_bypass(parts.hostname or ""):
        return None
    return getproxies().get("https")


def exchange(  # noqa: PLR0913  each is a separate promise
    request: Request,
    *,
    deadline_s: float,
    tls: ssl.SSLContext | None = None,
    proxy: str | None = None,
    before_write: Callable[[], bool] | None = None,
    user_timeout_s: float | None = None,
) -> Answer:
    """Send `request` once and read its answer; no redirect is followed and nothing is retried.

    Args:
        request: What to send.
        deadline_s: Seconds for everything: names, connection, TLS, request, answer.
        tls: What to trust for https; `trust()` when None.
        proxy: An http proxy's URL to tunnel https through.
        before_write: Called when the connection stands, right before the first byte of the request
            goes to the socket; nothing is written when it returns False.
        user_timeout_s: How long the kernel may go on delivering bytes that nobody acknowledges
            (TCP_USER_TIMEOUT), also after this process has died.

    Raises:
        NotSent: Nothing left: the name, the connection, TLS or `before_write` said no.
        Unanswered: The request may have left, and no answer came.
    """
    deadline = Deadline(deadline_s)
    payload = request.encoded()
    try:
        sock = _connect(urlsplit(request.url), deadline, tls, proxy, user_timeout_s)
    except (OSError, HTTPException, ValueError) as error:
        raise NotSent(_said(error)) from error
    with sock:
        if _is_closed_by_peer(sock):
            raise NotSent("the server closed the connection before the request")
        if before_write is not None and not before_write():
            raise NotSent("too late")
        try:
            _write(sock, payload, deadline)
            return _read(sock, request.method, deadline)
        except BaseException as error:
            _abort(sock)
            # Whatever the parser makes of hostile bytes, the request has left.
            if isinstance(error, Exception):
                raise Unanswered(_said(error)) from error
            raise


def connect(url: str, *, deadline_s: float) -> None:
    """Open a TCP connection to `url`'s host and close it; raises NotSent when that fails."""
    parts = urlsplit(url)
    try:
        _dial(parts.hostname or "", _port(parts), Deadline(deadline_s), None).close()
    except (OSError, ValueError) as error:
        raise NotSent(_said(error)) from error


def _connect(
    url: SplitResult,
    deadline: Deadline,
    tls: ssl.SSLContext | None,
    proxy: str | None,
    user_timeout_s: float | None,
) -> socket.socket:
    """Open the connection as far as the first byte of the request."""
    host, port = url.hostname or "", _port(url)
    via = urlsplit(proxy if "://" in proxy else f"http://{proxy}") if proxy else None
    sock = _dial(via.hostname or "", _port(via), deadline, user_timeout_s) if via else None
    sock = sock or _dial(host, port, deadline, user_timeout_s)
    try:
        if via:
            _tunnel(sock, via, f"{host}:{port}", deadline)
        if url.scheme == "https":
            sock.settimeout(deadline.remaining_s())
            sock = (tls or trust()).wrap_socket(sock, server_hostname=host)
    except BaseException:
        sock.close()
        raise
    return sock


def _dial(host: str, port: int, deadline: Deadline, user_timeout_s: float | None) -> socket.socket:
    """Connect to the first of the host's addresses that answers; each gets a share of the time."""
    addresses = _resolve(host, port, deadline)
    failure: OSError = OSError(f"{host} has no address")
    for position, (family, kind, protocol, _, address) in enumerate(addresses):
        sock = socket.socket(family, kind, protocol)
        try:
            if user_timeout_s is not None and TCP_USER_TIMEOUT is not None:
                sock.setsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, int(user_timeout_s * 1000))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(deadline.remaining_s() / (len(addresses) - position))
            sock.connect(address)
        except OSError as error:
            sock.close()
            failure = error
        else:
            return sock
    raise failure


def _resolve(host: str, port: int, deadline: Deadline) -> list[Address]:
    """Look the name up in a thread of its own: the system's resolver can't be given a time-out."""
    found: queue.SimpleQueue[list[Address] | Exception] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            found.put(cast("list[Address]", socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
        except (OSError, UnicodeError) as error:
            found.put(error)

    threading.Thread(target=look_up, name="resolve", daemon=True).start()
    try:
        answer = found.get(timeout=deadline.remaining_s())
    except queue.Empty:
        raise TimeoutError(f"the name {host} was not resolved in time") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _tunnel(sock: socket.socket, proxy: SplitResult, target: str, deadline: Deadline) -> None:
    """Ask an http proxy for a connection to `target`; nothing of the request is in it."""
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if proxy.username:
        login = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
        lines.append(f"Proxy-Authorization: Basic {b64encode(login).decode()}")
    _write(sock, "\r\n".join([*lines, "", ""]).encode("latin-1"), deadline)
    response = _begin(sock, "CONNECT", deadline)
    if response.status != 200:  # noqa: PLR2004  the only answer that opens a tunnel
        raise ConnectionError(f"the proxy {proxy.hostname} answered {response.status}")


def _write(sock: socket.socket, payload: bytes, deadline: Deadline) -> None:
    left = memoryview(payload)
    while left:
        sock.settimeout(deadline.remaining_s())
        left = left[sock.send(left) :]


def _read(sock: socket.socket, method: str, deadline: Deadline) -> Answer:
    response = _begin(sock, method, deadline)
    headers: dict[str, str] = {}
    for name, value in response.getheaders():
        key = name.lower()
        if key != "set-cookie":
            headers[key] = f"{headers[key]}, {value}" if key in headers else value
    body, fault = _read_body(response)
    if fault is None and headers.get("content-encoding", "identity").lower() != "identity":
        fault = f"it is encoded as {headers['content-encoding']}, which was not asked for"
    return Answer(status=response.status, headers=headers, body=body, fault=fault)


def _begin(sock: socket.socket, method: str, deadline: Deadline) -> HTTPResponse:
    response = HTTPResponse(cast("socket.socket", _Readable(sock, deadline)), method=method)
    response.begin()
    return response


def _read_body(response: HTTPResponse) -> tuple[bytes, str | None]:
    """Read to the end, the cap or the deadline; what came by then is kept with the fault's name."""
    body = bytearray()
    try:
        while chunk := response.read(CHUNK_BYTES):
            body += chunk
            if len(body) > BODY_CAP_BYTES:
                return bytes(body[:BODY_CAP_BYTES]), f"it is longer than {BODY_CAP_BYTES} bytes"
    except Exception as error:  # noqa: BLE001  whatever the parser makes of hostile bytes
        return bytes(body), _said(error)
    if response.length:
        return bytes(body), f"it ended {response.length} bytes early"
    return bytes(body), None


def _is_closed_by_peer(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock, POLL_RDHUP)
    return bool(poll.poll(0))


def _abort(sock: socket.socket) -> None:
    """Let the coming close throw away what the kernel has not delivered yet."""
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _port(url: SplitResult) -> int:
    return url.port or DEFAULT_PORTS[url.scheme]


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


class _Readable:
    """What HTTPResponse wants of a socket: a file, here one that keeps the deadline."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._incoming = _Incoming(sock, deadline)

    def makefile(self, mode: str) -> io.BufferedReader:
        del mode
        return io.BufferedReader(self._incoming)


class _Incoming(io.RawIOBase):
    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        super().__init__()
        self._sock = sock
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        self._sock.settimeout(self._deadline.remaining_s())
        return self._sock.recv_into(buffer)
