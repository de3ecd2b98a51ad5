"""A fresh TCP or TLS connection that keeps a total deadline and delivers nothing late."""

import io
import queue
import select
import socket
import ssl
import struct
import threading
import time
from base64 import b64encode
from contextlib import suppress
from http.client import HTTPResponse
from typing import TYPE_CHECKING, cast
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from requests.utils import DEFAULT_CA_BUNDLE_PATH

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

DEFAULT_PORTS = {"http": 80, "https": 443}
POLL_RDHUP = getattr(select, "POLLRDHUP", 0)  # Linux only: the peer will write no more
TCP_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux only

Address = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str, int]]


class Deadline:
    """A point on the monotonic clock after which an exchange is over."""

    def __init__(self, after_s: float) -> None:
        self._at_s = time.monotonic() + after_s

    def has_passed(self) -> bool:
        """Whether nothing more may be done."""
        return time.monotonic() >= self._at_s

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


def open_connection(
    url: SplitResult,
    deadline: Deadline,
    tls: ssl.SSLContext | None,
    proxy: str | None,
    user_timeout_s: float | None,
) -> socket.socket:
    """Open the connection as far as the first byte of the request."""
    host, port = url.hostname or "", port_of(url)
    via = urlsplit(proxy if "://" in proxy else f"http://{proxy}") if proxy else None
    sock = dial(via.hostname or "", port_of(via), deadline, user_timeout_s) if via else None
    sock = sock or dial(host, port, deadline, user_timeout_s)
    try:
        if via:
            _tunnel(sock, via, f"[{host}]:{port}" if ":" in host else f"{host}:{port}", deadline)
        if url.scheme == "https":
            sock.settimeout(deadline.remaining_s())
            sock = (tls or trust()).wrap_socket(sock, server_hostname=host)
    except BaseException:
        sock.close()
        raise
    return sock


def dial(host: str, port: int, deadline: Deadline, user_timeout_s: float | None) -> socket.socket:
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
    write(sock, "\r\n".join([*lines, "", ""]).encode("latin-1"), deadline)
    response = begin_response(sock, "CONNECT", deadline)
    if response.status != 200:  # noqa: PLR2004  the only answer that opens a tunnel
        raise ConnectionError(f"the proxy {proxy.hostname} answered {response.status}")


def write(sock: socket.socket, payload: bytes, deadline: Deadline) -> None:
    """Hand all of `payload` to the kernel within the deadline."""
    left = memoryview(payload)
    while left:
        sock.settimeout(deadline.remaining_s())
        left = left[sock.send(left) :]


def begin_response(sock: socket.socket, method: str, deadline: Deadline) -> HTTPResponse:
    """Read the answer's head; its body is read from what is returned, within the same deadline."""
    response = HTTPResponse(cast("socket.socket", _Readable(sock, deadline)), method=method)
    response.begin()
    return response


def is_closed_by_peer(sock: socket.socket) -> bool:
    """Whether the peer has closed or reset the connection already."""
    poll = select.poll()
    poll.register(sock, POLL_RDHUP)
    return bool(poll.poll(0))


def abort(sock: socket.socket) -> None:
    """Let the coming close throw away what the kernel has not delivered yet."""
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def port_of(url: SplitResult) -> int:
    """The port that `url` names, or its scheme's."""
    return url.port or DEFAULT_PORTS[url.scheme]


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
