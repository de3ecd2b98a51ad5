"""The wake channel: the host's one LISTEN connection, in a thread of its own.

A wake-up carries no data and nothing depends on it, so that a channel that is deaf shows in nothing but
delay. It is therefore tested: the manager notifies itself a word that nobody else says; if that is not
heard, the connection is made anew, and the host's row says "broken" until one is.
"""

import threading
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Literal

from coordination.database import Database
from coordination.errors import FleetError
from coordination.incarnation import WAKE_CHANNEL
from coordination.jobs import JOBS
from coordination.messages import MAIL
from coordination.settings import SETTINGS
from workers.wake import Kind

TEST_EVERY_S = 30.0
HEARD_WITHIN_S = 2.0
GLANCE_S = 0.5  # how soon it sees that it is to end or to be made anew
RETRY_S = 1.0
WOKEN_AS = "manager"
NONCE = "nonce "

State = Literal["untested", "ok", "broken"]


class WakeChannel:
    """Hears wake-ups and passes them on; `nonce` and `state` are the control thread's side."""

    def __init__(
        self,
        dsn: Callable[[], str],
        *,
        attend: Callable[[], None],
        wake_worker: Callable[[str, Kind], None],
        workers: Iterable[str] = (),
    ) -> None:
        """Name the parts.

        Args:
            dsn: gives the connection string as it is now.
            attend: called when the manager itself is woken; in the channel's thread.
            wake_worker: takes a worker's name and what there is for it; in the channel's thread.
            workers: the names that are woken once when the channel was deaf: they may have missed something.
        """
        self._dsn = dsn
        self._attend = attend
        self._wake_worker = wake_worker
        self._workers = tuple(workers)
        self._was_deaf = False
        self._lock = threading.Lock()
        self._state: State = "untested"
        self._nonce: str | None = None
        self._asked_at = 0.0
        self._due_at = 0.0
        self._listens = False
        self._renewed = threading.Event()
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._run, name="wake channel", daemon=True)

    def start(self) -> None:
        """Begin to listen; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """End within a glance; safe at any time, waits for nothing."""
        self._leaving.set()

    @property
    def state(self) -> State:
        """Whether the last test was heard."""
        return self._state

    def nonce(self) -> str | None:
        """A word to be notified now as the test, or None; notices that the one before it was not heard."""
        now = time.monotonic()
        with self._lock:
            if self._nonce is not None and now - self._asked_at > HEARD_WITHIN_S:
                self._state, self._nonce, self._listens = "broken", None, False
                self._due_at = now
                self._renewed.set()
            if self._nonce is not None or not self._listens or now < self._due_at:
                return None
            self._nonce = NONCE + uuid.uuid4().hex
            self._asked_at = now
            return self._nonce

    def _run(self) -> None:
        while not self._leaving.is_set():
            self._renewed.clear()
            try:
                database = Database(self._dsn(), name="manager wake channel", reconnect=False)
                try:
                    self._listen(database)
                finally:
                    database.close()
            except (FleetError, OSError):
                with self._lock:
                    self._listens, self._nonce = False, None
                    self._state = "broken"
                self._leaving.wait(RETRY_S)

    def _listen(self, database: Database) -> None:
        database.listen(WAKE_CHANNEL)
        with self._lock:
            self._listens, self._due_at = True, 0.0
        self._attend()  # what was notified while nobody listened; and the test
        for name in self._workers if self._was_deaf else ():
            self._wake_worker(name, "step")
        self._was_deaf = True  # should this connection end
        while not self._leaving.is_set() and not self._renewed.is_set():
            for payload in database.notifications(GLANCE_S):
                self._hear(payload)

    def _hear(self, payload: str) -> None:
        if payload == WOKEN_AS:
            self._attend()
        elif payload.startswith(NONCE):
            with self._lock:
                if payload == self._nonce:
                    self._state, self._nonce = "ok", None
                    self._due_at = time.monotonic() + TEST_EVERY_S
        elif payload.endswith(MAIL):
            self._wake_worker(payload.removesuffix(MAIL), "mail")
        elif payload.endswith(JOBS):
            self._wake_worker(payload.removesuffix(JOBS), "jobs")
        elif payload.endswith(SETTINGS):
            self._wake_worker(payload.removesuffix(SETTINGS), "settings")
        else:
            self._wake_worker(payload, "step")
