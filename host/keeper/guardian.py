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
from host.keeper.signs import Signs
from host.process_table import Entry

SWEEPS_S = 5.0  # how long it looks for those that come late, at most
GLANCE_S = 0.02
CLEAN_SWEEPS = 3  # in a row; a process may fork while it is looked for
GENTLE_S = 0.5  # for a program that has a signal of its own for this


def lives(pid: int, signs: Signs) -> bytes:
    """The keeper's word that a child lives."""
    return f"+ {pid} {signs.pipes[pid]} {int(pid in signs.gentle)}\n".encode()


def ended(pid: int) -> bytes:
    """The keeper's word that a child ended."""
    return f"- {pid}\n".encode()


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
