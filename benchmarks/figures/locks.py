"""Engagement locks: distinct contents beside two flushed INSERTs, and 64 processes that want one content."""

import os
import re
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import psycopg

from benchmarks.core import TMPFS, Core, core
from benchmarks.figure import Figure, Target
from benchmarks.load import WARM_UP_S, Call, Load, saturate

PROCESSES = 8
SECONDS = 5.0
LEAST_OF_RAW = 0.2
P99_AT_HALF_MS = 5.0

WAITERS = 64
QUEUE_S = 10.0
HELD_S = 0.02
PATIENCE_S = 30.0
HAND_OVER_P50_MS = 5.0
HAND_OVER_P99_MS = 50.0
STATEMENTS_PER_S = 10.0
STATEMENT = re.compile(
    rb"socialfleet bench/[^:]*LOG:  (?:execute|statement)[^:]*: "
    rb"(?:SELECT fleet.\"(?:request_lock|poll_lock|release_lock|leave_line|wake)|(?:UN)?LISTEN)"
)


@dataclass(frozen=True, kw_only=True, order=True)
class Hold:
    """One process had the content: its token, and from when to when by the machine's monotonic clock."""

    token: int
    got_at: float
    gave_at: float


def measure(runs: int) -> Iterator[Figure]:
    """Pairs of calls at full and at half speed; then the line before one content."""
    with core(TMPFS) as measured:
        yield from _pairs_of_calls(measured, runs)
        yield from _one_content(measured, runs)


def _pairs_of_calls(measured: Core, runs: int) -> Iterator[Figure]:
    measured.admin.execute(
        "CREATE TABLE bench_pairs (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, content text)"
    )
    ours: list[Load] = []
    raws: list[Load] = []
    halves: list[Load] = []
    raw_halves: list[Load] = []
    for run in range(runs):
        ours.append(_saturated(measured, f"full-{run}"))
        raws.append(_raw(measured))
        halves.append(_saturated(measured, f"half-{run}", per_s=ours[-1].per_s / 2))
        raw_halves.append(_raw(measured, per_s=raws[-1].per_s / 2))
    what = f"{PROCESSES} processes, each lock another content; request_lock, then release_lock, both flushed"
    yield Figure(
        name="locks: request and release, distinct contents",
        unit="1/s",
        runs=[one.per_s for one in ours],
        raw=[one.per_s for one in raws],
        raw_name="two flushed INSERTs of a row",
        targets=[Target(of="ratio_raw", least=LEAST_OF_RAW)],
        disk=measured.disk,
        note=f"{what}; {sum(one.refused + one.failed.total() for one in ours)} of "
        f"{sum(one.calls for one in ours):,} were not granted",
    )
    yield Figure(
        name="locks: p99 of request and release at half of that load",
        unit="ms",
        runs=[one.latency_ms(0.99) for one in halves],
        raw=[one.latency_ms(0.99) for one in raw_halves],
        raw_name="two flushed INSERTs of a row, at half of theirs",
        targets=[Target(most=P99_AT_HALF_MS)],
        disk=measured.disk,
        note="both calls, from when the first was due; "
        f"p50 {max(one.latency_ms(0.5) for one in halves):.2f} ms",
    )


def _one_content(measured: Core, runs: int) -> Iterator[Figure]:
    lines = [_line(measured, f"one-{run}") for run in range(runs)]
    hand_overs = [
        sorted((after.got_at - before.gave_at) * 1000 for before, after in pairwise(line)) for line in lines
    ]
    what = f"{WAITERS} processes want one content, again and again, and have it for {HELD_S * 1000:.0f} ms"
    yield Figure(
        name="locks: holds of one content that overlap",
        unit="holds",
        runs=[sum(gap < 0 for gap in gaps) for gaps in hand_overs],
        targets=[Target(most=0)],
        disk=measured.disk,
        note=f"{what}; of {sum(len(line) for line in lines):,} holds, in the order of their tokens",
    )
    for name, share, most in (("p50", 0.5, HAND_OVER_P50_MS), ("p99", 0.99, HAND_OVER_P99_MS)):
        yield Figure(
            name=f"locks: {name} of a hand-over to the next waiter",
            unit="ms",
            runs=[gaps[int(share * len(gaps))] for gaps in hand_overs],
            targets=[Target(most=most)],
            disk=measured.disk,
            note=f"{what}; from before the holder's call to after the next one's answer",
        )
    yield Figure(
        name="locks: statements of a waiter",
        unit="1/s",
        runs=[_statements_per_s(measured)],
        targets=[Target(most=STATEMENTS_PER_S)],
        disk=measured.disk,
        note=f"{what}; all that the server logged of a process, in a run of its own",
    )


def _saturated(measured: Core, prefix: str, per_s: float | None = None) -> Load:
    return saturate(
        lambda number: _pairs(measured, prefix, number), processes=PROCESSES, seconds=SECONDS, per_s=per_s
    )


def _raw(measured: Core, per_s: float | None = None) -> Load:
    return saturate(lambda _: _inserts(measured), processes=PROCESSES, seconds=SECONDS, per_s=per_s)


@contextmanager
def _pairs(measured: Core, prefix: str, number: int) -> Generator[Call]:
    with measured.join("bench", number + 1) as fleet:
        count = 0

        def call() -> int:
            nonlocal count
            count += 1
            lease = fleet.engagement.request_lock(f"{prefix}-{number}-{count}", f"bench/{number}", "analysis")
            if lease is None:
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


def _line(measured: Core, content: str) -> Sequence[Hold]:
    """Let all want one content for a while; give who had it, in the order of the tokens."""
    with tempfile.TemporaryFile("a+b") as told:  # appended to by every process, a line a hold
        saturate(
            lambda number: _holds(measured, content, number, told.fileno()),
            processes=WAITERS,
            seconds=QUEUE_S,
        )
        told.seek(0)
        holds = [line.split() for line in told]
    return sorted(
        Hold(token=int(token), got_at=float(got), gave_at=float(gave)) for token, got, gave in holds
    )


@contextmanager
def _holds(measured: Core, content: str, number: int, told: int) -> Generator[Call]:
    with measured.join("bench", number + 1) as fleet:

        def call() -> int:
            lease = fleet.engagement.request_lock(content, f"bench/{number}", "analysis", wait_s=PATIENCE_S)
            if lease is None:
                return 0
            got_at = time.monotonic()
            time.sleep(HELD_S)
            gave_at = time.monotonic()
            fleet.engagement.release_lock(lease)
            os.write(told, f"{lease.fencing_token} {got_at} {gave_at}\n".encode())
            return 1

        yield call


def _statements_per_s(measured: Core) -> float:
    _log_statements(measured, "all")
    before = measured.postgres.log.stat().st_size
    _line(measured, "logged")
    _log_statements(measured, "none")
    logged = measured.postgres.log.read_bytes()[before:]
    return len(STATEMENT.findall(logged)) / WAITERS / (WARM_UP_S + QUEUE_S)


def _log_statements(measured: Core, which: str) -> None:
    measured.admin.execute(f"ALTER SYSTEM SET log_statement = '{which}'".encode())
    measured.admin.execute("SELECT pg_reload_conf()")
