"""Drain: SIGTERM and SIGINT become an event, without a lock in the signal handler.

A handler runs between two bytecodes of the main thread, which may hold the very lock that `Event.set` takes.
So the handler writes one byte to a pipe, and a thread that waits for it sets the events.
"""

import os
import signal
from collections.abc import Generator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from threading import Event, Thread
from types import FrameType

from workers.logs import Log

log = Log("drain")


class DrainAskedError(Exception):
    """The process was asked to end while it did what may break off at any point."""


class Drain:
    """The wish that this process ends. Make it in the main thread.

    Attributes:
        asked: set from the wish on.
    """

    def __init__(self, stir: Event) -> None:
        """Name what else is set, afterwards, so that a loop that waits looks up."""
        self.asked = Event()
        self._stir = stir
        self._was_signalled = False
        self._may_break_off = False

    def on_signals(self) -> None:
        """Take SIGTERM and SIGINT from here on. Call once, in the main thread."""
        reading, writing = os.pipe()
        os.set_blocking(writing, False)

        def tell(number: int, _frame: FrameType | None) -> None:
            self._was_signalled = True
            with suppress(BlockingIOError):  # a full pipe: it was told often enough
                os.write(writing, bytes([number]))
            if self._may_break_off:
                self._may_break_off = False
                raise DrainAskedError

        def wait() -> None:
            while number := os.read(reading, 1):
                self.asked.set()
                self._stir.set()
                log.info("draining", signal=signal.Signals(number[0]).name)

        Thread(target=copy_context().run, args=(wait,), name="drain", daemon=True).start()
        signal.signal(signal.SIGTERM, tell)
        signal.signal(signal.SIGINT, tell)

    @contextmanager
    def breaking_off(self) -> Generator[None]:
        """Let a signal end what is inside at any point: what waits for a server, and holds nothing yet.

        Raises:
            DrainAskedError: it was asked for, inside or before.
        """
        self._may_break_off = True
        try:
            if self._was_signalled:
                raise DrainAskedError
            yield
        finally:
            self._may_break_off = False
