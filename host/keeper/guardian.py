"""The guardian: it waits for the keeper's end and then ends what the keeper was the parent of.

The kernel ends the keeper's children, but not theirs: a browser, a dump. It is the keeper's child in a
session of its own, and it outlives it by a second.
"""

import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress

from host import process_table
from host.keeper import newborn
from host.keeper.signs import Signs
from host.process_table import Entry

SWEEPS_S = 5.0  # how long it looks for those that come late, at most
GLANCE_S = 0.02
CLEAN_SWEEPS = 3  # in a row; a process may fork while it is looked for
GENTLE_S = 0.5  # for a program that has a signal of its own for this


class GuardianProcess:
    """What the keeper holds of its guardian: the process, and the pipe by which it is told who lives.

    Attributes:
        pid: 0 while there is none.
    """

    def __init__(self) -> None:
        self.pid = 0
        self._news = -1

    def launch(self, signs: Signs, limits: tuple[int, int]) -> None:
        """Fork it, knowing the children that live already.

        Args:
            signs: theirs.
            limits: of open files, soft and hard, as they were before the keeper made room.

        Raises:
            OSError: the kernel has no room for it.
        """
        if self._news >= 0:
            os.close(self._news)
            self._news = -1
        news, self._news = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        keeper = os.pidfd_open(os.getpid())
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)

        def live() -> int:
            files = [keeper, news]
            newborn.separate("fleet-guardian", tie=lambda: None, keep=files, log=nowhere, limits=limits)
            return Guardian(keeper, news, signs).watch()

        try:
            self.pid = newborn.fork(live)
        finally:
            for file in (news, keeper, nowhere):
                os.close(file)

    def forget(self) -> int:
        """Have none from now on; give the pid of the one that was, which the caller ends if it lives."""
        pid, self.pid = self.pid, 0
        return pid

    def tell_birth(self, pid: int, signs: Signs) -> None:
        """Say that a child lives, and by what it and its own are known."""
        self._tell(f"+ {pid} {signs.pipes[pid]} {int(pid in signs.gentle)}\n")

    def tell_end(self, pid: int) -> None:
        """Say that a child ended."""
        self._tell(f"- {pid}\n")

    def _tell(self, word: str) -> None:
        with suppress(OSError):  # it stands still, or is about to be replaced
            os.write(self._news, word.encode())


class Guardian:
    """Knows by what the keeper's children are known; everything else it reads when it is needed."""

    def __init__(self, keeper: int, news: int, signs: Signs) -> None:
        """Name what it watches.

        Args:
            keeper: the keeper's pidfd.
            news: the pipe of its words.
            signs: those of the children that live already; the words change it.
        """
        self._keeper = keeper
        self._news = news
        self._signs = signs
        self._rest = b""

    def watch(self) -> int:
        """Wait for the keeper's end, and end what is left."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # they are the keeper's, which ends this one too
        poll = select.poll()
        poll.register(self._keeper, select.POLLIN)
        poll.register(self._news, select.POLLIN)
        ended = False
        while not ended:
            ready = {file for file, _ in poll.poll()}
            ended = self._keeper in ready
            if self._news in ready and not self._listen():
                poll.unregister(self._news)
        self._listen()
        self._end_all()
        return 0

    def _listen(self) -> bool:
        """Take the keeper's words; False when there will be no more."""
        with suppress(BlockingIOError):
            while said := os.read(self._news, 65536):
                *words, self._rest = (self._rest + said).split(b"\n")
                for told in words:
                    self._hear(*told.split())
            return False
        return True

    def _hear(self, kind: bytes, pid: bytes, pipe: bytes = b"0", gentle: bytes = b"0") -> None:
        if kind == b"+":
            self._signs.add(int(pid), pipe=int(pipe), gentle=gentle == b"1")
        else:
            self._signs.remove(int(pid))

    def _end_all(self) -> None:
        began = time.monotonic()
        self._sweep(self._signs.are_plain_on, patient=True)  # most of them, soonest
        clean = 0
        while clean < CLEAN_SWEEPS and time.monotonic() - began < SWEEPS_S:
            left = self._sweep(self._signs.are_on, patient=time.monotonic() - began < GENTLE_S)
            clean = 0 if left else clean + 1
            time.sleep(GLANCE_S)

    def _sweep(self, is_theirs: Callable[[Entry], bool], *, patient: bool) -> int:
        """End the keeper's, but not those that may end by their own signal yet; give how many there are."""
        left = 0
        for entry in process_table.entries():
            if entry.pid == os.getpid() or entry.state == "Z" or not is_theirs(entry):
                continue
            left += 1
            if not (patient and entry.session in self._signs.gentle):
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(entry.pid, signal.SIGKILL)
        return left
