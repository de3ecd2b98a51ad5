"""Managers without processes: what a host says and is told, through a real connection of its own."""

import uuid
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count

from coordination import hosts
from coordination.commands import finish_part
from coordination.database import Database
from coordination.desired import Part, SlotReport
from coordination.hosts import ProgramWorker, Share
from coordination.incarnation import ProcessIdentity
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.tables import Owner

Slot = tuple[str, int]
_pids = count(1000)


def identity(host: str, **changes: str) -> ProcessIdentity:
    """A process that no other is."""
    values = {"boot_id": "boot-1", "pid_namespace": "1", **changes}
    pid = next(_pids)
    return ProcessIdentity(host=host, pid=pid, pid_started=str(pid * 10), **values)


class Manager:
    """One host's manager: it starts what it is told to at once, and drains in `drain_passes` exchanges."""

    def __init__(
        self,
        database: FleetDatabase,
        name: str,
        *,
        workers: Sequence[str] = ("alpha",),
        labels: Mapping[str, str] | None = None,
        singletons: Sequence[str] = (),
        drain_passes: int = 0,
    ) -> None:
        self.name = name
        self.share: Share | None = None
        self.held: dict[Slot, int] = {}
        self.draining: dict[Slot, int] = {}
        self.singletons = singletons
        self._fleet = database
        self._workers = workers
        self._labels = dict(labels or {})
        self._drain_passes = drain_passes
        self._database: Database | None = None
        self.session = uuid.uuid4()
        self.me = identity(name)

    @property
    def database(self) -> Database:
        assert self._database is not None
        return self._database

    @property
    def is_up(self) -> bool:
        return self._database is not None

    @property
    def runs(self) -> set[Slot]:
        """Every slot that has a process here, one that drains too."""
        return set(self.held) | set(self.draining)

    def open(self, *, as_new_process: bool = True) -> "Manager":
        """Take the name; as another process unless told otherwise."""
        self.session = uuid.uuid4()
        if as_new_process:
            self.me = identity(self.name)
            self.held, self.draining, self.share = {}, {}, None
        database = Database(self._fleet.dsn("maintainer"), name=f"test manager {self.name}", reconnect=False)
        try:
            hosts.open_host(
                database,
                self.name,
                session=self.session,
                manager=self.me,
                machine="machine",
                version="1",
                labels=self._labels,
                workers=[
                    ProgramWorker(name=name, description=f"does {name}", singleton=name in self.singletons)
                    for name in self._workers
                ],
            )
        except BaseException:
            database.close()
            raise
        self._database = database
        return self

    def close(self) -> None:
        """Lose the connection without a word."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def leave(self) -> None:
        """Go in good order."""
        hosts.close_host(self.database, self.name, session=self.session, reason="the fleet was stopped")
        self.held, self.draining = {}, {}
        self.close()

    def report(self, **states: str) -> None:
        """Say what runs here; a slot's state by its worker's name, READY if not given."""
        told = [
            SlotReport(
                worker=worker,
                slot=slot,
                state="DRAINING" if (worker, slot) in self.draining else states.get(worker, "READY"),
                reason="",
                age_s=1.0,
                pid=self.held.get((worker, slot), 1),
                pid_started="1",
                incarnation=None,
                restart_count=0,
                failures=0,
                memory_bytes=next(_pids),  # never twice the same, as of a process that lives
                cpu_percent=0.1,
                step=None,
            )
            for worker, slot in sorted(self.runs)
        ]
        hosts.report_host(
            self.database,
            self.name,
            session=self.session,
            as_of=self.share.number if self.share else 0,
            slots=told,
            wake_channel="ok",
        )

    def ask(self) -> Share:
        """Be told the share and bring what runs here in line with it."""
        self.share = hosts.get_share(self.database, self.name, session=self.session)
        wanted = {(slot.worker, slot.slot) for slot in self.share.slots if slot.runs}
        self.draining = {slot: left - 1 for slot, left in self.draining.items() if left > 0}
        for slot in set(self.held) - wanted:
            del self.held[slot]
            if self._drain_passes:
                self.draining[slot] = self._drain_passes
        for slot in wanted - set(self.held) - set(self.draining):
            self.held[slot] = next(_pids)
        return self.share

    def exchange(self) -> Share:
        """One second of a manager's life."""
        self.report()
        return self.ask()

    def parts(self) -> list[Part]:
        """The parts that are this host's now."""
        return list(self.exchange().parts)

    def finish(self, part: Part, *, succeeded: bool = True, text: str = "is READY") -> None:
        finish_part(self.database, self.name, part.id, succeeded=succeeded, result=text)


@contextmanager
def managed(database: FleetDatabase, *names: str, **options: object) -> Generator[list[Manager]]:
    """Several open managers, all with the same program."""
    made = [Manager(database, name, **options).open() for name in names]  # pyright: ignore[reportArgumentType]
    try:
        yield made
    finally:
        for manager in made:
            manager.close()


def settle(managers: Sequence[Manager], passes: int = 8) -> None:
    """Let everybody exchange until nothing moves."""
    for _ in range(passes):
        for manager in managers:
            if manager.is_up:
                manager.exchange()


def silence(owner: Owner, host: str, seconds: float) -> None:
    """Move a host's last word into the past."""
    owner.execute(
        "UPDATE fleet.hosts SET seen_at = clock_timestamp() - make_interval(secs => %s) WHERE name = %s",
        (seconds, host),
    )
