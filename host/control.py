"""Control: the manager's line to PostgreSQL, in a thread of its own.

A database that is away, or hangs, holds this thread and nothing else: workers go on being watched and
restarted as was last asked for. When it answers again, the thread goes on by itself.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coordination import audits, desired
from coordination.database import Database
from coordination.desired import Command, DesiredWorker, SlotReport
from coordination.errors import DatabaseUnavailableError, FleetError
from coordination.incarnation import WAKE_CHANNEL, ProcessIdentity
from workers import registry

INTERVAL_S = 1.0
GLANCE_S = 0.1  # how soon a change that the main thread tells is on its way
RETRY_S = 1.0
LEAVE_S = 1.0
WOKEN_AS = "manager"


@dataclass(frozen=True, kw_only=True)
class SlotState:
    """One slot as the manager sees it; `since` is on the monotonic clock, in seconds."""

    worker: str
    slot: int
    state: str
    reason: str
    pid: int | None
    restart_count: int
    since: float


@dataclass(frozen=True, kw_only=True)
class Orders:
    """What should run, and what persons asked for since the last orders."""

    workers: Sequence[DesiredWorker]
    commands: Sequence[Command]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of a command."""

    command: str
    succeeded: bool
    text: str


class Control:
    """Exchanges orders and reports with the database every second, or at once when woken.

    `take`, `report`, `finish`, `follow` and `stop` are the main thread's side; none of them waits for the
    database, but `stop` for its last report (1 s at most).
    """

    def __init__(
        self,
        dsn: Callable[[], str],
        workers: Mapping[str, str],
        *,
        wake: Callable[[], None],
        say: Callable[[str, str], None],
        tell: Callable[[Mapping[str, Any]], None],
    ) -> None:
        """Name the parts.

        Args:
            dsn: gives the maintainer's connection string as it is now.
            workers: the program's workers: name and description.
            wake: called when there are new orders.
            say: takes a line and its severity.
            tell: takes an event, once `follow` was called.
        """
        self._dsn = dsn
        self._workers = workers
        self._wake = wake
        self._say = say
        self._tell = tell
        self._host = ProcessIdentity.of_this_process().host
        self._lock = threading.Lock()
        self._orders: Orders | None = None
        self._slots: Sequence[SlotState] = ()
        self._results: deque[Result] = deque()
        self._changed = threading.Event()
        self._leaving = threading.Event()
        self._following = False
        self._last_event: int | None = None
        self._is_away = False
        # A daemon, so that a database that hangs can't keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Make the last report and end; safe at any time after `start`."""
        self._leaving.set()
        self._changed.set()
        if self._thread.is_alive():
            self._thread.join(LEAVE_S)

    def take(self) -> Orders | None:
        """New orders since the last call, or None."""
        with self._lock:
            orders, self._orders = self._orders, None
        return orders

    def report(self, slots: Sequence[SlotState]) -> None:
        """Say how the slots are."""
        with self._lock:
            if slots != self._slots:
                self._slots = slots
                self._changed.set()

    def finish(self, command: str, *, succeeded: bool, text: str) -> None:
        """Say what came of a command."""
        with self._lock:
            self._results.append(Result(command=command, succeeded=succeeded, text=text))
        self._changed.set()

    def follow(self) -> None:
        """Tell events from now on."""
        self._following = True

    def _run(self) -> None:
        while not self._leaving.is_set():
            try:
                database = Database(self._dsn(), name="manager", reconnect=False)
                try:
                    self._attend(database)
                finally:
                    database.close()
            except Exception as error:  # noqa: BLE001  nothing that the database does may end this thread
                self._report_away(error)
                self._leaving.wait(RETRY_S)

    def _attend(self, database: Database) -> None:
        database.listen(WAKE_CHANNEL)
        for name, description in self._workers.items():
            desired.ensure_worker(database, name, description, registry.roles(name))
        while True:
            leaving = self._leaving.is_set()
            self._changed.clear()
            self._exchange(database)
            if self._is_away:
                self._is_away = False
                self._say("the database is back", "info")
            if leaving:
                return
            self._await_change(database)

    def _exchange(self, database: Database) -> None:
        with self._lock:
            slots = self._slots
        now = time.monotonic()
        desired.report_slots(database, self._host, [_report(slot, now) for slot in slots])
        while self._results:
            result = self._results[0]
            desired.finish_command(database, result.command, succeeded=result.succeeded, result=result.text)
            self._results.popleft()
        # Commands first: what they changed in the desired state is then in what is read after them.
        commands = [] if self._leaving.is_set() else desired.take_commands(database)
        workers = desired.get_desired(database)
        with self._lock:
            waiting = self._orders.commands if self._orders else ()
            self._orders = Orders(workers=workers, commands=[*waiting, *commands])
        self._wake()
        if self._following:
            self._tell_events(database)

    def _tell_events(self, database: Database) -> None:
        if self._last_event is None:
            self._last_event = int(database.rows("get_last_event_id")[0]["id"])
        for event in audits.events_after(database, self._last_event):
            self._last_event = int(event["id"])
            self._tell(event)

    def _await_change(self, database: Database) -> None:
        until = time.monotonic() + INTERVAL_S
        while not self._changed.is_set() and time.monotonic() < until:
            if WOKEN_AS in database.notifications(GLANCE_S):
                return

    def _report_away(self, error: Exception) -> None:
        if not self._is_away and not self._leaving.is_set():
            self._is_away = True
            kind = (
                "the database is away"
                if isinstance(error, DatabaseUnavailableError)
                else "the database refuses"
            )
            detail = str(error) if isinstance(error, FleetError) else f"{type(error).__name__}: {error}"
            self._say(f"{kind} ({detail}); workers go on, and so does this when it answers", "warning")


def _report(slot: SlotState, now: float) -> SlotReport:
    return SlotReport(
        worker=slot.worker,
        slot=slot.slot,
        state=slot.state,
        reason=slot.reason,
        pid=slot.pid,
        restart_count=slot.restart_count,
        age_s=max(0.0, now - slot.since),
    )
