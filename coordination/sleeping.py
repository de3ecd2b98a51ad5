"""Sleeping: a wait that a wake-up ends early. Every incarnation has a channel of its own for that.

Whoever gives something back that this life waits for notifies `fleet_<id>`, after its own transaction. The
notification arrives on the incarnation's connection: it is direct, never behind a pooler. Where a heartbeat's
thread reads that connection, it passes the wake-up on; else the sleeper reads it itself. A wake-up that is
lost costs a poll, nothing more.
"""

from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from threading import Event
from typing import TYPE_CHECKING
from uuid import UUID

from coordination.errors import DatabaseUnavailableError

if TYPE_CHECKING:
    from coordination.database import Database


def channel_of(incarnation: UUID) -> str:
    """The channel that `fleet.wake_incarnation` notifies."""
    return f"fleet_{incarnation.hex}"


class Sleep:
    """The sleep of one life's work thread.

    Attributes:
        is_attended: whether another thread reads the connection's notifications, through `others`.
    """

    def __init__(self, database: "Database", incarnation: UUID) -> None:
        self.is_attended = False
        self._database = database
        self._rung = Event()
        self._depth = 0
        self._payload = channel_of(incarnation)

    @property
    def is_listening(self) -> bool:
        """Whether somebody sleeps, or is about to."""
        return self._depth > 0

    @contextmanager
    def listening(self) -> Generator[None]:
        """Hear wake-ups for this life meanwhile. Two round trips on the incarnation's connection."""
        self._rung.clear()
        if self._depth == 0:
            self._database.listen(self._payload)
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if self._depth == 0:
                with suppress(DatabaseUnavailableError):  # the life is over; its own thread says so
                    self._database.unlisten(self._payload)

    def wait(self, seconds: float) -> bool:
        """Sleep so long at most; say whether it was woken. Wake-ups that came before count."""
        if not self.is_attended and not self._rung.is_set():
            for _ in self.others(self._database.notifications(seconds)):
                pass
        elif self.is_attended:
            self._rung.wait(seconds)
        woken = self._rung.is_set()
        self._rung.clear()
        return woken

    def others(self, payloads: Iterator[str]) -> Iterator[str]:
        """Keep this life's own wake-ups and give on the rest, which name workers."""
        for payload in payloads:
            if payload == self._payload:
                self._rung.set()
            else:
                yield payload
