"""Wire: what the manager process and the keeper say to each other, a packet a message.

A packet is a JSON object over an AF_UNIX SOCK_SEQPACKET pair; open files travel beside it (SCM_RIGHTS, see
unix(7)). Neither side ever waits for the other: what doesn't fit now goes later, in order.
"""

import errno
import json
import os
import signal
import socket
import time
from array import array
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

LARGEST = 1 << 20  # bytes of a packet; an environment may be large
CRASHED = 70
"""EX_SOFTWARE of sysexits.h: a manager process that ends with it died of a fault and is replaced."""
ROOM_FOR_FILES = socket.CMSG_SPACE(8 * array("i").itemsize)  # beside one packet
FULL = (errno.EAGAIN, errno.ENOBUFS, errno.ETOOMANYREFS)


@dataclass(frozen=True, kw_only=True)
class Birth:
    """What the keeper shall give birth to.

    Attributes:
        name: what it is called, such as `poster/1` or `console`.
        worker: the worker's name; None for a program.
        slot: the worker's slot; None for a program.
        argv: the program and its arguments; empty for a worker.
        environment: a program's whole environment; a worker's additions to the keeper's own.
        log: the file that its output is appended to.
        on_orphaned: the signal that it gets when the keeper ends.
        nice: what is added to its niceness.
    """

    name: str
    worker: str | None = None
    slot: int | None = None
    argv: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    log: Path
    on_orphaned: int = signal.SIGKILL
    nice: int = 0


@dataclass(frozen=True, kw_only=True)
class Started:
    """A living child; whoever takes this has its files, and closes them.

    Attributes:
        request: the birth's request number; None when an earlier manager process asked for it.
        name: as it was asked for.
        worker: as it was asked for.
        slot: as it was asked for.
        pid: the process, which leads a session and a group of its own.
        pid_started: its start time as `ProcessIdentity` has it.
        pidfd: refers to the process even when its pid is another's; readable once it ended.
        progress: the reading end of a worker's progress pipe, non-blocking; None for a program.
        wake: a worker's eventfd; None for a program.
        stacks: the file in memory that SIGUSR1 makes a worker write its threads' stacks into; None for a
            program.
        resumed: whether it lived before this manager process did.
        fresh: whether it began as an interpreter of its own, not as a fork of the warm template.
        born_at_s: when it was born, by CLOCK_BOOTTIME.
    """

    FILES: ClassVar[Sequence[str]] = ("pidfd", "progress", "wake", "stacks")

    request: int | None
    name: str
    worker: str | None
    slot: int | None
    pid: int
    pid_started: str
    pidfd: int
    progress: int | None = None
    wake: int | None = None
    stacks: int | None = None
    resumed: bool = False
    fresh: bool = False
    born_at_s: float

    @property
    def age_s(self) -> float:
        """How long it lives, in seconds."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) - self.born_at_s

    def close(self) -> None:
        """Close its files; once."""
        for name in self.FILES:
            if (file := getattr(self, name)) is not None:
                with suppress(OSError):
                    os.close(file)


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A birth that could not be."""

    request: int
    name: str
    error: str


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The end of a child, told until it is acknowledged.

    Attributes:
        number: by which it is acknowledged.
        name: as it was asked for.
        worker: as it was asked for.
        slot: as it was asked for.
        pid: the process.
        pid_started: its start time as `ProcessIdentity` has it.
        exit_code: negative: the signal that ended it.
        ended_at_s: when it ended, by CLOCK_BOOTTIME: it may be read much later than it was sent.
    """

    number: int
    name: str
    worker: str | None = None
    slot: int | None = None
    pid: int
    pid_started: str
    exit_code: int
    ended_at_s: float

    @property
    def ago_s(self) -> float:
        """How long ago it ended, in seconds."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) - self.ended_at_s


@dataclass(frozen=True, kw_only=True)
class Greeting:
    """The keeper's first packet to a manager process; those that it counts follow at once.

    Attributes:
        generation: 1 for the first manager process of this keeper.
        predecessor: how the one before ended; empty for the first.
        is_established: whether one before said that the fleet is.
        told: how many `Started` and `Ended` follow that are older than this manager process.
        answered_at_s: when the database answered the one before last, by CLOCK_BOOTTIME; None: nobody knows.
    """

    generation: int
    predecessor: str
    is_established: bool
    told: int
    answered_at_s: float | None = None


class Line:
    """One side of the pair: packets in, packets out, and nobody waits."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._waiting: deque[tuple[bytes, Sequence[int]]] = deque()
        self.is_closed = False
        """Whether the other side is gone."""

    def fileno(self) -> int:
        """The socket, readable when a packet is there."""
        return self._channel.fileno()

    @property
    def is_full(self) -> bool:
        """Whether packets wait until the other side has read; `flush` when it is writable."""
        return bool(self._waiting)

    def send(self, kind: str, fields: Mapping[str, Any], files: Sequence[int] = ()) -> None:
        """Send a packet, now or later; `files` stay the caller's, who may close them.

        Raises:
            OSError: the packet is larger than a socket takes (EMSGSIZE).
        """
        packet = json.dumps({"kind": kind, **fields}).encode()
        if self._waiting or not self._try(packet, files):
            self._waiting.append((packet, [os.dup(file) for file in files]))

    def flush(self) -> None:
        """Send what waits, as far as it goes."""
        while self._waiting and self._try(*self._waiting[0]):
            self._drop()

    def receive(self, *, wait: bool = False) -> tuple[str, dict[str, Any], Sequence[int]] | None:
        """The next packet: its kind, its fields and its files; None when there is none now."""
        flags = socket.MSG_CMSG_CLOEXEC | (0 if wait else socket.MSG_DONTWAIT)
        try:
            # Not recv_fds: it drops the flags.
            packet, rights, _, _ = self._channel.recvmsg(LARGEST, ROOM_FOR_FILES, flags)
        except BlockingIOError:
            return None
        except ConnectionError:
            packet, rights = b"", []
        if not packet:
            self.is_closed = True
            return None
        fields = json.loads(packet)
        return fields.pop("kind"), fields, [file for *_, sent in rights for file in array("i", sent)]

    def close(self) -> None:
        """Close this side."""
        while self._waiting:
            self._drop()
        self._channel.close()

    def _drop(self) -> None:
        for file in self._waiting.popleft()[1]:
            os.close(file)

    def _try(self, packet: bytes, files: Sequence[int]) -> bool:
        """Whether the packet left, or never can because nobody is there any more."""
        flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
        try:
            # Not send_fds: it would add an empty list of files, and drop the flags.
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", files))] if files else []
            self._channel.sendmsg([packet], rights, flags)
        except ConnectionError:
            self.is_closed = True
        except OSError as error:
            if error.errno not in FULL:
                raise
            return False
        return True


def fields_of(value: Birth | Started | Refused | Ended | Greeting) -> dict[str, Any]:
    """A value as JSON has it."""
    fields = dict(vars(value))
    if isinstance(value, Birth):
        fields |= {"log": str(value.log), "environment": dict(value.environment)}
    return fields
