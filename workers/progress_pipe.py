"""The progress pipe: a worker's words to its manager, one line each, whatever the database does.

A word is shorter than PIPE_BUF, so that a write is whole or not at all. Nobody waits on either side: a full
pipe drops the word, and what stands is told again with every beat.
"""

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Final

from coordination.heartbeats import State
from coordination.plain import plain

VARIABLE: Final = "SOCIALFLEET_PROGRESS_FD"
"""The environment's name for the writing end."""
LINE_BYTES: Final = 512
"""What a line stays below: the least that POSIX lets a pipe take in one piece."""
REASON_LENGTH: Final = 80
STEP_LENGTH: Final = 40
READ_BYTES: Final = 65536
"""What a pipe holds: one read takes all of it."""


@dataclass(frozen=True, kw_only=True)
class Word:
    """How a worker stands.

    Attributes:
        ticks: rises with every sign of life of the work loop, and with nothing else.
        state: what it does.
        reason: why, where that is not plain; cut where it is long.
        step: the step that it is in.
        stall_after_s: the longest time without a tick that is still no stall.
        incarnation: its present life; None while it has none.
        healthy: whether its last health check found nothing.
        acting: whether it is inside a step, under an incarnation: it may be changing the world.
        waits_for_database: whether it does nothing because the database doesn't answer.
        answered_at_s: when the newest beat was asked that the database answered, by CLOCK_BOOTTIME; None
            where there was none, or one came so late that what the step holds may be another's by now.
    """

    ticks: int
    state: State
    reason: str = ""
    step: str | None = None
    stall_after_s: float = 120.0
    incarnation: str | None = None
    healthy: bool = True
    acting: bool = False
    waits_for_database: bool = False
    answered_at_s: float | None = None


FIELDS: Final = frozenset(field.name for field in fields(Word))


class ProgressPipe:
    """The worker's end. Safe from any thread: a word is one write."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd: int | None = fd

    @classmethod
    def from_environment(cls) -> "ProgressPipe | None":
        """Take the pipe that the manager gave, out of every child's sight; None without one."""
        fd = take_fd(VARIABLE)
        return cls(fd) if fd is not None and stat.S_ISFIFO(os.fstat(fd).st_mode) else None

    def tell(self, word: Word) -> bool:
        """Write a word if there is room for it; say whether there was. Never waits, never raises."""
        if self._fd is None:
            return False
        try:
            return os.write(self._fd, _line(word)) > 0
        except BlockingIOError:
            return False
        except OSError:  # the reader is gone, and this worker with it in a moment
            self._fd = None
            return False


class WordReader:
    """The manager's end.

    Attributes:
        closed: whether every writer has closed it.
    """

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._rest = b""
        self.closed = False

    def fileno(self) -> int:
        """The reading end, to wait on."""
        return self._fd

    def read(self) -> Word | None:
        """Give the newest whole word that has come since; None when there is none. Never waits."""
        newest: Word | None = None
        while not self.closed:
            try:
                read = os.read(self._fd, READ_BYTES)
            except BlockingIOError:
                break
            self.closed = not read
            *lines, self._rest = (self._rest + read).split(b"\n")
            self._rest = self._rest[-LINE_BYTES:]
            newest = next(filter(None, map(_word, reversed(lines))), newest)
        return newest


def take_fd(variable: str) -> int | None:
    """Give the open file descriptor that an environment variable names, and forget the variable.

    A variable that was inherited by mistake names a descriptor that is closed, or another thing's.
    """
    try:
        fd = int(os.environ.pop(variable, ""))
        os.fstat(fd)
    except (ValueError, OSError):
        return None
    os.set_inheritable(fd, False)
    return fd


def _line(word: Word) -> bytes:
    said = asdict(word) | {
        "reason": word.reason[:REASON_LENGTH],
        "step": word.step[:STEP_LENGTH] if word.step else word.step,
    }
    line = _encoded(said)
    if len(line) >= LINE_BYTES:  # only a reason of characters that take six bytes each
        line = _encoded(said | {"reason": "", "step": None})
    return line


def _encoded(said: Mapping[str, object]) -> bytes:
    return json.dumps(said, separators=(",", ":")).encode() + b"\n"


def _word(line: bytes) -> Word | None:
    """The word of a line; None for what is none, such as a stray print of a library.

    What a newer worker says beyond it is passed over: the manager is older until the fleet is started anew.
    """
    try:
        said = json.loads(line)
        return Word(**{name: plain(said[name]) for name in said if name in FIELDS})
    except (ValueError, TypeError):
        return None
