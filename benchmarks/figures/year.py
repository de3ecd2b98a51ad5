"""Each hot call on a database that holds a year of a busy account, beside the same call on an empty one."""

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from statistics import median

import psycopg

from benchmarks import year
from benchmarks.core import TMPFS, Core, beside, core
from benchmarks.figure import Figure, Target
from benchmarks.hot_calls import HOT_CALLS, OTHER, WORKER, Call, Station
from benchmarks.processes import on_one_core
from coordination.database import Database

WARM_UP = 30
BLOCKS = 60
BLOCK = 10
MOST = 1.2


def measure(runs: int) -> Iterator[Figure]:
    """Two databases of one server, one client, one processor; calls in turns, ten of each."""
    with core(TMPFS) as empty, beside(empty, "year") as full:
        rows = year.generate(full.admin)
        with _station(full) as ours, _station(empty) as raw:
            for name, make in HOT_CALLS.items():
                calls = (make(ours), make(raw))
                for call in calls:
                    _times_ms(call, WARM_UP)
                with on_one_core(_sessions(empty.admin)):
                    taken = [_run(calls) for _ in range(runs)]
                yield Figure(
                    name=f"year: {name}",
                    unit="ms",
                    runs=[one for one, _ in taken],
                    raw=[other for _, other in taken],
                    raw_name="an empty database",
                    targets=[Target(of="ratio_raw", most=MOST)],
                    disk=full.disk,
                    note=f"medians of {BLOCKS * BLOCK} calls a run; the year has {rows:,} rows",
                )


def _sessions(admin: psycopg.Connection) -> list[int]:
    found = admin.execute("SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'")
    return [pid for (pid,) in found]


@contextmanager
def _station(measured: Core) -> Generator[Station]:
    with measured.join(WORKER) as me, measured.join(OTHER) as other:
        admin = Database(measured.dsn("superuser"), name="benchmark")
        station = Station(me=me.session, other=other.session, admin=admin)
        station.prepare()
        yield station
        admin.close()


def _run(calls: Sequence[Call]) -> tuple[float, float]:
    taken: tuple[list[float], list[float]] = ([], [])
    for block in range(BLOCKS):
        for which in (0, 1) if block % 2 else (1, 0):
            taken[which].extend(_times_ms(calls[which], BLOCK))
    return median(taken[0]), median(taken[1])


def _times_ms(call: Call, number: int) -> list[float]:
    taken: list[float] = []
    for _ in range(number):
        began = time.perf_counter()
        call()
        taken.append((time.perf_counter() - began) * 1000)
    return taken
