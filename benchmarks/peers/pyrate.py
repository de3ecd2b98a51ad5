"""pyrate-limiter's bucket over PostgreSQL: one connection a process, as its own pool holds it."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from benchmarks.load import Call

NAME = "pyrate-limiter, PostgresBucket"


@contextmanager
def bucket(dsn: str, table: str, windows: Sequence[tuple[int, int]]) -> Generator[Call]:
    """Open a bucket with these windows, (requests, seconds) each; a call puts one item, or is refused."""
    pools: Any = import_module("psycopg_pool")
    limiter: Any = import_module("pyrate_limiter")
    postgres: Any = import_module("pyrate_limiter.buckets.postgres")
    rates = [limiter.Rate(requests, seconds * limiter.Duration.SECOND) for requests, seconds in windows]
    with pools.ConnectionPool(dsn, min_size=1, max_size=1) as pool:
        opened: Any = postgres.PostgresBucket(pool, table, rates)

        def call() -> int:
            return int(opened.put(limiter.RateItem("request", opened.now())))

        yield call
