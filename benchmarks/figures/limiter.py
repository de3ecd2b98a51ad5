"""One hot endpoint with three windows, eight processes: grants a second, beside a limiter over PostgreSQL and one UPDATE."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager

import psycopg
from psycopg_pool import ConnectionPool
from pyrate_limiter import Duration, Rate
from pyrate_limiter.abstracts import RateItem
from pyrate_limiter.buckets.postgres import PostgresBucket

from benchmarks.core import TMPFS, Core, core
from benchmarks.figure import Figure
from benchmarks.load import Call, Load, saturate

PROCESSES = 8
SECONDS = 5.0
WINDOWS = ((30_000_000, 900), (120_000_000, 3600), (2_000_000_000, 86400))
ENDPOINT = "hot"
PEER = "pyrate-limiter, PostgresBucket"
RAW = "one conditional UPDATE"


def measure(runs: int) -> Iterator[Figure]:
    """Each run is ours, the peer's and the bare statement's, one after another."""
    with core(TMPFS) as measured:
        ours: list[Load] = []
        peers: list[Load] = []
        raws: list[Load] = []
        for run in range(runs):
            endpoint = f"{ENDPOINT}_{run}"
            with measured.join("bench") as person:
                person.rate_limits.configure(endpoint, WINDOWS)
            ours.append(
                saturate(lambda n, e=endpoint: _grants(measured, e, n), processes=PROCESSES, seconds=SECONDS)
            )
            peers.append(
                saturate(lambda n, r=run: _pyrate(measured, r, n), processes=PROCESSES, seconds=SECONDS)
            )
            measured.admin.execute(
                "DROP TABLE IF EXISTS bench_counter; CREATE UNLOGGED TABLE bench_counter (id int PRIMARY KEY, n bigint) WITH (fillfactor = 10)"
            )
            measured.admin.execute("INSERT INTO bench_counter VALUES (1, 0)")
            raws.append(saturate(lambda n: _raw(measured), processes=PROCESSES, seconds=SECONDS))
        for one in (ours, peers, raws):
            print(
                [
                    (
                        round(l.per_s),
                        l.refused,
                        round(l.latency_ms(0.5), 2),
                        round(l.latency_ms(0.99), 2),
                        l.failed,
                    )
                    for l in one
                ]
            )
        yield Figure(name="limiter: grants", unit="1/s", runs=[one.per_s for one in ours])


@contextmanager
def _grants(measured: Core, endpoint: str, number: int) -> Generator[Call]:
    with measured.join("bench", number + 1) as fleet:

        def call() -> int:
            return fleet.rate_limits.can_make_request(endpoint, f"bench/{number}").allowed

        yield call


@contextmanager
def _pyrate(measured: Core, run: int, number: int) -> Generator[Call]:
    rates = [Rate(requests, seconds * Duration.SECOND) for requests, seconds in WINDOWS]
    with ConnectionPool(measured.dsn("superuser"), min_size=1, max_size=1) as pool:
        bucket = PostgresBucket(pool, f"hot{run}", rates)

        def call() -> int:
            return bool(bucket.put(RateItem("hot", bucket.now())))

        yield call


@contextmanager
def _raw(measured: Core) -> Generator[Call]:
    with psycopg.connect(measured.dsn("superuser"), autocommit=True, prepare_threshold=0) as connection:
        connection.execute("SET synchronous_commit = off")

        def call() -> int:
            return connection.execute(
                "UPDATE bench_counter SET n = n + 1 WHERE id = 1 AND n < 2000000000 RETURNING n"
            ).rowcount

        yield call
