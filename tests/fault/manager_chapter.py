"""A chapter of the manager's fault suite: a fresh host, faults, and what must be so afterwards."""

import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any

import psycopg

from coordination.commands import request_command
from coordination.database import Database
from host.postgres import EmbeddedPostgres, find_binaries
from host.postgres_cluster import DATABASE
from tests.fault.manager_faults import Faults, Killed
from tests.fault.manager_leaks import (
    Holdings,
    SharedMemory,
    described,
    holdings,
    strays,
    temporary_files,
)
from tests.fault.suite import Outcome
from tests.host_process import READY_STATES, HostProcess, eventually, living, of_host
from tests.postgres_servers import UNSAFE_BUT_FAST

SLOTS = {"busy": 8, "light": 10}
START_S = 60.0
SETTLED_S = 100.0
"""A crash loop's slow probe comes once a minute; then a start."""
PROOF_S = 20.0
UNPROVEN = """
    SELECT NOT EXISTS (SELECT FROM fleet.process_ends e WHERE e.pid = %(pid)s AND e.pid_started = %(started)s)
       AND NOT EXISTS (
           SELECT FROM fleet.incarnations i
           WHERE i.pid = %(pid)s AND i.pid_started = %(started)s AND i.died_at IS NOT NULL)
"""
SUSPECTS = """
    SELECT count(*) FROM fleet.incarnations i
    WHERE i.pid = %(pid)s AND i.pid_started = %(started)s AND i.died_at IS NULL
"""


def run(seed: int, number: int, operations: int, told: Callable[[str], None]) -> Outcome:
    """Run one chapter; even ones on the host's own PostgreSQL, odd ones on another's."""
    outcome = Outcome()
    shared = SharedMemory()
    with host_on(embedded=number % 2 == 0, slots=SLOTS) as (host, postgres, superuser_dsn):
        before = _settle(host, superuser_dsn)
        faults = Faults(
            host=host,
            postgres=postgres,
            superuser_dsn=superuser_dsn,
            chance=random.Random(f"{seed}:{number}"),
        )
        pause = Event()
        for count in range(operations):
            shared.look(faults.postmasters())
            name = faults.operate()
            told(f"chapter {number + 1}, {count + 1}/{operations}: {name}")
            pause.wait(faults.pause_s())
        faults.go_on(all_of_them=True)
        faults.start_again()
        outcome.faults = faults.done
        outcome.broken("orphans", faults.slow)
        _judge(outcome, host, superuser_dsn, before, faults)
        shared.look(faults.postmasters())
        _end(outcome, host)
    outcome.broken("I19", [f"shared memory: {one}" for one in sorted(shared.left())])
    return outcome


def _judge(
    outcome: Outcome,
    host: HostProcess,
    superuser_dsn: Callable[[], str],
    before: Holdings,
    faults: Faults,
) -> None:
    """Wait for the desired state within its bound, and look for what is left of the faults."""
    began = monotonic()
    try:
        eventually(lambda: not _missing(host), within_s=SETTLED_S, what="the desired state", every_s=0.25)
    except AssertionError:
        outcome.broken("desired state", _missing(host))
        return
    outcome.measures.append(round(monotonic() - began, 1))
    left: list[str] = []

    def nothing_leaks() -> bool:
        left[:] = holdings(host, superuser_dsn()).leaks(before)
        return not left

    try:  # a moment's look may see a command's connection, or a child between two of its parents
        eventually(nothing_leaks, within_s=15, what="no leak", every_s=0.5)
    except AssertionError:
        outcome.broken("I19", left)
    unproven: list[Killed] = []

    def all_proven() -> bool:
        unproven[:] = [one for one in faults.killed if _is_unproven(host, one)]
        return not unproven

    try:
        eventually(all_proven, within_s=PROOF_S, what="every killed process proven dead", every_s=0.5)
    except AssertionError:
        outcome.broken("proof of death", [str(one) for one in unproven])


def _end(outcome: Outcome, host: HostProcess) -> None:
    """Stop the host in order: nothing of it is left."""
    try:
        host.stop()
    except AssertionError as error:
        outcome.broken("orphans", [str(error)])
    outcome.broken("orphans", [f"after the stop: {described(one)}" for one in of_host(host.state)])
    left = temporary_files([host.state, host.state.parent / "tmp"])
    outcome.broken("I19", [f"temporary file: {path}" for path in sorted(left)])


def _order(host: HostProcess, slots: Mapping[str, int]) -> None:
    person = Database(host.dsn("console"), name="faults")
    order: dict[str, Any] = {"actor": "faults", "reason": "the suite's own workers only"}
    request_command(person, "stop", selector="*", **order)
    for worker, number in slots.items():
        request_command(person, "scale", selector=worker, args={"replicas": number}, **order)
        request_command(person, "start", selector=worker, **order)
    person.close()


def _missing(host: HostProcess) -> list[str]:
    """What is not yet as desired: each slot one living, ready process of this host, and no other."""
    try:
        with host.owner() as owner:
            rows = living(owner)
    except (psycopg.Error, OSError) as error:
        return [f"the database: {error}"]
    tree = {process.pid for process in host.tree()}
    ready = Counter(
        (worker, slot) for worker, slot, _, pid, _, state in rows if pid in tree and state in READY_STATES
    )
    wanted = {(worker, slot) for worker, slots in SLOTS.items() for slot in range(1, slots + 1)}
    found = [f"{worker}/{slot} is not ready" for worker, slot in sorted(wanted - set(ready))]
    found += [f"{key} lives {n} times" for key, n in ready.items() if n > 1 or key not in wanted]
    seen = {one.get("pid") for one in host.snapshot().get("slots", ())}
    found += [f"{pid} is not in the manager's snapshot" for _, _, _, pid, _, _ in rows if pid not in seen]
    return found + strays(host)


def _is_unproven(host: HostProcess, killed: Killed) -> bool:
    values: dict[str, Any] = {"pid": killed.pid, "started": killed.pid_started}
    with host.owner() as owner:
        row, suspects = owner.execute(UNPROVEN, values).fetchone(), owner.execute(SUSPECTS, values).fetchone()
    assert row
    assert suspects
    return bool(row[0]) or bool(suspects[0])


def _settle(host: HostProcess, superuser_dsn: Callable[[], str]) -> Holdings:
    """Wait for the host's desired state; give what it holds then, at most, over a few looks."""
    eventually(lambda: not _missing(host), within_s=START_S, what=lambda: f"settled: {_missing(host)}")
    looks: list[Holdings] = []
    pause = Event()
    for _ in range(6):
        looks.append(holdings(host, superuser_dsn()))
        pause.wait(0.5)
    first, *others = looks
    connections, locks, files, names = (
        first.connections.copy(),
        first.locks.copy(),
        dict(first.files),
        first.processes.copy(),
    )
    for look in others:
        connections |= look.connections
        locks |= look.locks
        names |= look.processes
        files = {name: max(count, look.files.get(name, 0)) for name, count in files.items()}
    return Holdings(connections=connections, locks=locks, files=files, processes=names)


@contextmanager
def host_on(
    *, embedded: bool, slots: Mapping[str, int]
) -> Generator[tuple[HostProcess, EmbeddedPostgres | None, Callable[[], str]]]:
    """A host that was told to run these slots and no others; its PostgreSQL where it is not its own."""
    place = Path(tempfile.mkdtemp(prefix="fleet-faults-", dir="/tmp"))
    place.chmod(0o755)
    (place / "tmp").mkdir(mode=0o777)
    postgres: EmbeddedPostgres | None = None
    url = ""
    if not embedded:
        (place / "server").mkdir()
        postgres = EmbeddedPostgres(
            place / "server", find_binaries(None), lambda _line: None, options=UNSAFE_BUT_FAST
        )
        postgres.start()
        url = postgres.migrator_dsn
    host = HostProcess(
        place / "state", name="one", database_url=url, environment={"TMPDIR": str(place / "tmp")}
    )

    def superuser_dsn() -> str:
        own = postgres or EmbeddedPostgres(host.state, find_binaries(None), lambda _line: None)
        return own.superuser_dsn.replace("/postgres?", f"/{DATABASE}?")

    try:
        host.start()
        host.wait_ready(START_S)
        _order(host, slots)
        yield host, postgres, superuser_dsn
    finally:
        host.kill()
        if postgres:
            postgres.stop()
        shutil.rmtree(place, ignore_errors=True)
