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
from workers.wake import Kind, Whom

TEST_EVERY_S = 30.0
HEARD_WITHIN_S = 2.0
GLANCE_S = 0.5  # how soon it sees that it is to end or to be made anew
RETRY_S = 1.0
AHEAD_S = 0.003
"""So much later than one process of a worker the others are woken for a message or a job.

It has taken it by then. Woken together they would stand in each other's way until the last had looked."""
WOKEN_AS = "manager"
NONCE = "nonce "

State = Literal["untested", "ok", "broken"]
WakeWorker = Callable[[str, Kind, Whom], bool]
"""Wakes a worker's processes on this host; says whether there are others than the one."""


class WakeChannel:
    """Hears wake-ups and passes them on; `nonce` and `state` are the control thread's side."""

    def __init__(
        self,
        dsn: Callable[[], str],
        *,
        attend: Callable[[], None],
        wake_worker: WakeWorker,
        workers: Iterable[str] = (),
    ) -> None:
        """Name the parts.

        Args:
            dsn: gives the connection string as it is now.
            attend: called when the manager itself is woken; in the channel's thread.
            wake_worker: takes a worker's name, what there is for it and for whom; in the channel's thread.
            workers: the names that are woken once when the channel was deaf: they may have missed something.
        """
        self._dsn = dsn
        self._attend = attend
        self._wake_worker = wake_worker
        self._workers = tuple(workers)
        self._was_deaf = False
        self._behind: dict[tuple[str, Kind], float] = {}  # whose others are to be woken, and when
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
            self._wake_worker(name, "step", "all")
        self._was_deaf = True  # should this connection end
        while not self._leaving.is_set() and not self._renewed.is_set():
            for payload in database.notifications(self._next_s()):
                self._hear(payload)
            self._wake_others()

    def _hear(self, payload: str) -> None:
        if payload == WOKEN_AS:
            self._attend()
        elif payload.startswith(NONCE):
            with self._lock:
                if payload == self._nonce:
                    self._state, self._nonce = "ok", None
                    self._due_at = time.monotonic() + TEST_EVERY_S
        elif payload.endswith(MAIL):
            self._wake_one(payload.removesuffix(MAIL), "mail")
        elif payload.endswith(JOBS):
            self._wake_one(payload.removesuffix(JOBS), "jobs")
        elif payload.endswith(SETTINGS):
            self._wake_worker(payload.removesuffix(SETTINGS), "settings", "all")
        else:
            self._wake_worker(payload, "step", "all")

    def _wake_one(self, worker: str, kind: Kind) -> None:
        """Wake one process, and the others in a moment."""
        if self._wake_worker(worker, kind, "one"):
            self._behind.setdefault((worker, kind), time.monotonic() + AHEAD_S)

    def _wake_others(self) -> None:
        now = time.monotonic()
        for (worker, kind), at in list(self._behind.items()):
            if at <= now:
                del self._behind[worker, kind]
                self._wake_worker(worker, kind, "others")

    def _next_s(self) -> float:
        """How long it may listen before somebody is to be woken, or it is to look up."""
        now = time.monotonic()
        return min([GLANCE_S, *(max(0.0, at - now) for at in self._behind.values())])
