"""A manager by script: it takes a share and parts of commands through the real SQL, and runs no process."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread
from uuid import uuid4

from coordination import commands, hosts
from coordination.desired import Part, SlotReport, WantedSlot
from coordination.hosts import ProgramWorker
from coordination.incarnation import ProcessIdentity
from tests.integration.conftest import FleetDatabase

PAUSE_S = 0.02
PID = 4711


@dataclass(frozen=True, kw_only=True)
class Said:
    """What the manager says of a part; `output` is for logs."""

    succeeded: bool = True
    text: str = "it is so"
    output: str | None = None


Answer = Callable[[Part], Said | None]


def agree(part: Part) -> Said:
    """Do what was asked."""
    return Said(text=f"{part.worker}/{part.slot} is done with {part.action}")


@dataclass(kw_only=True)
class ScriptedManager:
    """One host's manager.

    Attributes:
        answer: says what comes of a part; None leaves it for the next look.
        taken: the parts that were seen, in order.
    """

    database: FleetDatabase
    host: str = "here"
    workers: Sequence[str] = ("planner", "poster")
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    answer: Answer = agree
    taken: list[Part] = field(default_factory=list[Part])
    has_share: Event = field(default_factory=Event)
    fault: Exception | None = None
    _leaving: Event = field(default_factory=Event)

    def run(self) -> None:
        """Attend until `leave`; what goes wrong is kept in `fault`."""
        try:
            self._attend()
        except Exception as error:  # noqa: BLE001  told by `managing`
            self.fault = error
            self.has_share.set()

    def _attend(self) -> None:
        database = self.database.database("maintainer")
        session = uuid4()
        known: set[str] = set()
        try:
            hosts.open_host(
                database,
                self.host,
                session=session,
                manager=ProcessIdentity.of_this_process(),
                machine="",
                version="test",
                labels=self.labels,
                workers=[ProgramWorker(name=name, description=f"The {name}.") for name in self.workers],
            )
            while not self._leaving.wait(PAUSE_S):
                share = hosts.get_share(database, self.host, session=session)
                hosts.report_host(
                    database,
                    self.host,
                    session=session,
                    as_of=share.number,
                    slots=[_report(slot) for slot in share.slots],
                    wake_channel="ok",
                )
                if share.slots:
                    self.has_share.set()
                for part in share.parts:
                    if part.id not in known:
                        known.add(part.id)
                        self.taken.append(part)
                    if said := self.answer(part):
                        commands.finish_part(
                            database,
                            self.host,
                            part.id,
                            succeeded=said.succeeded,
                            result=said.text,
                            output=said.output,
                        )
            hosts.close_host(database, self.host, session=session, reason="the test is over")
        finally:
            database.close()

    def leave(self) -> None:
        """End at the next look."""
        self._leaving.set()


def _report(slot: WantedSlot) -> SlotReport:
    return SlotReport(
        worker=slot.worker,
        slot=slot.slot,
        state="READY" if slot.runs else "STOPPED",
        reason=slot.reason,
        age_s=1.0,
        pid=PID if slot.runs else None,
        pid_started="1" if slot.runs else None,
        incarnation=None,
        restart_count=0,
        failures=0,
        memory_bytes=64 << 20,
        cpu_percent=1.5,
        step=None,
    )


@contextmanager
def managing(manager: ScriptedManager) -> Generator[ScriptedManager]:
    """The manager attends while inside; entered once it has a share."""
    thread = Thread(target=manager.run)
    thread.start()
    try:
        assert manager.has_share.wait(20), f"{manager.host} was given no slots"
        yield manager
    finally:
        manager.leave()
        thread.join()
        if manager.fault is not None:
            raise manager.fault
