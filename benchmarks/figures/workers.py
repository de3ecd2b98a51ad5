"""24 workers: ready, and their memory with nothing to do, beside plain interpreters and Celery's workers.

The fleet's are its real nine kinds, some in several slots; the measure begins with a person's order to
start and ends when the last says in the database that it is ready. The peers begin as processes, all at
once, and end when the last has imported everything, or says that it takes tasks.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks import peers
from benchmarks.figure import Figure
from benchmarks.fleet import fleet
from benchmarks.processes import pss_mb, settle

SLOTS = {
    "coordination": 1,
    "maintenance": 1,
    "monitoring": 1,
    "discovery": 3,
    "engagement": 4,
    "mentions": 4,
    "metrics": 3,
    "planner": 3,
    "poster": 4,
}
NUMBER = sum(SLOTS.values())
QUIET_S = 3.0
READY_TARGET_S = 3.0
MEMORY_TARGET_MB = 250.0


def measure(runs: int) -> Iterator[Figure]:
    """Rounds of ours, plain interpreters and Celery, one after the other."""
    ready: list[list[float]] = [[], [], []]
    memory: list[list[float]] = [[], [], []]
    alone: list[float] = []
    with fleet(sandbox=True, light=False) as measured:
        measured.calm()
        measured.only(SLOTS)  # the schedules' first slots are taken: from here on there is nothing to do
        for _ in range(runs):
            measured.stop()
            measured.order("start", "*")
            ready[0].append(measured.wait_ready(NUMBER))
            settle(QUIET_S)
            pids = list(measured.ready().values())
            alone.append(pss_mb(pids))
            memory[0].append(pss_mb([*pids, *measured.manager_pids().values()]))
            measured.stop()
            with peers.plain_interpreters(NUMBER) as (seconds, pids):
                ready[1].append(seconds)
                memory[1].append(pss_mb(pids))
            with (
                tempfile.TemporaryDirectory() as place,
                peers.celery_workers(NUMBER, Path(place) / "queue") as (seconds, pids),
            ):
                ready[2].append(seconds)
                settle(QUIET_S)
                memory[2].append(pss_mb(pids))
        disk = measured.disk
    kinds = f"{NUMBER} slots of the fleet's nine workers"
    yield Figure(
        name="workers: 24 ready after the order to start",
        unit="s",
        runs=ready[0],
        peer_runs=ready[2],
        peer_name=peers.CELERY,
        raw=ready[1],
        raw_name=peers.PLAIN,
        target=READY_TARGET_S,
        disk=disk,
        note=f"{kinds}; from the command's row to the last beat that says READY",
    )
    yield Figure(
        name="workers: memory of 24 with nothing to do",
        unit="MB PSS",
        runs=alone,
        peer_runs=memory[2],
        peer_name=peers.CELERY,
        raw=memory[1],
        raw_name=peers.PLAIN,
        target=MEMORY_TARGET_MB,
        disk=disk,
        note=f"{kinds} with what they share with the keeper; PSS shares a page out among those who have it",
    )
    yield Figure(
        name="workers: memory of 24 with keeper, manager and guardian",
        unit="MB PSS",
        runs=memory[0],
        peer_runs=memory[2],
        peer_name=peers.CELERY,
        raw=memory[1],
        raw_name=peers.PLAIN,
        target=MEMORY_TARGET_MB,
        disk=disk,
        note="the same with the host's own three processes; without console, sandbox and PostgreSQL",
    )
