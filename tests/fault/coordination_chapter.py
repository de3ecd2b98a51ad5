"""One chapter of the coordination core's fault suite: a fleet, faults, an end in good order, a verdict."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any, Self

import psycopg

from coordination.database import Database
from coordination.errors import FleetError
from coordination.pools import configure_pool
from coordination.settings import register_settings, set_setting
from host.postgres_binaries import find_binaries
from migrations import schema
from tests.fault import coordination_life, pooler
from tests.fault.coordination_faults import Faults, Member
from tests.fault.coordination_life import ENDPOINTS, KINDS, NAMES, POOLS, Life, Orders
from tests.fault.history import FOREVER, History, Operation, Recorder, Violation, read
from tests.fault.history_checker import INVARIANTS, check
from tests.fault.mutants import Mutant
from tests.fault.pooler import Pooler
from tests.fault.proven import record_end
from tests.fault.suite import Outcome
from tests.fault_proxy import FaultProxy
from tests.integration.conftest import PASSWORDS, as_role
from tests.integration.coordination.crowd import until
from tests.integration.coordination.queueing import configure
from tests.postgres_servers import LocalServer
from workers import registry

ROOT = Path(__file__).parents[2]
FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
SERVER = {
    "max_connections": "90",
    "max_locks_per_transaction": "10",  # so that its table can be filled
    "deadlock_timeout": "200ms",
}
LOST, LEFT, HUNG, UNEXPECTED = "lost", "I19", "hung", "unexpected errors"
PROMISES = (*INVARIANTS, LOST, LEFT, HUNG, UNEXPECTED)
QUIET_TIME_S = 1
CALM_S = 1.0
"""At the end, without faults: everybody has a last life."""
LEAVES_S = 20.0
BORN_S = 120.0
LONGEST_S = 300.0
"""A machine that has not done its operations by then does something else."""
OPERATION_BYTES = 250
"""What one takes in a history, about."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A server and a migrated database on it."""

    server: LocalServer
    admin_dsn: str
    migrator_dsn: str

    def dsn(self, role: str) -> str:
        """A role's login."""
        return as_role(self.migrator_dsn, f"fleet_{role}", PASSWORDS[f"fleet_{role}"])


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a chapter is.

    Attributes:
        seed: of the run.
        number: of the chapter.
        members: how many processes.
        seconds: how long faults are brought.
        pause_s: of a process between two operations.
        faults: only these, all where it is None.
        mutant: a fault that is planted into the functions; the chapter ends when it shows.
        least: operations: faults are brought for longer until so many were asked, on a busy machine.
        drained_s: how long the rest may take to be done.
    """

    seed: int
    number: int
    members: int = 16
    seconds: float = 20.0
    pause_s: float = 0.004
    faults: frozenset[str] | None = None
    mutant: Mutant | None = None
    least: int = 0
    drained_s: float = 30.0


class Chapter:
    """A fleet on a database."""

    def __init__(self, place: Place, plan: Plan, directory: Path, stack: ExitStack) -> None:
        self._place = place
        self._plan = plan
        self._directory = directory
        self._chance = random.Random(f"{plan.seed} {plan.number}")
        port = int(re.search(r"port=(\d+)", place.migrator_dsn)[1])  # type: ignore[index]
        self._proxy = stack.enter_context(FaultProxy(("127.0.0.1", port)))
        passwords = {"fleet_worker": PASSWORDS["fleet_worker"]}
        self._pooler = stack.enter_context(Pooler(place.migrator_dsn, passwords)) if pooler.PROGRAM else None
        self._births = 0
        self._members: dict[int, Member] = {}

    def live(self, outcome: Outcome) -> None:
        """Bring the faults; keep the number of processes."""
        faults = Faults(
            server=self._place.server,
            admin_dsn=self._place.admin_dsn,
            worker_dsn=self._place.dsn("worker"),
            members=lambda: list(self._members.values()),
            proxy=self._proxy,
            pooler=self._pooler,
            chance=self._chance,
            only=self._plan.faults,
        )
        pause = Event()
        self._keep_alive()
        until(self._have_begun, BORN_S)
        began = monotonic()
        try:
            while not self._is_enough(monotonic() - began):
                self._keep_alive()
                faults.operate()
                pause.wait(faults.pause_s())
            faults.undo(all_of_them=True)
            self._keep_alive()
            pause.wait(CALM_S)
        finally:
            faults.undo(all_of_them=True)
            self._leave(outcome)
        outcome.faults += faults.done

    def _have_begun(self) -> bool:
        said = [path for path in self._directory.iterdir() if path.stat().st_size]
        return len(said) >= self._plan.members

    def _is_enough(self, passed_s: float) -> bool:
        if passed_s < self._plan.seconds:
            return False
        if self._plan.mutant and self._plan.mutant.is_among(breaches(read(self._directory.iterdir()))):
            return True
        said = sum(path.stat().st_size for path in self._directory.iterdir())
        return said >= self._plan.least * OPERATION_BYTES or passed_s > LONGEST_S

    def _keep_alive(self) -> None:
        for slot in range(self._plan.members):
            member = self._members.get(slot)
            if member is None or member.process.poll() is not None:
                if member is not None:
                    with suppress(psycopg.OperationalError):  # the server may be away, by a fault
                        record_end(self._place.admin_dsn, member.process.pid)
                self._members[slot] = self._bear(slot)

    def _bear(self, slot: int) -> Member:
        self._births += 1
        worker, direct = NAMES[slot % len(NAMES)], self._place.dsn("worker")
        dsn, way = direct, slot // len(NAMES) % 4
        if way == 2:
            dsn = self._proxy.dsn(direct)
        elif way == 3 and self._pooler:
            dsn = self._pooler.dsn(direct)
        process = f"{slot}-{self._births}"
        orders = Orders(
            dsn=dsn,
            direct_dsn=direct if dsn != direct and way == 3 else None,
            history=str(self._directory / f"{process}.jsonl"),
            process=process,
            worker=worker,
            slot=slot,
            seed=self._chance.randrange(2**32),
            pause_s=self._plan.pause_s,
        )
        return Member(label=f"{worker}/{slot}", process=_start(orders, days_off=(0, 1, 0, -1)[slot % 4]))

    def _leave(self, outcome: Outcome) -> None:
        for member in self._members.values():
            member.process.terminate()
        for member in self._members.values():
            try:
                code = member.process.wait(LEAVES_S)
            except subprocess.TimeoutExpired:
                member.process.kill()
                member.process.wait()
                outcome.broken(HUNG, [f"{member.label} did not end within {LEAVES_S} s"])
            else:
                if code not in {0, -signal.SIGKILL, -signal.SIGTERM}:
                    outcome.broken(HUNG, [f"{member.label} ended with {code}"])


def _start(orders: Orders, *, days_off: int) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if days_off and FAKETIME:
        environment |= {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME": f"{days_off:+}d",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }
    command = [sys.executable, "-m", coordination_life.__name__, json.dumps(asdict(orders))]
    return subprocess.Popen(command, cwd=ROOT, env=environment)


def run(place: Place, plan: Plan, directory: Path) -> Outcome:
    """Run a chapter on a database that nobody else uses; its history stays where a promise was broken."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    outcome = Outcome()
    _prepare(place, plan)
    with ExitStack() as stack:
        Chapter(place, plan, directory, stack).live(outcome)
    _drain(place, plan, directory, outcome)
    judge(read(directory.glob("*.jsonl")), outcome)
    _look_after(place, read(directory.glob("*.jsonl")), outcome)
    if not outcome.violations:
        shutil.rmtree(directory)
    return outcome


def fresh_server() -> LocalServer:
    """A server that may be stopped: nobody else's."""
    server = LocalServer(find_binaries(None), SERVER)
    server.start()
    return server


def fresh_place(server: LocalServer, name: str) -> Place:
    """A migrated database on it."""
    migrator = server.create_database(name)
    schema.upgrade(migrator, PASSWORDS)
    admin = re.sub(r"/postgres(?=$|\?)", f"/{name}", server.superuser_dsn)
    return Place(server=server, admin_dsn=admin, migrator_dsn=migrator)


def _prepare(place: Place, plan: Plan) -> None:
    maintainer = Database(place.dsn("maintainer"), name="fault suite")
    register_settings(maintainer, registry.definitions())
    maintainer.close()
    console = Database(place.dsn("console"), name="fault suite")
    try:
        set_setting(console, "quiet_time_s", QUIET_TIME_S, actor="fault suite", reason="no HTTP here")
        # The endpoints' own limits are asked for, not those of the pool that they are in.
        configure(console, "api_requests", (1_000_000, 900))
        for pool, capacity in POOLS.items():
            configure_pool(
                console, "memory", pool, actor="fault suite", reason="to be fought for", capacity=capacity
            )
    finally:
        console.close()
    for name in NAMES:  # a message goes to a name that once was
        fleet = coordination_life.join(_orders(place, name, Path(os.devnull)))
        for endpoint, windows in ENDPOINTS.items() if name == NAMES[0] else ():
            fleet.rate_limits.configure(endpoint, windows)
        fleet.close()
    if plan.mutant:
        plan.mutant.plant(place.admin_dsn)


def _orders(place: Place, worker: str, history: Path) -> Orders:
    return Orders(
        dsn=place.dsn("worker"),
        direct_dsn=None,
        history=str(history),
        process=f"drain {worker}",
        worker=worker,
        slot=99,
        seed=1,
        pause_s=0,
    )


def _drain(place: Place, plan: Plan, directory: Path, outcome: Outcome) -> None:
    """Do what is left, as any worker would."""
    began = monotonic()
    pause = Event()
    with ExitStack() as stack:
        lives = [stack.enter_context(_Drain(place, directory, name)) for name in NAMES]
        while left := _unfinished(place):
            if monotonic() - began > plan.drained_s:
                outcome.broken(LOST, [f"{count} {what} are never handed out" for what, count in left.items()])
                return
            for life in lives:
                life.work()
            pause.wait(0.05)


class _Drain:
    """One worker that does all that is left for it."""

    def __init__(self, place: Place, directory: Path, name: str) -> None:
        self._orders = _orders(place, name, directory / f"drain-{name}.jsonl")
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        fleet = self._stack.enter_context(coordination_life.join(self._orders))
        recorder = self._stack.enter_context(Recorder(Path(self._orders.history), self._orders.process))
        self._life = Life(fleet, recorder, random.Random(1), self._orders.process)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(FleetError):
            self._stack.close()

    def work(self) -> None:
        """Take and finish what there is now."""
        self._life.drain(KINDS)


def _unfinished(place: Place) -> dict[str, int]:
    with psycopg.connect(place.admin_dsn, autocommit=True) as admin:
        jobs = admin.execute(
            "SELECT count(*) FROM fleet.jobs WHERE state NOT IN ('completed', 'cancelled', 'dead')"
        ).fetchone()
        messages = admin.execute(
            "SELECT count(*) FROM fleet.messages WHERE state NOT IN ('acknowledged', 'dead')"
        ).fetchone()
    counts = {"jobs": int(jobs[0]) if jobs else 0, "messages": int(messages[0]) if messages else 0}
    return {what: count for what, count in counts.items() if count}


def breaches(operations: Sequence[Operation]) -> list[Violation]:
    """What the checker finds in a history of the suite's."""
    capacities = {f"pool:{pool}": capacity for pool, capacity in POOLS.items()}
    return check(History(operations=operations, limits=ENDPOINTS, capacities=capacities))


def judge(operations: Sequence[Operation], outcome: Outcome) -> None:
    """Have the checker judge the history."""
    unanswered = 0
    for one in operations:
        if fault := one.answer.get("fault"):
            outcome.broken(UNEXPECTED, [f"{one.kind} {one.thing}: {fault}"])
        if one.outcome == "unknown":
            unanswered += 1
        else:
            outcome.operations[f"{one.kind} {one.outcome}"] += 1
    for found in breaches(operations):
        outcome.broken(found.invariant, [found.what])
    lasted_s = max((one.ended for one in operations if one.ended < FOREVER), default=0.0) - min(
        (one.began for one in operations if one.began), default=0.0
    )
    outcome.measures.append({"unanswered": unanswered, "lasted_s": round(lasted_s, 1)})


def _look_after(place: Place, operations: Sequence[Operation], outcome: Outcome) -> None:
    """I15: what was put and acknowledged is there, and done; I19: no lock and no session is left."""
    put = {one.answer["thing"] for one in operations if one.kind == "put" and one.outcome == "ok"}
    with psycopg.connect(place.admin_dsn, autocommit=True) as admin:
        done = {f"job:{kind}:{number}" for kind, number in _completed_jobs(admin)} | {
            f"message:{worker}:{number}"
            for worker, number in admin.execute(
                "SELECT recipient, id FROM fleet.messages WHERE state = 'acknowledged'"
            ).fetchall()
        }
        outcome.broken(LOST, sorted(put - done))
        left = _left(admin)
    outcome.broken(LEFT, left)


def _completed_jobs(admin: psycopg.Connection[Any]) -> list[Any]:
    row = admin.execute("SELECT to_regclass('fleet.jobs_finished') IS NULL").fetchone()
    table = "jobs" if row and row[0] else "jobs_finished"  # finished ones may have a table of their own
    return admin.execute(f"SELECT kind, id FROM fleet.{table} WHERE state = 'completed'".encode()).fetchall()


def _left(admin: psycopg.Connection[Any]) -> list[str]:
    pause, until = Event(), monotonic() + 5
    while True:
        rows = admin.execute(
            "SELECT 'session ' || application_name FROM pg_stat_activity WHERE usename = 'fleet_worker' "
            "AND datname = current_database() UNION ALL SELECT 'advisory lock' FROM pg_locks "
            "WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database "
            "WHERE datname = current_database())"
        ).fetchall()
        if not rows or monotonic() > until:
            return [str(what) for (what,) in rows]
        pause.wait(0.05)
