"""Control: the manager's line to PostgreSQL, in a thread of its own.

A database that is away, or hangs, holds this thread and nothing else: workers go on being watched and
restarted as was last asked for. When it answers again, the thread goes on by itself. One exchange a second
is two round trips: a report (the host lives, and its slots if they changed) and the share.
"""

import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from coordination import alerts, audits, black_boxes, commands, hosts
from coordination.alerts import Severity
from coordination.database import Database
from coordination.desired import SlotReport
from coordination.errors import (
    DatabaseBusyError,
    DatabaseError,
    DatabaseUnavailableError,
    FleetError,
    HostTakenError,
)
from coordination.hosts import ProgramWorker, Share
from coordination.incarnation import ProcessIdentity
from coordination.process_ends import EndedProcess, record_process_ends
from host.orders import Orders, ProcessEnd, SlotState
from host.process_proof import boottime_s, machine_id, proof_of_death
from host.wake_channel import WOKEN_AS, Kind, WakeChannel
from workers import registry

__all__ = ["WOKEN_AS", "Control", "Orders", "ProcessEnd", "SlotState"]

INTERVAL_S = 1.0
RETRY_S = 0.5
LEAVE_S = 1.0
AWAY_S = 3.0
"""Without an answer for so long the database counts as away, though its connection stands."""
OUTPUT_BYTES = 65_536


@dataclass(frozen=True, kw_only=True)
class _Errand:
    """One thing to tell the database, kept until it has it, or to ask: `then` gets the answer, or None.

    Attributes:
        then: called on the main thread, with orders that were read after the errand was run.
        perishable: not worth waiting for a database that is away.
    """

    run: Callable[[Database], Any]
    then: Callable[[Any], None] | None = None
    perishable: bool = False


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
        wake_worker: Callable[[str, Kind], None] = lambda _name, _kind: None,
        identity: ProcessIdentity | None = None,
        host: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Name the parts.

        Args:
            dsn: gives the maintainer's connection string as it is now.
            workers: the program's workers: name and description.
            wake: called when there are new orders.
            say: takes a line and its severity.
            tell: takes an event, once `follow` was called.
            wake_worker: called for each wake-up of a worker, in another thread: its name, "step" or "mail".
            identity: who this manager is; read from the system if not given.
            host: the host's name in the fleet; the system's if not given.
            labels: of the host, for placement.
        """
        self._dsn = dsn
        self._workers = workers
        self._wake = wake
        self._say = say
        self._tell = tell
        self._me = identity or ProcessIdentity.of_this_process()
        self.host = host or self._me.host
        self._labels = dict(labels or {})
        self._lock = threading.Lock()
        self._orders: Orders | None = None
        self._taken = 0
        self._slots: Sequence[SlotState] = ()
        self._as_of = 0
        self._ends: list[tuple[ProcessEnd, Callable[[], None]]] = []
        self._errands: deque[_Errand] = deque()
        self._settled: list[Callable[[], None]] = []  # the control thread's: for the next orders
        self._answers: list[Callable[[], None]] = []
        self._changed = threading.Event()
        self._leaving = threading.Event()
        self._following = False
        self._last_event: int | None = None
        self._is_away = False
        self._answered_at_s = boottime_s()
        self.refusal: HostTakenError | None = None
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
        return self._is_away or self.unanswered_s > AWAY_S

    @property
    def unanswered_s(self) -> float:
        """Seconds since the newest answered question was asked; the machine's sleep counts."""
        return boottime_s() - self._answered_at_s

    def take(self) -> Orders | None:
        """New orders since the last call, or None; calls back what was to be called."""
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
        kept = None if output is None else output.encode()[-OUTPUT_BYTES:].decode("utf-8", "ignore")
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
        self, action: str, name: str, actor: str, reason: str, then: Callable[[], None] | None = None
    ) -> None:
        """What a person did on this host without the database; a start or stop becomes desired state.

        Args:
            action: start, stop or restart.
            name: a worker, a slot such as poster/1, or `*`; of this host's slots only.
            actor: who.
            reason: why.
            then: called by `take` once the database has it.
        """
        self._send(
            lambda database: hosts.adopt_override(
                database, self.host, action=action, selector=name, actor=actor, reason=reason
            ),
            None if then is None else lambda _: then(),
        )

    def follow(self) -> None:
        """Tell events from now on."""
        self._following = True

    def _send(
        self,
        run: Callable[[Database], Any],
        then: Callable[[Any], None] | None = None,
        *,
        perishable: bool = False,
    ) -> None:
        with self._lock:
            self._errands.append(_Errand(run=run, then=then, perishable=perishable))
        self._changed.set()

    # The control thread's side

    def _run(self) -> None:
        while not self._leaving.is_set():
            try:
                database = Database(self._dsn(), name=f"manager {self.host}", reconnect=False)
                try:
                    self._attend(database)
                finally:
                    database.close()
            except Exception as error:  # noqa: BLE001  nothing that the database does may end this thread
                self._report_away(error)
                self._drop_perishable()
                self._leaving.wait(RETRY_S)

    def _attend(self, database: Database) -> None:
        session = uuid.uuid4()
        opened = self._ask(
            lambda: hosts.open_host(
                database,
                self.host,
                session=session,
                manager=self._me,
                machine=machine_id(),
                version=_version(),
                labels=self._labels,
                workers=[_program_worker(name, text) for name, text in self._workers.items()],
            )
        )
        self.refusal = None
        self._settle_predecessor(database, opened)
        told: tuple[Sequence[SlotState], int] | None = None
        while True:
            leaving = self._leaving.is_set()
            self._changed.clear()
            told = self._exchange(database, session, told, leaving=leaving)
            if self._is_away:
                self._is_away = False
                self._say("the database is back", "info")
            if leaving:
                return
            self._changed.wait(INTERVAL_S)

    def _ask(self, question: Callable[[], Any]) -> Any:
        """Ask, and note that there was an answer: as of the question's moment, which is the careful side."""
        asked_at_s = boottime_s()
        answer = question()
        self._answered_at_s = asked_at_s
        return answer

    def _exchange(
        self,
        database: Database,
        session: uuid.UUID,
        told: tuple[Sequence[SlotState], int] | None,
        *,
        leaving: bool,
    ) -> tuple[Sequence[SlotState], int]:
        self._record_ends(database)
        with self._lock:
            slots, as_of = self._slots, self._as_of
        now = time.monotonic()
        changed = None if told == (slots, as_of) else [_report(slot, now) for slot in slots]
        nonce = self._channel.nonce()
        self._ask(
            lambda: hosts.report_host(
                database,
                self.host,
                session=session,
                as_of=as_of,
                slots=changed,
                wake_channel=self._channel.state,
            )
        )
        self._run_errands(database)
        if leaving:
            hosts.close_host(database, self.host, session=session, reason="the fleet was stopped")
            return slots, as_of
        if nonce is not None:
            database.call("wake", worker=nonce)
        self._deliver(self._ask(lambda: hosts.get_share(database, self.host, session=session)), database)
        return slots, as_of

    def _deliver(self, share: Share, database: Database) -> None:
        with self._lock:
            self._answers += self._settled
            self._settled = []
            self._orders = Orders(
                slots=share.slots,
                parts=share.parts,
                progress_ages=share.progress_ages,
                number=share.number,
            )
        self._wake()
        if self._following:
            self._tell_events(database, share.last_event)

    def _record_ends(self, database: Database) -> None:
        with self._lock:
            ends = list(self._ends)
        if not ends:
            return
        now = boottime_s()
        told = [
            EndedProcess(
                worker=end.worker,
                slot=end.slot,
                pid=end.pid,
                pid_started=end.pid_started,
                boot_id=self._me.boot_id,
                pid_namespace=self._me.pid_namespace,
                exit_code=end.exit_code,
                how=end.how,
                ago_s=max(0.0, now - end.ended_at_boottime_s),
            )
            for end, _ in ends
        ]
        self._ask(lambda: record_process_ends(database, self.host, told))
        with self._lock:
            del self._ends[: len(ends)]
            self._answers += [then for _, then in ends]
        self._wake()

    def _run_errands(self, database: Database) -> None:
        while True:
            with self._lock:
                errand = self._errands[0] if self._errands else None
            if errand is None:
                return
            try:
                answer = self._ask(lambda errand=errand: errand.run(database))
            except DatabaseUnavailableError:
                raise  # kept, and told again
            except DatabaseBusyError:
                if not errand.perishable:
                    raise
                answer = None
            except FleetError as error:  # it would be refused for ever
                self._say(f"the database did not take what it was told: {error}", "error")
                answer = None
            with self._lock:
                self._errands.popleft()
            if errand.then is not None:
                self._settled.append(partial(errand.then, answer))

    def _drop_perishable(self) -> None:
        with self._lock:
            dropped = [errand for errand in self._errands if errand.perishable]
            self._errands = deque(errand for errand in self._errands if not errand.perishable)
            self._answers += [partial(errand.then, None) for errand in dropped if errand.then is not None]
        if dropped:
            self._wake()

    def _settle_predecessor(self, database: Database, opened: Mapping[str, Any]) -> None:
        """Prove dead what an earlier manager of this host left behind, as far as can be seen from here."""
        found = [
            (life, proof_of_death(life, self._me, same_machine=opened["same_machine"]))
            for life in opened["undead"]
        ]
        ends = [
            EndedProcess(
                worker=life["worker"],
                slot=life["slot"],
                pid=life["pid"],
                pid_started=life["pid_started"],
                boot_id=life["boot_id"],
                pid_namespace=life["pid_namespace"],
                exit_code=None,
                how=proof,
                ago_s=0.0,
            )
            for life, proof in found
            if proof is not None
        ]
        if ends:
            self._ask(lambda: record_process_ends(database, self.host, ends))

    def _tell_events(self, database: Database, newest: int) -> None:
        if self._last_event is None:
            self._last_event = newest
        while self._last_event < newest:
            events = audits.events_after(database, self._last_event)
            if not events:
                return
            for event in events:
                self._last_event = int(event["id"])
                self._tell(event)

    def _report_away(self, error: Exception) -> None:
        if isinstance(error, HostTakenError):
            if self.refusal is None:
                self._say(str(error), "error")
            self.refusal = error
            self._is_away = True
            return
        if not self._is_away and not self._leaving.is_set():
            self._is_away = True
            away = isinstance(error, DatabaseUnavailableError) or not isinstance(error, DatabaseError)
            kind = "the database is away" if away else "the database refuses"
            detail = str(error) if isinstance(error, FleetError) else f"{type(error).__name__}: {error}"
            self._say(f"{kind} ({detail}); workers go on, and so does this when it answers", "warning")


def _version() -> str:
    try:
        return version("socialfleet")
    except PackageNotFoundError:
        return "unknown"


def _program_worker(name: str, description: str) -> ProgramWorker:
    kind = registry.find().get(name)
    return ProgramWorker(
        name=name,
        description=description,
        roles=kind.roles if kind else (),
        singleton=bool(getattr(kind, "singleton", False)),
    )


def _report(slot: SlotState, now: float) -> SlotReport:
    return SlotReport(
        worker=slot.worker,
        slot=slot.slot,
        state=slot.state,
        reason=slot.reason,
        age_s=max(0.0, now - slot.since),
        pid=slot.pid,
        pid_started=slot.pid_started,
        incarnation=slot.incarnation,
        restart_count=slot.restart_count,
        failures=slot.failures,
        memory_bytes=slot.memory_bytes,
        cpu_percent=slot.cpu_percent,
        step=slot.step,
    )
