"""An idle worker: statements a second by the server's own log, and processor time."""

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figure import Figure, Target
from benchmarks.fleet import MeasuredFleet, fleet
from benchmarks.peers import interpreters
from benchmarks.processes import cpu_s, settle

SLOTS = 24
WINDOW_S = 30.0
SETTLE_S = 12.0
STATEMENTS_TARGET = 0.25
CPU_TARGET_PERCENT = 0.1
STATEMENT = re.compile(rb"@\S+ socialfleet light/\d+[^:]*LOG:  (?:execute|statement|fastpath)")


def measure(runs: int) -> Iterator[Figure]:
    """Windows of half a minute over 24 light workers, and over 24 of Celery's."""
    statements: list[float] = []
    cpu: list[float] = []
    cpu_peer: list[float] = []
    with (
        fleet(options={"log_statement": "all"}) as measured,
        tempfile.TemporaryDirectory() as place,
    ):
        measured.only({"light": SLOTS})
        with interpreters.celery_workers(SLOTS, Path(place) / "queue") as (_, celery):
            settle(SETTLE_S)
            for _ in range(runs):
                pids = list(measured.ready().values())
                logged, spent, spent_peer = _statements(measured), cpu_s(pids), cpu_s(celery)
                settle(WINDOW_S)
                statements.append((_statements(measured) - logged) / SLOTS / WINDOW_S)
                cpu.append((cpu_s(pids) - spent) / SLOTS / WINDOW_S * 100)
                cpu_peer.append((cpu_s(celery) - spent_peer) / SLOTS / WINDOW_S * 100)
        disk = measured.disk
    yield Figure(
        name="idle: statements of a worker",
        unit="1/s",
        runs=statements,
        targets=(Target(most=STATEMENTS_TARGET),),
        disk=disk,
        note=f"{SLOTS} light workers for {WINDOW_S:g} s, each statement as the server logged it, by session",
    )
    yield Figure(
        name="idle: processor of a worker",
        unit="% of one core",
        runs=cpu,
        peer_runs=cpu_peer,
        peer_name=f"{interpreters.CELERY}, which looks into its queue once a second",
        targets=(Target(most=CPU_TARGET_PERCENT),),
        disk=disk,
        note="user and system time of the worker's process; the kernel counts it in hundredths of a second",
    )


def _statements(measured: MeasuredFleet) -> int:
    return len(STATEMENT.findall(measured.postgres.log.read_bytes()))
