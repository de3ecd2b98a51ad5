"""A sandbox whose faults and clock a test holds, and clients close enough to the wire to see what comes."""

import contextlib
import http.client
import socket
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from tests.integration.sandbox.running import OAuth1, Sandbox, running

PATIENCE_S = 60.0
SMALL = "created_at,text,user\n2026-01-01T10:00:00Z,Tea,ada\n"


@dataclass(frozen=True, kw_only=True)
class RawAnswer:
    """An answer as it came: the status, the headers in lower case, the body."""

    status: int
    headers: dict[str, str]
    body: bytes


class RawClient:
    """One TCP connection to the sandbox with one request on it."""

    def __init__(self, prepared: requests.PreparedRequest) -> None:
        parts = urlsplit(str(prepared.url))
        self.socket = socket.create_connection(
            (str(parts.hostname), int(parts.port or 0)), timeout=PATIENCE_S
        )
        body = prepared.body or b""
        content = body if isinstance(body, bytes) else str(body).encode()
        given: dict[str, Any] = dict(prepared.headers)
        headers = {"Host": parts.netloc, **given, "Connection": "close"}
        lines = [f"{prepared.method} {prepared.path_url} HTTP/1.1"]
        for name, value in headers.items():
            lines.append(f"{name}: {value.decode() if isinstance(value, bytes) else value}")
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + content)

    def answer(self) -> RawAnswer:
        """Reads the answer to its end; raises ConnectionResetError where the sandbox resets."""
        with self.socket, contextlib.closing(http.client.HTTPResponse(self.socket)) as came:
            if not self.socket.recv(1, socket.MSG_PEEK):
                raise ConnectionAbortedError("closed in peace, without an answer")
            came.begin()
            headers = {name.lower(): value for name, value in came.getheaders()}
            return RawAnswer(status=came.status, headers=headers, body=came.read())

    def close(self) -> None:
        """Gives up."""
        self.socket.close()


@dataclass(frozen=True, kw_only=True)
class Controlled:
    """A running sandbox and its control token."""

    sandbox: Sandbox
    state: Path
    token: str

    def control(self, method: str, name: str, body: Any = None) -> requests.Response:
        """A request to `/_sandbox/NAME` with the token."""
        return requests.request(
            method,
            f"{self.sandbox.url}/_sandbox/{name}",
            json=body,
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=PATIENCE_S,
        )

    def arm(self, fault: str, **fields: Any) -> dict[str, Any]:
        """Arms a fault."""
        armed = self.control("POST", "faults", {"fault": fault, **fields})
        assert armed.status_code == 201, armed.text
        found: dict[str, Any] = armed.json()
        return found

    def clear(self) -> None:
        """Clears all faults."""
        assert self.control("DELETE", "faults").status_code == 200

    def fired(self) -> list[int]:
        """How often each fault fired, in the order of arming."""
        return [fault["fired"] for fault in self.sandbox.own("faults")]

    def now(self) -> datetime:
        """The sandbox's time."""
        return datetime.fromisoformat(self.sandbox.own("clock")["now"])

    def set_clock(
        self, fleet0: datetime, rate: float = 1, real0: datetime | None = None
    ) -> requests.Response:
        """Lets the sandbox's time be `fleet0` now, or at a real time."""
        real0 = real0 or datetime.now(UTC)
        clock = {"real0": real0.isoformat(), "fleet0": fleet0.isoformat(), "rate": rate}
        return self.control("POST", "clock", clock)

    def advance(self, seconds: float) -> None:
        """Lets time jump."""
        assert self.set_clock(self.now() + timedelta(seconds=seconds)).status_code == 200

    def raw(self, method: str, path: str, body: Any = None) -> RawClient:
        """A signed request on a connection of its own."""
        names = ("x_consumer_key", "x_consumer_secret", "x_access_token", "x_access_token_secret")
        auth = OAuth1(*(self.sandbox.keys[name] for name in names))
        url = self.sandbox.url + path
        return RawClient(requests.Request(method, url, json=body, auth=auth).prepare())

    def post(self, text: str) -> RawClient:
        """A signed post on a connection of its own."""
        return self.raw("POST", "/2/tweets", {"text": text})

    def writes(self) -> list[str]:
        """The texts that the sandbox accepted."""
        return [write["text"] for write in self.sandbox.own("writes")]


@contextlib.contextmanager
def controlled(state: Path, world: str = SMALL) -> Generator[Controlled]:
    """A sandbox run by hand: its token is its own, its world a file in which nobody lives."""
    file = state.with_name("world.csv")
    file.write_text(world)
    with running(state, "--world", file) as sandbox:
        token = (state / "sandbox.token").read_text().strip()
        yield Controlled(sandbox=sandbox, state=state, token=token)


def until(holds: Callable[[], bool], within_s: float = PATIENCE_S) -> None:
    """Asks until it holds; each question is a request, so nothing spins."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
