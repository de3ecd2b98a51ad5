"""manager.sock: stop, start, restart and status on this host while the database is away, and else too.

A JSON line in: {"do", "name", "actor", "reason"}. One out: {"ok", "text", "slots", "stale_since"}.
The socket is this user's alone (0600); what it carries out is audited as soon as the database answers.
"""

import json
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from coordination.plain import plain
from host.state_directory import MANAGER_SOCKET

LONGEST_REQUEST = 65536
MOST_CALLERS = 32
ACTIONS = ("stop", "start", "restart", "status")
TEXT_LENGTH = 500


class RequestRefusedError(ValueError):
    """A request that can't be carried out; the text says which would do."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a caller asks.

    Attributes:
        name: `poster`, `poster/1`, or `*` for all.
        actor: who asks, for the audit.
    """

    do: Literal["stop", "start", "restart", "status"]
    name: str = "*"
    actor: str = ""
    reason: str = ""


Answer = Callable[[Request], Mapping[str, Any]]


class LocalLine:
    """The listening side, on the manager's main thread: it waits half a second at most, to be read."""

    def __init__(
        self,
        state: Path,
        answer: Answer,
        *,
        watch: Callable[[int, Callable[[], None]], None],
        unwatch: Callable[[int], None],
    ) -> None:
        """Name the parts.

        Args:
            state: the directory that the socket is in.
            answer: carries a request out; raises `RequestRefusedError`.
            watch: has a function called when a file descriptor can be read.
            unwatch: ends that.
        """
        self._path = state / MANAGER_SOCKET
        self._answer = answer
        self._watch = watch
        self._unwatch = unwatch
        self._listening: socket.socket | None = None
        self._callers: dict[int, _Caller] = {}

    def open(self) -> None:
        """Listen; the socket of a manager that is no more is replaced.

        Raises:
            OSError: the state directory can't hold a socket.
        """
        self._listening = _bound(self._path)
        self._watch(self._listening.fileno(), self._accept)

    def close(self) -> None:
        """Hang up and remove the socket; safe when it was never opened."""
        if self._listening is not None:
            self._unwatch(self._listening.fileno())
            self._listening.close()
            self._listening = None
            self._path.unlink(missing_ok=True)
        for caller in list(self._callers.values()):
            self._hang_up(caller)

    def _accept(self) -> None:
        with suppress(OSError):
            if self._listening is not None:
                channel, _ = self._listening.accept()
                channel.setblocking(False)
                if len(self._callers) >= MOST_CALLERS:
                    self._hang_up(next(iter(self._callers.values())))
                caller = _Caller(channel=channel)
                self._callers[channel.fileno()] = caller
                self._watch(channel.fileno(), lambda: self._read(caller))

    def _read(self, caller: "_Caller") -> None:
        try:
            read = caller.channel.recv(LONGEST_REQUEST)
        except BlockingIOError:
            return
        except OSError:
            read = b""
        caller.said += read
        if b"\n" in caller.said:
            answer = self._answered(caller.said.partition(b"\n")[0])
            with suppress(OSError):  # the caller left, or doesn't read: it is its own matter
                caller.channel.setblocking(True)
                caller.channel.settimeout(0.5)
                caller.channel.sendall(json.dumps(answer, ensure_ascii=False).encode() + b"\n")
            self._hang_up(caller)
        elif not read or len(caller.said) > LONGEST_REQUEST:
            self._hang_up(caller)

    def _answered(self, line: bytes) -> Mapping[str, Any]:
        try:
            return self._answer(_request(line))
        except RequestRefusedError as error:
            return {"ok": False, "text": str(error), "slots": [], "stale_since": None}

    def _hang_up(self, caller: "_Caller") -> None:
        number = caller.channel.fileno()
        self._callers.pop(number, None)
        self._unwatch(number)
        caller.channel.close()


@dataclass(kw_only=True)
class _Caller:
    channel: socket.socket
    said: bytes = b""


def _request(line: bytes) -> Request:
    try:
        read: object = json.loads(line)
    except (ValueError, RecursionError):  # brackets without end
        raise RequestRefusedError("the request is no JSON line") from None
    fields = cast("dict[str, Any]", read) if isinstance(read, dict) else {}
    do = fields.get("do")
    if do not in ACTIONS:
        raise RequestRefusedError(f"do is {do!r}: it must be one of {', '.join(ACTIONS)}")
    texts = {key: plain(str(fields.get(key) or ""))[:TEXT_LENGTH] for key in ("name", "actor", "reason")}
    return Request(do=do, **(texts | {"name": texts["name"] or "*"}))


def _bound(path: Path) -> socket.socket:
    """A listening socket of this user's, however long its path is: sun_path takes 107 bytes (unix(7))."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    before = os.umask(0o177)
    try:
        path.unlink(missing_ok=True)
        listening.bind(f"/proc/self/fd/{directory}/{path.name}")
        listening.listen(MOST_CALLERS)
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    finally:
        os.umask(before)
        os.close(directory)
    return listening
