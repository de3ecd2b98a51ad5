"""Control: the manager's line to PostgreSQL, in a thread of its own.

A database that is away, or hangs, holds this thread and nothing else: workers go on being watched and
restarted as was last asked for. When it answers again, the thread goes on by itself. One exchange a second
is two round trips: a report (the host lives, and its slots if they changed) and the share.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from coordination import alerts, audits, black_boxes, commands, hosts
from coordination.alerts import Severity
from coordination.database import Database
from coordination.errors import HostTakenError
from coordination.incarnation import ProcessIdentity
from coordination.plain import plain
from host.attendance import Attendance
from host.contact import Contact
from host.errands import Errands, Run, Then
from host.orders import Orders, ProcessEnd, SlotState
from host.process_proof import boottime_s
from host.tending import Tending
from host.wake_channel import WOKEN_AS, WakeChannel, WakeWorker

__all__ = ["WOKEN_AS", "Control", "Orders", "ProcessEnd", "SlotState"]

INTERVAL_S = 1.0
RETRY_S = 0.5
LEAVE_S = 1.0
OUTPUT_BYTES = 65_536


class Control:
    """Exchanges orders and reports with the database every second, or at once when woken.

    The main thread's side waits for nothing, but `stop` for its last report (1 s at most). What is told
    while the database is away is told when it is back, in order.
    """

    def __init__(
        self,
        dsn: Callable[[], str],
        workers: Mapping[str, str],
        *,
        wake: Callable[[], None],
        say: Callable[[str, str], None],
        tell: Callable[[Mapping[str, Any]], None],
        wake_worker: WakeWorker = lambda _name, _kind, _whom: False,
        identity: ProcessIdentity | None = None,
        host: str | None = None,
        labels: Mapping[str, str] | None = None,
        machine: str = "",
        answered_at_s: float | None = None,
    ) -> None:
        """Name the parts.

        Args:
            dsn: gives the maintainer's connection string as it is now.
            workers: the program's workers: name and description.
            wake: called when there are new orders.
            say: takes a line and its severity.
            tell: takes an event, once `follow` was called.
            wake_worker: wakes processes of a worker; called in another thread.
            identity: who this manager is; read from the system if not given.
            host: the host's name in the fleet; the system's if not given.
            labels: of the host, for placement.
            machine: what names the machine across its boots; empty where nothing does.
            answered_at_s: when the database answered the manager process before this one; see `Contact`.
        """
        self._dsn = dsn
        self._workers = workers
        self._wake = wake
        self._say = say
        self._tell = tell
        self._me = identity or ProcessIdentity.of_this_process()
        self.host = host or self._me.host
        self._labels = dict(labels or {})
        self._machine = machine
        self._lock = threading.Lock()
        self._orders: Orders | None = None
        self._taken = 0
        self._slots: Sequence[SlotState] = ()
        self._as_of = 0
        self._ends: list[tuple[ProcessEnd, Callable[[], None]]] = []
        self._errands = Errands(say)
        self._settled: list[Callable[[], None]] = []  # the control thread's: for the next orders
        self._answers: list[Callable[[], None]] = []
        self._changed = threading.Event()
        self._leaving = threading.Event()
        self._following = False
        self._events: audits.EventTail | None = None
        self._contact = Contact(answered_at_s)
        self._tending = Tending(say)
        self._channel = WakeChannel(dsn, attend=self._changed.set, wake_worker=wake_worker, workers=workers)
        # A daemon, so that a database that hangs can't keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()
        self._channel.start()

    def stop(self) -> None:
        """Make the last report and end; safe at any time after `start`."""
        self._leaving.set()
        self._changed.set()
        if self._thread.is_alive():
            self._thread.join(LEAVE_S)
        self._channel.stop()

    @property
    def is_away(self) -> bool:
        """Whether the database can't be reached, or doesn't answer."""
        return self._contact.is_away

    @property
    def unanswered_s(self) -> float:
        """Seconds since the newest answered question was asked; the machine's sleep counts."""
        return self._contact.unanswered_s

    @property
    def refusal(self) -> HostTakenError | None:
        """Why the host's name is another manager's; None while it isn't."""
        return self._contact.refusal

    @property
    def refused_s(self) -> float:
        """For how long, by the database's answers, it has been another manager's; 0 while it isn't."""
        return self._contact.refused_s

    def take(self) -> Orders | None:
        """New orders since the last call, or None; calls back what was to be called.

        To be called every second: after five without a call the host counts as one that nobody tends.
        """
        self._tending.turn()
        if self._tending.is_missed:
            self._changed.set()
        with self._lock:
            orders, self._orders = self._orders, None
            answers, self._answers = self._answers, []
            if orders is not None:
                self._taken = orders.number
        for answer in answers:
            answer()
        return orders

    def report(self, slots: Sequence[SlotState]) -> None:
        """Say how the slots are, after the orders that were last taken."""
        with self._lock:
            if (slots, self._taken) != (self._slots, self._as_of):
                self._slots, self._as_of = slots, self._taken
                self._changed.set()

    def finish(self, part: str, *, succeeded: bool, text: str, output: str | None = None) -> None:
        """Say what came of a command's part; of an output its last 64 kB."""
        kept = None if output is None else plain(output).encode()[-OUTPUT_BYTES:].decode("utf-8", "ignore")
        self._send(
            lambda database: commands.finish_part(
                database, self.host, part, succeeded=succeeded, result=text, output=kept
            )
        )

    def tell(self, part: str, text: str) -> None:
        """Say how far a running part is."""
        self._send(lambda database: commands.tell_part(database, self.host, part, text=text))

    def ended(self, end: ProcessEnd, then: Callable[[], None]) -> None:
        """Record a process's end; `then` is called by `take` once the row is on the server's disk."""
        with self._lock:
            self._ends.append((end, then))
        self._changed.set()

    def ask_black_box(
        self,
        worker: str,
        slot: int,
        incarnation: str | None,
        then: Callable[[Mapping[str, Any] | None], None],
    ) -> None:
        """Ask for the database's part of a black box; `take` gives it to `then`, None if it can't be had."""
        self._send(
            lambda database: black_boxes.look_into(database, worker, slot, incarnation), then, perishable=True
        )

    def black_box(
        self,
        worker: str,
        slot: int,
        incarnation: str | None,
        pid: int | None,
        reason: str,
        report: Mapping[str, object],
    ) -> None:
        """Keep a black box as a row."""
        self._send(
            lambda database: black_boxes.keep_black_box(
                database,
                self.host,
                worker=worker,
                slot=slot,
                incarnation=incarnation,
                pid=pid,
                reason=reason,
                report=report,
            )
        )

    def raise_alert(
        self, key: str, severity: Severity, message: str, data: Mapping[str, object] | None = None
    ) -> None:
        """Raise an alert, or say again that it holds; its kind is the key up to the colon."""
        self._send(
            lambda database: alerts.raise_alert(
                database,
                key,
                severity=severity,
                kind=key.partition(":")[0],
                source=self.host,
                message=message,
                data=data,
            )
        )

    def clear_alert(self, key: str) -> None:
        """Take an alert back."""
        self._send(lambda database: alerts.clear_alert(database, key))

    def event(
        self,
        severity: audits.Severity,
        kind: str,
        message: str,
        data: Mapping[str, object] | None = None,
        *,
        source: str | None = None,
    ) -> None:
        """Tell an event; its source is the host unless another is given, such as poster/1."""
        told = source or self.host
        self._send(
            lambda database: audits.report_event(
                database, severity=severity, kind=kind, source=told, message=message, data=data
            )
        )

    def audit_later(
        self,
        action: str,
        name: str,
        actor: str,
        reason: str,
        then: Callable[[], None] | None = None,
        *,
        key: str | None = None,
    ) -> None:
        """What a person did on this host without the database; a start or stop becomes desired state.

        Args:
            action: start, stop or restart.
            name: a worker, a slot such as poster/1, or `*`; of this host's slots only.
            actor: who.
            reason: why.
            then: called by `take` once the database has it; also where it can't be taken over, and is a
                failed command.
            key: told again with the same key it is the same.
        """
        self._send(
            lambda database: hosts.adopt_override(
                database,
                self.host,
                action=action,
                selector=name,
                actor=actor,
                reason=reason,
                idempotency_key=key,
            ),
            None if then is None else lambda _: then(),
        )

    def follow(self) -> None:
        """Tell events from now on."""
        self._following = True

    def _send(self, run: Run, then: Then | None = None, *, perishable: bool = False) -> None:
        self._errands.add(run, then, perishable=perishable)
        self._changed.set()

    # The control thread's side

    def _run(self) -> None:
        while not self._leaving.is_set():
            if not self._tending.look():
                self._leaving.wait(RETRY_S)
                continue
            try:
                database = Database(self._dsn(), name=f"manager {self.host}", reconnect=False)
                try:
                    self._attend(database)
                finally:
                    database.close()
            except Exception as error:  # noqa: BLE001  nothing that the database does may end this thread
                lost = self._contact.lose(error)
                if lost is not None and not self._leaving.is_set():
                    self._say(lost, "warning" if self.refusal is None else "error")
                with self._lock:
                    self._answers += self._errands.drop_perishable()
                self._wake()
                self._leaving.wait(RETRY_S)

    def _attend(self, database: Database) -> None:
        attendance = Attendance(
            database,
            self.host,
            me=self._me,
            machine=self._machine,
            channel=self._channel,
            ask=self._contact.ask,
            say=self._say,
        )
        attendance.open(self._workers, self._labels)
        self._contact.accept()
        self._record_ends(attendance)  # first what is known better than by looking
        attendance.settle_predecessor()
        while True:
            self._changed.clear()
            leaving = self._leaving.is_set()  # after it: a stop in between is seen now, or wakes the wait
            if not leaving and not self._tending.look():
                self._changed.wait(INTERVAL_S)
                continue
            self._exchange(attendance, database, leaving=leaving)
            if self._contact.restore():
                self._say("the database is back", "info")
            if leaving:
                return
            self._changed.wait(INTERVAL_S)

    def _exchange(self, attendance: Attendance, database: Database, *, leaving: bool) -> None:
        self._record_ends(attendance)
        newest = self._errands.newest  # looked at before the report: what is told follows what it tells of
        with self._lock:
            slots, as_of = self._slots, self._as_of
        attendance.report(slots, as_of)
        self._errands.run(database, self._contact.ask, self._settled, newest=newest)
        if leaving:
            attendance.leave("the fleet was stopped")
            return
        asked_at_s = boottime_s()
        share = attendance.share()
        with self._lock:
            self._answers += self._settled
            self._settled = []
            self._orders = Orders(
                slots=share.slots,
                parts=share.parts,
                progress_ages=share.progress_ages,
                number=share.number,
                asked_at_s=asked_at_s,
            )
        self._wake()
        if self._following:
            self._tell_events(database, share.last_event)

    def _record_ends(self, attendance: Attendance) -> None:
        with self._lock:
            ends = list(self._ends)
        if ends:
            attendance.record([end for end, _ in ends])
            with self._lock:
                del self._ends[: len(ends)]
                self._answers += [then for _, then in ends]
            self._wake()

    def _tell_events(self, database: Database, newest: int) -> None:
        if self._events is None:
            self._events = audits.EventTail(newest)
        while self._events.last_id < newest or not self._events.is_whole:
            events = self._events.new(database)
            if not events:
                return
            for event in events:
                self._tell(event)
