"""No-op jobs, two processes: jobs a second, beside two other queues over PostgreSQL and a bare SQL loop."""

import asyncio
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import asyncpg
import psycopg
import uvloop
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.core.qm import QueueManager
from pgqueuer.domain.types import QueueExecutionMode

from benchmarks.core import SLOW, TMPFS, Core, core
from benchmarks.figure import Figure
from benchmarks.load import Call, drain
from coordination.jobs import NewJob

PROCESSES = 2
JOBS = {10: 20_000, 100: 60_000}
KIND = "noop"


def measure(runs: int) -> Iterator[Figure]:
    """Each run drains the same number of jobs by each."""
    for disk in (TMPFS,):
        with core(disk) as measured:
            asyncio.run(_install(measured))
            measured.admin.execute(
                "CREATE TABLE bench_jobs (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload jsonb)"
            )
            for batch, number in JOBS.items():
                ours, peers, raws = [], [], []
                for _ in range(runs):
                    _fill(measured, number)
                    ours.append(drain(lambda n, b=batch: _ours(measured, b, n), processes=PROCESSES))
                    asyncio.run(_fill_pgqueuer(measured, number))
                    peers.append(drain(lambda n, b=batch: _pgqueuer(measured, b, n), processes=PROCESSES))
                    measured.admin.execute(
                        "INSERT INTO bench_jobs (payload) SELECT '{}' FROM generate_series(1, %s)", (number,)
                    )
                    raws.append(drain(lambda n, b=batch: _raw(measured, b), processes=PROCESSES))
                print(batch, [round(x) for x in ours], [round(x) for x in peers], [round(x) for x in raws])
    yield Figure(name="jobs: x", unit="1/s", runs=ours)


def _fill(measured: Core, number: int) -> None:
    with measured.join("filler") as fleet:
        for _ in range(0, number, 1000):
            fleet.jobs.enqueue_many([NewJob(kind=KIND)] * 1000)
    measured.admin.execute("ANALYZE fleet.jobs")


@contextmanager
def _ours(measured: Core, batch: int, number: int) -> Generator[Call]:
    with measured.join("bench", number + 1) as fleet:

        def call() -> int:
            done = 0
            while jobs := fleet.jobs.claim(KIND, batch):
                fleet.jobs.complete_many(jobs)
                done += len(jobs)
            return done

        yield call


async def _install(measured: Core) -> None:
    connection = await asyncpg.connect(measured.dsn("superuser"))
    await Queries(AsyncpgDriver(connection)).install()
    await connection.close()


async def _fill_pgqueuer(measured: Core, number: int) -> None:
    connection = await asyncpg.connect(measured.dsn("superuser"))
    queries = Queries(AsyncpgDriver(connection))
    for _ in range(0, number, 1000):
        await queries.enqueue([KIND] * 1000, [b"{}"] * 1000, [0] * 1000)
    await connection.execute("ANALYZE pgqueuer")
    await connection.close()


@contextmanager
def _pgqueuer(measured: Core, batch: int, number: int) -> Generator[Call]:
    loop = uvloop.new_event_loop()
    connection = loop.run_until_complete(asyncpg.connect(measured.dsn("superuser")))
    manager = QueueManager(Queries(AsyncpgDriver(connection)))
    done = 0

    @manager.entrypoint(KIND)
    async def noop(job: object) -> None:
        nonlocal done
        done += 1

    def call() -> int:
        loop.run_until_complete(manager.run(batch_size=batch, mode=QueueExecutionMode.drain))
        return done

    yield call


@contextmanager
def _raw(measured: Core, batch: int) -> Generator[Call]:
    with psycopg.connect(measured.dsn("superuser"), autocommit=True, prepare_threshold=0) as connection:

        def call() -> int:
            done = 0
            while taken := connection.execute(
                "WITH t AS MATERIALIZED (SELECT id FROM bench_jobs ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED) DELETE FROM bench_jobs j USING t WHERE j.id = t.id RETURNING j.id, j.payload",
                (batch,),
            ).rowcount:
                done += taken
            return done

        yield call
