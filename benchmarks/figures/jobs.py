"""Jobs that do nothing, worked off beside two other queues; enqueued with wake-ups and without."""

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from statistics import median
from threading import Event, Thread

import psycopg

from benchmarks.core import SLOW, TMPFS, Core, core
from benchmarks.figure import Figure, Target
from benchmarks.load import Call, drain, saturate
from benchmarks.peers import pgqueuer, procrastinate
from coordination import Fleet
from coordination.jobs import NewJob

PROCESSES = 2
KIND = "noop"
AT_ONCE = 1000
CLIENTS = 32
SECONDS = 4.0
PAUSE_S = 0.01
RAW = "one DELETE of a batch, a loop"
TABLE = "CREATE TABLE bench_jobs (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload jsonb)"
TAKE = b"""
    WITH taken AS MATERIALIZED (SELECT id FROM bench_jobs ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED)
    DELETE FROM bench_jobs j USING taken t WHERE j.id = t.id RETURNING j.id, j.payload
"""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """How jobs are worked off: so many at once, of so many in a run; `least` is asked for, to the peer's."""

    size: int
    jobs: int
    one_by_one: int
    least: float
    concurrency: int


ON_MEMORY = (
    Batch(size=10, jobs=30_000, one_by_one=3_000, least=1.3, concurrency=1),
    Batch(size=100, jobs=60_000, one_by_one=3_000, least=1.3, concurrency=1),
)
ON_DISK = Batch(size=100, jobs=60_000, one_by_one=1_000, least=1.0, concurrency=10)


def measure(runs: int) -> Iterator[Figure]:
    """Each run works the same number of jobs off by each of the four, in turns."""
    with _prepared(TMPFS) as measured:
        for batch in ON_MEMORY:
            yield _worked_off(measured, runs, batch)
    with _prepared(SLOW) as measured:
        yield _worked_off(measured, runs, ON_DISK)
        yield _enqueued(measured, runs)


@contextmanager
def _prepared(disk: str) -> Generator[Core]:
    with core(disk) as measured:
        pgqueuer.install(measured.dsn("superuser"))
        procrastinate.install(measured.dsn("superuser"))
        measured.admin.execute(TABLE)
        yield measured


def _worked_off(measured: Core, runs: int, batch: Batch) -> Figure:
    dsn = measured.dsn("superuser")
    ours: list[float] = []
    peers: list[float] = []
    others: list[float] = []
    raws: list[float] = []
    for _ in range(runs):
        _fill(measured, batch.jobs)
        ours.append(_drained(lambda n: _worker(measured, batch.size, n)))
        pgqueuer.fill(dsn, batch.jobs)
        peers.append(_drained(lambda _: pgqueuer.worker(dsn, batch.size)))
        procrastinate.fill(dsn, batch.one_by_one)
        others.append(_drained(lambda _: procrastinate.worker(dsn, batch.concurrency)))
        measured.admin.execute(
            "INSERT INTO bench_jobs (payload) SELECT '{}' FROM generate_series(1, %s)", (batch.jobs,)
        )
        raws.append(_drained(lambda _: _bare(dsn, batch.size)))
    return Figure(
        name=f"jobs: worked off in batches of {batch.size}",
        unit="1/s",
        runs=ours,
        peer_runs=peers,
        peer_name=pgqueuer.NAME,
        raw=raws,
        raw_name=RAW,
        targets=[Target(of="ratio_peer", least=batch.least)],
        disk=measured.disk,
        note=f"{PROCESSES} processes, {batch.jobs:,} jobs, with leases, run records and retries; "
        f"{procrastinate.NAME}, one by one: {median(others):,.0f} a second",
    )


def _enqueued(measured: Core, runs: int) -> Figure:
    woken: list[float] = []
    silent: list[float] = []
    with _sleeper(measured) as sleeper:
        for _ in range(runs):
            woken.append(_enqueues(measured, "taken"))
            silent.append(_enqueues(measured, "left"))
            measured.empty("fleet.jobs")
    return Figure(
        name=f"jobs: enqueued one by one by {CLIENTS} clients, with wake-ups",
        unit="1/s",
        runs=woken,
        raw=silent,
        raw_name="the same where nobody is to be woken",
        targets=[Target(of="ratio_raw", least=0.8)],
        disk=measured.disk,
        note="jobs of an hour later; who takes their kind is told, looks and sleeps again: "
        f"{sleeper.told} times in {runs * SECONDS:.0f} s",
    )


def _drained(make: Callable[[int], AbstractContextManager[Call]]) -> float:
    return drain(make, processes=PROCESSES)


def _enqueues(measured: Core, kind: str) -> float:
    return saturate(lambda n: _client(measured, kind, n), processes=CLIENTS, seconds=SECONDS).per_s


def _fill(measured: Core, number: int) -> None:
    with measured.join("filler") as fleet:
        for _ in range(0, number, AT_ONCE):
            fleet.jobs.enqueue_many([NewJob(kind=KIND)] * AT_ONCE)
    measured.admin.execute("ANALYZE fleet.jobs")


@contextmanager
def _worker(measured: Core, batch: int, number: int) -> Generator[Call]:
    with measured.join("bench", number + 1) as fleet:

        def call() -> int:
            done = 0
            jobs = fleet.jobs.claim(KIND, batch)
            while jobs:
                done += len(jobs)
                jobs, _ = fleet.jobs.turn(jobs, KIND, batch)
            return done

        yield call


@contextmanager
def _client(measured: Core, kind: str, number: int) -> Generator[Call]:
    later = datetime.now(UTC) + timedelta(hours=1)
    with measured.join("client", number + 1, listens=False) as fleet:  # its manager would

        def call() -> int:
            return fleet.jobs.enqueue(kind, run_at=later).created

        yield call


@dataclass(kw_only=True)
class _Sleeper:
    """A worker that takes the kind `taken`: asleep, told, and asleep again after a pause."""

    fleet: Fleet
    told: int = 0
    ended: Event = field(default_factory=Event)

    def listen(self) -> None:
        while not self.ended.wait(PAUSE_S):
            self.fleet.jobs.claim("taken")
            self.told += any(self.fleet.incarnation.wake_ups(0.5))


@contextmanager
def _sleeper(measured: Core) -> Generator[_Sleeper]:
    with measured.join("sleeper") as fleet:
        sleeper = _Sleeper(fleet=fleet)
        thread = Thread(target=sleeper.listen)
        thread.start()
        try:
            yield sleeper
        finally:
            sleeper.ended.set()
            thread.join()


@contextmanager
def _bare(dsn: str, batch: int) -> Generator[Call]:
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=0) as connection:

        def call() -> int:
            done = 0
            while taken := connection.execute(TAKE, (batch,)).rowcount:
                done += taken
            return done

        yield call
