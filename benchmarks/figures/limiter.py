"""Grants of one hot endpoint with three windows, to eight processes, beside another limiter and an UPDATE."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import psycopg

from benchmarks.core import SLOW, TMPFS, Core, core
from benchmarks.figure import Figure, Target
from benchmarks.load import Call, Load, saturate
from benchmarks.peers import pyrate

PROCESSES = 8
SECONDS = 5.0
WINDOWS = ((30_000_000, 900), (120_000_000, 3600), (1_000_000_000, 86_400))
LEASED = ((100_000_000, 900), (400_000_000, 3600), (1_000_000_000, 86_400))
BATCH = 250
OFFERED_PER_S = 20_000
SUSTAINED_S = 60.0
RAW = "one conditional UPDATE of one row"
COUNTER = """
    DROP TABLE IF EXISTS bench_counter;
    CREATE TABLE bench_counter (id integer PRIMARY KEY, used bigint NOT NULL) WITH (fillfactor = 50);
    INSERT INTO bench_counter VALUES (1, 0)
"""
COUNT = b"UPDATE bench_counter SET used = used + 1 WHERE id = 1 AND used < 2000000000 RETURNING used"


def measure(runs: int) -> Iterator[Figure]:
    """Grants one by one on memory; leased ones where a commit takes 3 ms, also beside an old snapshot."""
    with core(TMPFS) as measured:
        yield from _one_by_one(measured, runs)
    with core(SLOW) as measured:
        yield from _leased(measured, runs)
        yield _sustained(measured, runs)


def _one_by_one(measured: Core, runs: int) -> Iterator[Figure]:
    ours: list[Load] = []
    peers: list[Load] = []
    raws: list[Load] = []
    settled: list[Load] = []
    for run in range(runs):
        for endpoint in (f"hot_{run}", f"settled_{run}"):
            measured.configure(endpoint, WINDOWS)
        measured.admin.execute(COUNTER)
        ours.append(_load(lambda n, run=run: _grants(measured, f"hot_{run}", n)))
        peers.append(_load(lambda _, run=run: pyrate.bucket(measured.dsn("superuser"), f"hot{run}", WINDOWS)))
        raws.append(_load(lambda _: _updates(measured)))
        settled.append(_load(lambda n, run=run: _grants(measured, f"settled_{run}", n, settle=True)))
    yield Figure(
        name="limiter: grants, unbatched",
        unit="1/s",
        runs=[one.per_s for one in ours],
        peer_runs=[one.per_s for one in peers],
        peer_name=pyrate.NAME,
        raw=[one.per_s for one in raws],
        raw_name=RAW,
        targets=[Target(of="ratio_peer", least=15), Target(of="ratio_raw", least=0.5)],
        disk=measured.disk,
        note=f"{PROCESSES} processes; {_windows(WINDOWS)}; p99 {_p99(ours):.2f} ms",
    )
    yield Figure(
        name="limiter: requests refused though there was room",
        unit="%",
        runs=[100 * _share([one]) for one in ours],
        peer_runs=[100 * _share([one]) for one in peers],
        peer_name=pyrate.NAME,
        targets=[Target(most=0)],
        disk=measured.disk,
        note="of the requests above: no window was full",
    )
    yield Figure(
        name="limiter: grants that are settled, a call each",
        unit="1/s",
        runs=[one.per_s for one in settled],
        raw=[one.per_s for one in raws],
        raw_name=RAW,
        disk=measured.disk,
        note=f"two calls a request: the grant, and what came of it; p99 of both {_p99(settled):.2f} ms",
    )


def _leased(measured: Core, runs: int) -> Iterator[Figure]:
    ours: list[Load] = []
    raws: list[Load] = []
    for run in range(runs):
        measured.configure(f"leased_{run}", LEASED)
        measured.admin.execute(COUNTER)
        ours.append(_load(lambda n, run=run: _tokens(measured, f"leased_{run}", n)))
        raws.append(_load(lambda _: _updates(measured, flushed=True)))
    yield Figure(
        name="limiter: grants by token leases",
        unit="1/s",
        runs=[one.per_s for one in ours],
        raw=[one.per_s for one in raws],
        raw_name=f"{RAW}, flushed",
        targets=[Target(least=OFFERED_PER_S)],
        disk=measured.disk,
        note=f"leases of {BATCH} tokens, all counted as used from the lease on; {_windows(LEASED)}; "
        f"{sum(one.refused for one in ours)} refused; p99 {_p99(ours):.3f} ms",
    )


def _sustained(measured: Core, runs: int) -> Figure:
    loads = [_offered(measured, f"sustained_{run}") for run in range(runs)]
    return Figure(
        name=f"limiter: {OFFERED_PER_S:,} grants a second offered for a minute beside an old snapshot",
        unit="1/s",
        runs=[one.per_s for one in loads],
        targets=[Target(least=0.99 * OFFERED_PER_S)],
        disk=measured.disk,
        note=f"one idle transaction of REPEATABLE READ; leases of {BATCH} tokens; {_windows(WINDOWS)}; "
        f"{sum(one.refused for one in loads)} refused; late p50 {loads[0].latency_ms(0.5):.3f} ms, "
        f"p99 {_p99(loads):.2f} ms",
    )


def _offered(measured: Core, endpoint: str) -> Load:
    measured.configure(endpoint, WINDOWS)
    with psycopg.connect(
        measured.dsn("superuser"), options="-c idle_in_transaction_session_timeout=0"
    ) as old:
        old.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        old.execute("SELECT count(*) FROM fleet.rate_limits")  # its snapshot stays, and with it all dead rows
        return saturate(
            lambda n: _tokens(measured, endpoint, n),
            processes=PROCESSES,
            seconds=SUSTAINED_S,
            per_s=OFFERED_PER_S,
        )


def _load(make: Callable[[int], AbstractContextManager[Call]]) -> Load:
    return saturate(make, processes=PROCESSES, seconds=SECONDS)


def _windows(windows: Sequence[tuple[int, int]]) -> str:
    return "limits " + ", ".join(f"{limit:,} in {window_s} s" for limit, window_s in windows)


def _share(loads: Sequence[Load]) -> float:
    return sum(one.refused for one in loads) / max(1, sum(one.calls for one in loads))


def _p99(loads: Sequence[Load]) -> float:
    return max(one.latency_ms(0.99) for one in loads)


@contextmanager
def _grants(measured: Core, endpoint: str, number: int, *, settle: bool = False) -> Generator[Call]:
    with measured.join("bench", number + 1) as fleet:
        limits, worker = fleet.rate_limits, f"bench/{number}"

        def call() -> int:
            grant = limits.can_make_request(endpoint, worker)
            if settle and grant.grant_id:
                limits.record_usage(grant.grant_id, success=True)
            return grant.allowed

        yield call


@contextmanager
def _tokens(measured: Core, endpoint: str, number: int) -> Generator[Call]:
    with (
        measured.join("bench", number + 1) as fleet,
        fleet.rate_limits.leasing(endpoint, f"bench/{number}", BATCH) as tokens,
    ):

        def call() -> int:
            token = tokens.take()
            tokens.answered(token)
            return token.allowed

        yield call


@contextmanager
def _updates(measured: Core, *, flushed: bool = False) -> Generator[Call]:
    with psycopg.connect(measured.dsn("superuser"), autocommit=True) as connection:
        connection.execute(
            "SELECT set_config('synchronous_commit', %s, false)", ("on" if flushed else "off",)
        )
        yield lambda: connection.execute(COUNT).rowcount
