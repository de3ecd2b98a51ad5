"""The main thread's loop: signals, what the keeper tells, files, timers and wake-ups."""

import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Protocol, Self

from host.keeper.client import Event, Keeper

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
TWICE_S = 0.3  # a terminal and `make` may both deliver one Ctrl-C
KILLED_BY_PERSON = 130


class StopRequested(KeyboardInterrupt):
    """A person asked to stop while the main thread was busy with a step of the start."""


class Watched(Protocol):
    """What the supervisor needs of one that it ticks: a child, or a manager of many."""

    @property
    def name(self) -> str:
        """What it is called in messages."""
        ...

    @property
    def pid(self) -> int | None:
        """Its living process; None when there is none to wait for."""
        ...

    @property
    def due_at(self) -> float | None:
        """When `tick` has something to do even if nothing happens; monotonic seconds."""
        ...

    def tick(self) -> None:
        """Do what is due."""
        ...

    def receive(self, event: Event) -> bool:
        """Take what the keeper tells, if it is this one's."""
        ...

    def stop(self, reason: str) -> None:
        """Drain, and don't run again."""
        ...


class Supervisor:
    """Holds the children, tells them what happened, and knows whether to stop.

    Enter it on the main thread. Only `wake` may be called from others.
    """

    def __init__(self, keeper: Keeper) -> None:
        """Name the line over which births and ends are told."""
        self.keeper = keeper
        self.children: list[Watched] = []
        self.stopping = False
        self._untaken: list[Event] = []  # lives that an earlier manager process asked for
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._poll = select.poll()
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
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)  # of a process that takes over they waited
        self._poll.register(self._reader, select.POLLIN)
        self._poll.register(self.keeper, select.POLLIN)
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

    def watch(self, file: int, callback: Callable[[], None]) -> None:
        """Call back from `wait` whenever the file can be read or its writers are gone."""
        self._callbacks[file] = callback
        self._poll.register(file, select.POLLIN)

    def unwatch(self, file: int) -> None:
        """Call back no more; before the file is closed. Nothing happens when it isn't watched."""
        if self._callbacks.pop(file, None):
            self._poll.unregister(file)

    def wait(self, timeout_s: float) -> None:
        """Wait for anything that happens, `timeout_s` at most; tell it, then tick every child.

        The keeper hears of each turn: after 20 s without one it has another process take over.
        """
        self.keeper.turn()
        now = time.monotonic()
        due = [child.due_at for child in self.children if child.due_at is not None]
        until = min([now + timeout_s, *due])
        # Rounded up, or the last part of a millisecond would be spent awake.
        ready = self._poll.poll(max(0, int((until - now) * 1000) + 1) if until > now else 0)
        with suppress(BlockingIOError):
            while self._reader.recv(4096):
                pass
        self._untaken = [event for event in [*self._untaken, *self.keeper.take()] if not self._tell(event)]
        for file, _ in ready:
            if callback := self._callbacks.get(file):
                callback()
        for child in list(self.children):
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

    def stop(self, children: Sequence[Watched], reason: str) -> None:
        """Let children drain, all at once, and return when they ended; their own deadlines bound it."""
        for child in children:
            child.stop(reason)
        while any(child.pid for child in children) and not self.keeper.has_ended:
            self.wait(1.0)

    def _tell(self, event: Event) -> bool:
        return any(child.receive(event) for child in list(self.children))

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.stopping:
            if number == signal.SIGINT and now - self._stopping_since > TWICE_S:
                if select.select([], [sys.stderr], [], 0)[1]:  # one that takes nothing is not waited for
                    os.write(sys.stderr.fileno(), b"killed\n")
                os._exit(KILLED_BY_PERSON)  # the keeper ends with it, and whatever lives with the keeper
            return
        self.stopping, self._stopping_since = True, now
        if self._interruptible:
            self._interruptible = False
            raise StopRequested

    def _handle(self, number: signal.Signals, handler: Callable[[int, FrameType | None], None]) -> None:
        before = signal.signal(number, handler)
        self._undo.append(lambda: signal.signal(number, before))
