"""Keeper: the manager process's side of the line to the process that keeps its children."""

import errno
import os
import signal
import socket
import time
from typing import Any

from host.keeper.wire import Birth, Ended, Greeting, Line, Refused, Started, fields_of

Event = Started | Refused | Ended
NOBODYS = Greeting(generation=1, predecessor="", is_established=False, told=0)
"""Of a keeper that ended before it could greet: this process is about to follow it."""
TURN_S = 1.0


class Keeper:
    """Asks for births and learns of lives and ends; nothing here waits but the making.

    What lived before this manager process, and every end that its predecessor did not acknowledge, is in what
    `take` gives first.

    Attributes:
        generation: 1 for the first manager process, one more for each that follows a killed one.
        predecessor: how the one before ended; empty for the first.
        is_established: whether one before said that what is begun once is done: see `establish`.
        answered_at_s: when the database last answered, by CLOCK_BOOTTIME; None where nobody knows. At first
            it is as the one before knew it; kept up to date, it goes to one that follows with each `turn`.
    """

    def __init__(self, channel: socket.socket) -> None:
        """Read the keeper's greeting and what it counts; the keeper sends them at once.

        Args:
            channel: this process's end of the pair.
        """
        self._line = Line(channel)
        self._requests = 0
        self._events: list[Event] = []
        received = self._line.receive(wait=True)
        greeting = Greeting(**received[1]) if received else NOBODYS
        self.generation = greeting.generation
        self.predecessor = greeting.predecessor
        self.is_established = greeting.is_established
        self.answered_at_s = greeting.answered_at_s
        self._turned_at = float("-inf")
        for _ in range(greeting.told):
            if not self._receive(wait=True):
                break

    def fileno(self) -> int:
        """Readable when `take` has something to give."""
        return self._line.fileno()

    @property
    def has_ended(self) -> bool:
        """Whether the keeper is gone; this process is about to follow it."""
        return self._line.is_closed

    def start(self, birth: Birth) -> int:
        """Ask for a child; give the request's number, which its `Started` or `Refused` will name."""
        self._requests += 1
        try:
            self._line.send("birth", {"request": self._requests, **fields_of(birth)})
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                raise
            text = "its arguments and environment are larger than a packet: unset what it doesn't need"
            self._events.append(Refused(request=self._requests, name=birth.name, error=text))
        return self._requests

    def kill_group(self, pid: int) -> None:
        """End a child and its descendants without grace; nothing happens when it ended already."""
        self._line.send("kill", {"pid": pid})

    def take(self) -> list[Event]:
        """What happened since the last call, in order. The files of a `Started` are the caller's to close."""
        self._line.flush()
        while self._receive():
            pass
        events, self._events = self._events, []
        return events

    def acknowledge(self, end: Ended) -> None:
        """Say that an end is known for good: the keeper forgets it."""
        self._line.send("acknowledge", {"number": end.number})

    def establish(self) -> None:
        """Say that what is begun once is done: a manager process that follows this one only takes over."""
        self.is_established = True
        self._line.send("establish", {})

    def turn(self) -> None:
        """Say that the main thread turns; to be called at every turn, it is said once a second.

        Once the fleet is established, a manager process that doesn't say so for 20 s is killed, and followed
        by another.
        """
        now = time.monotonic()
        if now - self._turned_at >= TURN_S and not self._line.is_full:
            self._turned_at = now
            self._line.send("turn", {"answered_at_s": self.answered_at_s})

    def close(self) -> None:
        """Close the line; the keeper takes it for this process's matter."""
        self._line.close()

    def _receive(self, *, wait: bool = False) -> bool:
        received = self._line.receive(wait=wait)
        if received is None:
            return False
        kind, fields, files = received
        self._events.append(_event(kind, fields, list(files)))
        return True


def send_signal(started: Started, number: signal.Signals) -> None:
    """Signal a child by its pidfd; nothing happens when it ended already."""
    try:
        signal.pidfd_send_signal(started.pidfd, number)
    except ProcessLookupError:
        return


def _event(kind: str, fields: dict[str, Any], files: list[int]) -> Event:
    if kind == "ended":
        return Ended(**fields)
    if kind == "refused":
        return Refused(**fields)
    # The packet says by place which of its files is which; the sender's numbers mean nothing here.
    for name in Started.FILES:
        if fields[name] is not None:
            fields[name] = files.pop(0)
    for left in files:
        os.close(left)
    return Started(**fields)
