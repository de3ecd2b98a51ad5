"""Control: the sandbox's faults, clock and limits, changed by whoever holds the token that its start names.

    GET, POST, DELETE /_sandbox/faults        GET, POST /_sandbox/clock
    GET, POST, DELETE /_sandbox/limits

Reading needs no token. A change needs `Authorization: Bearer TOKEN` and a JSON body: what a page of a
stranger's can't make a browser send.

TokenError       the token can't be read or kept; the text says what to do
"""

import json
import os
import re
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sandbox.x.control.clock import BackwardsError, Clock, ClockError
from sandbox.x.control.faults import FaultError, Faults
from sandbox.x.control.limit_settings import LimitError, read_limits
from sandbox.x.rate_limits import Limits
from sandbox.x.store.counts import Counts
from sandbox.x.wire.answers import Problem

FILE = "sandbox.token"
TOKEN_BYTES = 32
MAX_BODY_BYTES = 65_536
MAX_SHOWN = 120  # characters of a value that is no text or number
PROBLEM_TYPE = "application/problem+json"
_TOKEN = re.compile(r"[!-~]{16,512}")

Answer = Callable[[Request], Awaitable[Response]]


class TokenError(Exception):
    """The control token can't be read or kept."""


@dataclass(frozen=True, kw_only=True)
class Token:
    """The token, and the line that tells a person of it; a token that somebody else made is only named."""

    value: str
    line: str


class BadControl(Problem):
    """A setting that can't be used: its field, value and what is allowed."""

    def __init__(self, status: int, error: FaultError | ClockError | LimitError) -> None:
        super().__init__(status, "Invalid Request", str(error))
        shown = (
            error.value if isinstance(error.value, str | int | None) else json.dumps(error.value)[:MAX_SHOWN]
        )
        self.body["errors"] = [{"field": error.field, "value": shown, "allowed": error.allowed}]


def find_token(directory: Path, *, kept: bool) -> Token:
    """The token of a state directory: the fleet's, which stands beside it, or its own, made at need.

    Args:
        directory: The sandbox's state directory.
        kept: Whether it outlives the process; one that doesn't has no fleet around it.

    Raises:
        TokenError: the file can't be read, made or used.
    """
    given, own = directory.parent / FILE, directory / FILE
    try:
        if kept and given.exists():
            return Token(value=_read(given), line=f"sandbox: control token in {given}")
        if not own.exists():
            _make(own)
        value = _read(own)
    except OSError as error:
        raise TokenError(f"{error.filename} can't be used ({error.strerror}): see to its rights") from error
    return Token(value=value, line=f"sandbox: control token {value}" + (f" (in {own})" if kept else ""))


def _read(path: Path) -> str:
    value = path.read_text("utf-8", errors="replace").strip()
    if not _TOKEN.fullmatch(value):
        raise TokenError(
            f"{path} holds no token (16 or more characters in a line): remove it and start again"
        )
    return value


def _make(path: Path) -> None:
    """A reader sees the whole file or none."""
    draft = path.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{secrets.token_urlsafe(TOKEN_BYTES)}\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


class Control:
    """The three controls as handlers of requests."""

    def __init__(self, *, token: str, faults: Faults, clock: Clock, limits: Limits, counts: Counts) -> None:
        """Control of these faults, this clock and these limits by the holder of the token."""
        self._token = token.encode()
        self._faults = faults
        self._clock = clock
        self._limits = limits
        self._counts = counts

    async def faults(self, request: Request) -> Response:
        """The armed faults: lists, arms one, clears all."""
        return await self._answer(request, {"GET": self._list, "POST": self._arm, "DELETE": self._clear})

    async def clock(self, request: Request) -> Response:
        """The sandbox's time: gives it, sets it."""
        return await self._answer(request, {"GET": self._show_clock, "POST": self._set_clock})

    async def limits(self, request: Request) -> Response:
        """The most that each limit's windows held, in fixed ones and in any rolling one; sets windows."""
        return await self._answer(
            request, {"GET": self._show_counts, "POST": self._set_limits, "DELETE": self._clear_limits}
        )

    async def _list(self, _request: Request) -> Response:
        return JSONResponse([fault.view() for fault in self._faults.armed()])

    async def _arm(self, request: Request) -> Response:
        try:
            return JSONResponse(self._faults.arm(await _json(request)).view(), 201)
        except FaultError as error:
            raise BadControl(400, error) from error

    async def _clear(self, _request: Request) -> Response:
        return JSONResponse({"cleared": self._faults.clear()})

    async def _show_counts(self, _request: Request) -> Response:
        return JSONResponse(self._counts.view())

    async def _set_limits(self, request: Request) -> Response:
        try:
            given = read_limits(await _json(request))
        except LimitError as error:
            raise BadControl(400, error) from error
        self._limits.set(given.endpoint, given.context, given.windows)
        return JSONResponse(given.view())

    async def _clear_limits(self, _request: Request) -> Response:
        return JSONResponse({"cleared": self._limits.clear()})

    async def _show_clock(self, _request: Request) -> Response:
        return JSONResponse(self._clock.view())

    async def _set_clock(self, request: Request) -> Response:
        try:
            self._clock.set(await _json(request))
        except BackwardsError as error:
            raise BadControl(409, error) from error
        except ClockError as error:
            raise BadControl(400, error) from error
        return JSONResponse(self._clock.view())

    async def _answer(self, request: Request, answers: dict[str, Answer]) -> Response:
        try:
            if request.method != "GET":
                self._check(request)
            return await answers.get(request.method, _no_such_method)(request)
        except Problem as problem:
            # Escaped: what a client sent can hold half a surrogate pair, which has no UTF-8.
            return Response(json.dumps(problem.body), problem.status, media_type=PROBLEM_TYPE)

    def _check(self, request: Request) -> None:
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not secrets.compare_digest(value.strip().encode(), self._token):
            raise Problem(
                401,
                "Unauthorized",
                "Send `Authorization: Bearer` with the token that the sandbox's start names.",
            )
        given = request.headers.get("content-type", "")
        if request.method == "POST" and given.partition(";")[0].strip().lower() != "application/json":
            raise Problem(
                415, "Unsupported Media Type", f"Content-Type is '{given}': expected application/json"
            )


async def _no_such_method(request: Request) -> Response:
    raise Problem(405, "Method Not Allowed", f"{request.method} is not served here")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


async def _json(request: Request) -> object:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise Problem(413, "Payload Too Large", f"The body is longer than {MAX_BODY_BYTES} bytes.")
    with suppress(ValueError, RecursionError):
        value: object = json.loads(body, parse_constant=_no_constant)
        return value
    raise Problem(400, "Invalid Request", "The body is not JSON: expected an object")
