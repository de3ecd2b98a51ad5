"""Engagement locks: request and release on distinct contents beside two flushed INSERTs; 64 processes that want one content."""

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from statistics import median

import psycopg

from benchmarks.core import TMPFS, Core, core
from benchmarks.figure import Figure
from benchmarks.load import Call, Load, saturate
from coordination.engagement import Lease

PROCESSES = 8
WAITERS = 64
SECONDS = 5.0
HELD_S = 0.02


def measure(runs: int) -> Iterator[Figure]:
    """Each run is ours and the raw statements, one after another; then half of what ours could."""
    with core(TMPFS) as measured:
        measured.admin.execute(
            "CREATE TABLE bench_pairs (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, content text)"
        )
        ours, raws, half = [], [], []
        for run in range(runs):
            ours.append(
                saturate(lambda n, r=run: _pairs(measured, f"s{r}", n), processes=PROCESSES, seconds=SECONDS)
            )
            raws.append(saturate(lambda _n: _inserts(measured), processes=PROCESSES, seconds=SECONDS))
            half.append(
                saturate(
                    lambda n, r=run: _pairs(measured, f"h{r}", n),
                    processes=PROCESSES,
                    seconds=SECONDS,
                    per_s=ours[-1].per_s / 2,
                )
            )
        for one in (ours, raws, half):
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
        for run in range(runs):
            commits = _commits(measured)
            began = time.perf_counter()
            load, spans = _queue(measured, f"one-{run}")
            took = time.perf_counter() - began
            time.sleep(1.2)
            spans.sort()
            gaps = sorted((b[1] - a[2]) * 1000 for a, b in zip(spans, spans[1:], strict=False))
            print(
                len(spans),
                "handovers p50",
                round(gaps[len(gaps) // 2], 2),
                "p99",
                round(gaps[int(0.99 * len(gaps))], 2),
                "min",
                gaps[0],
                "statements per waiter per s",
                (_commits(measured) - commits) / WAITERS / took,
            )
    yield Figure(name="locks: pairs", unit="1/s", runs=[one.per_s for one in ours])


def _commits(measured: Core) -> int:
    measured.admin.execute("SELECT pg_stat_force_next_flush()")
    row = measured.admin.execute(
        "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
    ).fetchone()
    return int(row[0]) if row else 0


def _queue(measured: Core, content: str) -> tuple[Load, list[tuple[int, float, float]]]:
    import tempfile, json, os

    place = tempfile.mkdtemp()

    @contextmanager
    def make(number: int) -> Generator[Call]:
        held = []
        with measured.join("bench", number + 1) as fleet:

            def call() -> int:
                lease = fleet.engagement.request_lock(content, f"bench/{number}", "analysis", wait_s=30)
                if not isinstance(lease, Lease):
                    return 0
                got = time.perf_counter()
                time.sleep(HELD_S)
                gave = time.perf_counter()
                fleet.engagement.release_lock(lease)
                held.append((lease.fencing_token, got, gave))
                return 1

            yield call
            with open(os.path.join(place, str(number)), "w") as file:
                json.dump(held, file)

    load = saturate(make, processes=WAITERS, seconds=SECONDS * 2)
    time.sleep(0.5)
    return load, [
        tuple(one) for name in os.listdir(place) for one in json.load(open(os.path.join(place, name)))
    ]


@contextmanager
def _pairs(measured: Core, prefix: str, number: int) -> Generator[Call]:
    with measured.join("bench", number + 1) as fleet:
        count = 0

        def call() -> int:
            nonlocal count
            count += 1
            lease = fleet.engagement.request_lock(f"{prefix}-{number}-{count}", f"bench/{number}", "analysis")
            if not isinstance(lease, Lease):
                return 0
            fleet.engagement.release_lock(lease)
            return 1

        yield call


@contextmanager
def _inserts(measured: Core) -> Generator[Call]:
    with psycopg.connect(measured.dsn("superuser"), autocommit=True, prepare_threshold=0) as connection:

        def call() -> int:
            for _ in range(2):
                connection.execute("INSERT INTO bench_pairs (content) VALUES ('content')")
            return 1

        yield call
