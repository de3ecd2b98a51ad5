"""Wake-ups from the manager: an eventfd whose parts count calls for messages, jobs, a step, settings.

A wake-up carries nothing but its kind. A lost one costs a poll: the beat tells of due messages, a schedule
comes round, and jobs are looked for again.
"""

import os
import select
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from workers.progress_pipe import take_fd

Kind = Literal["mail", "jobs", "step", "settings"]
Whom = Literal["all", "one", "others"]
"""Which of a worker's processes on a host: all of them, the one that goes ahead, or all but that one."""

VARIABLE: Final = "SOCIALFLEET_WAKE_FD"
"""The environment's name for the eventfd."""
MAIL: Final = 1
JOBS: Final = 1 << 24
STEP: Final = 1 << 40
SETTINGS: Final = 1 << 52
"""Each kind counts in the bits below the next one's; one that overflows calls for that kind too, in vain."""
ADDED = {"mail": MAIL, "jobs": JOBS, "step": STEP, "settings": SETTINGS}


@dataclass(frozen=True, kw_only=True)
class Woken:
    """What was asked for since the last look."""

    mail: bool = False
    jobs: bool = False
    step: bool = False
    settings: bool = False

    def __bool__(self) -> bool:
        return self.mail or self.jobs or self.step or self.settings


def wake(fd: int, kind: Kind) -> None:
    """Wake the worker whose eventfd this is. Never waits; a counter that is full has woken it already."""
    with suppress(BlockingIOError):
        os.eventfd_write(fd, ADDED[kind])


class Wake:
    """The worker's side of its eventfd."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd

    @classmethod
    def from_environment(cls) -> "Wake | None":
        """Take the eventfd that the manager gave; None without one: then the worker listens itself."""
        fd = take_fd(VARIABLE)
        return cls(fd) if fd is not None and _is_eventfd(fd) else None

    def fileno(self) -> int:
        """The eventfd, to wait on."""
        return self._fd

    def take(self) -> Woken:
        """Give what was asked for since the last call. Never waits."""
        try:
            count = os.eventfd_read(self._fd)
        except BlockingIOError:
            return Woken()
        return Woken(
            mail=bool(count % JOBS),
            jobs=bool(count % STEP // JOBS),
            step=bool(count % SETTINGS // STEP),
            settings=count >= SETTINGS,
        )


def wait(fds: Sequence[int], timeout_s: float) -> set[int]:
    """Give those of `fds` that have something to read, at the latest after `timeout_s`."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return {fd for fd, _ in poll.poll(max(0, round(timeout_s * 1000)))}


def _is_eventfd(fd: int) -> bool:
    try:
        return Path(f"/proc/self/fd/{fd}").readlink().name == "anon_inode:[eventfd]"
    except OSError:
        return False
