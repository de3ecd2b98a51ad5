"""Drain: SIGTERM and SIGINT become an event, without a lock in the signal handler.

A handler runs between two bytecodes of the main thread, which may hold the very lock that `Event.set` takes.
So the handler writes one byte to a pipe, and a thread that waits for it sets the events.
"""

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from contextvars import copy_context
from threading import Event, Thread
from types import FrameType

from workers.logs import Log

log = Log("drain")


def on_signals(events: Sequence[Event]) -> None:
    """Set all `events`, in this order, when the process is asked to end. Call once, in the main thread."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    def tell(number: int, _frame: FrameType | None) -> None:
        with suppress(BlockingIOError):  # a full pipe: it was told often enough
            os.write(writing, bytes([number]))

    def wait() -> None:
        while number := os.read(reading, 1):
            for event in events:
                event.set()
            log.info("draining", signal=signal.Signals(number[0]).name)

    Thread(target=copy_context().run, args=(wait,), name="drain", daemon=True).start()
    signal.signal(signal.SIGTERM, tell)
    signal.signal(signal.SIGINT, tell)
