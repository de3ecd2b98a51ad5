"""Inbox: takes a worker's messages one by one and reports on each.

One is claimed only when the one before is done: what a drain or a death leaves is at most the one in hand.
Its lease is renewed while the handler ticks: one that hangs loses it, whatever else of its process beats.
"""

from collections.abc import Callable
from contextlib import suppress
from math import inf
from time import monotonic
from typing import Final, Protocol
from uuid import uuid4

from coordination import Fleet
from coordination.errors import DatabaseBusyError, InvalidValueError, LockLostError
from coordination.messages import Message, Reply
from workers import handlers
from workers.base import Worker
from workers.errors import NoGrantError
from workers.handlers import MessageRefusedError
from workers.logs import Log, log_context
from workers.retrying import tell

LINGER_S: Final = 0.01
"""A busy inbox looks once more after so long before it waits to be woken: each wake-up costs its sender."""
BUSY: Final = 2
"""So many messages in a row make an inbox busy."""
STEP: Final = "messages"
"""What a run record calls the handling of a message."""

NEWS: Final = frozenset({"decision", "availability"})
"""Kinds of answers that ask for nothing: no dead letter where nobody handles them."""

log = Log("inbox")


class Record(Protocol):
    """Runs a method under a run record; gives what it failed with. What ends a life is raised."""

    def __call__(self, step: str, method: Callable[[], None], trace: str, /) -> Exception | None:
        """Run it."""
        ...


class Inbox:
    """The messages of one worker.

    Raises:
        RegistryError: two of its handlers take the same messages.
    """

    def __init__(self, worker: Worker, fleet: Fleet, record: Record) -> None:
        self._worker = worker
        self._messages = fleet.messages
        self._record = record
        self._handlers = handlers.find(type(worker))
        self._lease_s = handlers.LEASE_S
        self._renew_at = 0.0

    def work_off(self) -> float:
        """Handle what is due, a batch at most, until the drain.

        Gives real seconds until one is due again, as far as is known. Without messages it is one round trip;
        also for a worker that handles none, so that who writes to it hears of that at once.
        """
        wait_s = inf
        for done in range(self._worker.settings.batch_size):
            if self._worker.draining.is_set():
                return wait_s
            claimed = self._claim(busy=done >= BUSY)
            if not claimed:
                return wait_s
            wait_s = min(wait_s, self._take(claimed[0]))
        return 0.0

    def _claim(self, *, busy: bool) -> list[Message]:
        """Take the next one. Under load many are sent between two looks, and nobody is woken for them."""
        self._lease_s = max(handlers.LEASE_S, 2 * self._worker.progress.snapshot.stall_after_s)
        self._renew_at = monotonic() + self._lease_s / 2
        if busy:
            claimed = self._messages.claim(1, self._lease_s, sleeps=False)
            if claimed or self._worker.draining.wait(LINGER_S):
                return claimed
        return self._messages.claim(1, self._lease_s)

    def _take(self, message: Message) -> float:
        is_news = message.to == "all" or message.payload.get("kind") in NEWS
        if is_news and handlers.choose(self._handlers, message) is None:
            with suppress(LockLostError):
                # It concerns others, or asks for nothing.
                tell(lambda: self._messages.acknowledge(message), draining=self._worker.draining)
            return inf
        trace = uuid4().hex
        with log_context(message=message.id, trace=trace):
            failure = self._record(STEP, lambda: self._handle(message), trace)
            return inf if failure is None else self._reject(message, failure)

    def _handle(self, message: Message) -> None:
        self._worker.progress.ticked = lambda: self._renew(message)
        try:
            self._acknowledge(message, handlers.handle(self._worker, self._handlers, message))
        except Exception:
            self._worker.progress.item_failed()
            raise
        finally:
            self._worker.progress.ticked = None
        self._worker.progress.item_done()
        log.info("handled", type=message.type, sender=message.sender)

    def _acknowledge(self, message: Message, answer: Reply | None) -> None:
        """Report that it is done, with its answer.

        Raises:
            MessageRefusedError: the answer can't be sent. What the handler did is done: it isn't done again.
        """
        try:
            tell(lambda: self._messages.acknowledge(message, answer), draining=self._worker.draining)
        except InvalidValueError as error:
            raise MessageRefusedError(f"its answer can't be sent: {error}") from error

    def _renew(self, message: Message) -> None:
        """Renew the lease when half of its time is over.

        Raises:
            LockLostError: the message is somebody else's by now; every further tick says so again.
        """
        if monotonic() < self._renew_at:
            return
        began = monotonic()
        with suppress(DatabaseBusyError):  # the next tick tries again
            self._messages.renew(message, self._lease_s)
            self._renew_at = began + self._lease_s / 2

    def _reject(self, message: Message, failure: Exception) -> float:
        """Give it back for later, or for good; give real seconds until it is due."""
        retry_in_s: float | None = handlers.retry_in_s(message.attempt)
        counts = True
        if isinstance(failure, MessageRefusedError):
            retry_in_s = None
        elif isinstance(failure, NoGrantError):
            retry_in_s, counts = handlers.put_off_s(failure.retry_after_s or None), False
        elif isinstance(failure, DatabaseBusyError | LockLostError):
            retry_in_s, counts = handlers.FIRST_RETRY_S, False
        reason = f"{type(failure).__name__}: {failure}"
        try:
            rejected = tell(
                lambda: self._messages.reject(message, reason, retry_in_s, counts=counts),
                draining=self._worker.draining,
            )
        except LockLostError as error:
            log.warning("somebody else has the message by now", reason=str(error))
            return inf
        log.warning("message not handled", reason=reason, attempt=message.attempt, state=rejected.state)
        return inf if rejected.wait_s is None else rejected.wait_s
