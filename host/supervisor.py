"""The main thread's loop: signals, children that ended, timers and wake-ups; it waits for nothing else."""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from select import select
from types import FrameType
from typing import Self

from host.child import Child

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
TWICE_S = 0.3  # a terminal and `make` may both deliver one Ctrl-C
KILLED_BY_PERSON = 130


class StopRequested(KeyboardInterrupt):
    """A person asked to stop while the main thread was busy with a step of the start."""


class Supervisor:
    """Holds the children, ticks them when something happened, and knows whether to stop.

    Enter it on the main thread. Only `wake` may be called from others.
    """

    def __init__(self) -> None:
        self.children: list[Child] = []
        self.stopping = False
        self._stopping_since = 0.0
        self._interruptible = False
        self._reader, self._writer = socket.socketpair()
        for end in (self._reader, self._writer):
            end.setblocking(False)
        self._undo: list[Callable[[], object]] = []

    def __enter__(self) -> Self:
        """Take the process's signals."""
        before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._undo.append(lambda: signal.set_wakeup_fd(before))
        for number in STOP_SIGNALS:
            self._handle(number, self._stop)
        self._handle(signal.SIGCHLD, _noted)  # any handler makes the kernel's signal write the wake-up
        return self

    def __exit__(self, *_: object) -> None:
        """Give the signals back; the children are the caller's to stop before."""
        while self._undo:
            self._undo.pop()()
        self._reader.close()
        self._writer.close()

    def wake(self) -> None:
        """End the present `wait`; safe from any thread, at any time."""
        with suppress(OSError):  # full: it is awake anyway; closed: nobody waits
            self._writer.send(b"\0")

    def wait(self, timeout_s: float) -> None:
        """Wait for a signal, a wake-up or a child's time, `timeout_s` at most; then tick every child."""
        now = time.monotonic()
        due = [child.due_at for child in self.children if child.due_at is not None]
        until = min([now + timeout_s, *due])
        select([self._reader], [], [], max(0.0, until - now))
        with suppress(BlockingIOError):
            while self._reader.recv(4096):
                pass
        for child in self.children:
            child.tick()

    @contextmanager
    def interruptible(self) -> Generator[None]:
        """Let a request to stop raise `StopRequested` inside, where the main thread may wait for others."""
        self._interruptible = True
        try:
            if self.stopping:
                raise StopRequested
            yield
        finally:
            self._interruptible = False

    def stop(self, children: Sequence[Child], reason: str) -> None:
        """Let children drain, all at once, and return when they ended; their own deadlines bound it."""
        for child in children:
            child.stop(reason)
        while any(child.pid for child in children):
            self.wait(1.0)

    def kill_all(self) -> None:
        """End all children and their descendants without grace."""
        for child in self.children:
            child.kill()

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.stopping:
            if number == signal.SIGINT and now - self._stopping_since > TWICE_S:
                self.kill_all()
                os.write(sys.stderr.fileno(), b"killed\n")
                os._exit(KILLED_BY_PERSON)  # what is tied to this process ends with it
            return
        self.stopping, self._stopping_since = True, now
        if self._interruptible:
            self._interruptible = False
            raise StopRequested

    def _handle(self, number: signal.Signals, handler: Callable[[int, FrameType | None], None]) -> None:
        before = signal.signal(number, handler)
        self._undo.append(lambda: signal.signal(number, before))


def _noted(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: the wake-up is enough."""
