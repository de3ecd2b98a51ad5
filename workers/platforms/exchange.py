"""One HTTP/1.1 request and its answer, on a fresh connection, within a total deadline.

Libraries bound each socket operation, so a server that sends one byte a second holds them for ever,
and they retry and follow redirects by themselves. An act on the outside world must happen at most
once and must be known to have left or not to have left; so this module does one thing, once:

    ExchangeError
    ├── NotSent      nothing of the request left the machine: doing it again is safe
    └── Unanswered   the request may have left and no answer came: never repeat a write by itself
"""

import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from urllib.parse import urlsplit

from workers.platforms.connection import (
    Deadline,
    abort,
    begin_response,
    dial,
    is_closed_by_peer,
    open_connection,
    port_of,
    write,
)

BODY_CAP_BYTES = 10_000_000
CHUNK_BYTES = 65_536


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
        """The request's bytes as they go to the socket; raises ValueError for a broken header."""
        parts = urlsplit(self.url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [f"{self.method} {path} HTTP/1.1", f"Host: {parts.netloc.rpartition('@')[2]}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        lines += ["Accept-Encoding: identity", "Connection: close"]
        if self.body or self.method not in {"GET", "HEAD"}:
            lines.append(f"Content-Length: {len(self.body)}")
        if any("\r" in line or "\n" in line for line in lines):
            raise ValueError("a header holds a line break")
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


def exchange(
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
    try:
        payload = request.encoded()
        sock = open_connection(urlsplit(request.url), deadline, tls, proxy, user_timeout_s)
    except (OSError, HTTPException, ValueError) as error:
        raise NotSent(_said(error)) from error
    with sock:
        if is_closed_by_peer(sock):
            raise NotSent("the server closed the connection before the request")
        if before_write is not None and not before_write():
            raise NotSent("too late")
        if deadline.has_passed():
            raise NotSent("the deadline passed before the request")
        try:
            write(sock, payload, deadline)
            return _read(sock, request.method, deadline)
        except BaseException as error:
            abort(sock)
            # Whatever the parser makes of hostile bytes, the request has left.
            if isinstance(error, Exception):
                raise Unanswered(_said(error)) from error
            raise


def connect(url: str, *, deadline_s: float) -> None:
    """Open a TCP connection to `url`'s host and close it; raises NotSent when that fails."""
    parts = urlsplit(url)
    try:
        dial(parts.hostname or "", port_of(parts), Deadline(deadline_s), None).close()
    except (OSError, ValueError) as error:
        raise NotSent(_said(error)) from error


def _read(sock: socket.socket, method: str, deadline: Deadline) -> Answer:
    response = begin_response(sock, method, deadline)
    headers: dict[str, str] = {}
    for name, value in response.getheaders():
        key = name.lower()
        if key != "set-cookie":
            headers[key] = f"{headers[key]}, {value}" if key in headers else value
    body, fault = _read_body(response)
    if fault is None and headers.get("content-encoding", "identity").lower() != "identity":
        fault = f"it is encoded as {headers['content-encoding']}, which was not asked for"
    return Answer(status=response.status, headers=headers, body=body, fault=fault)


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


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
