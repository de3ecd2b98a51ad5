"""24 workers: ready, and their memory with nothing to do, beside plain interpreters and Celery's workers.

The fleet's are its real nine kinds, some in several slots; the measure begins with a person's order to
start and ends when the last says in the database that it is ready. The peers begin as processes, all at
once, and end when the last has imported everything, or says that it takes tasks.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmarks.figure import Figure, Target
from benchmarks.fleet import fleet
from benchmarks.peers import interpreters
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


@dataclass(frozen=True)
class _Taken:
    """What each round of one kind of process took."""

    ready_s: list[float] = field(default_factory=list[float])
    memory_mb: list[float] = field(default_factory=list[float])

    def take(self, ready_s: float, pids: Sequence[int]) -> None:
        self.ready_s.append(ready_s)
        self.memory_mb.append(pss_mb(pids))


def measure(runs: int) -> Iterator[Figure]:
    """Rounds of ours, plain interpreters and Celery, one after the other."""
    ours, plain, celery = _Taken(), _Taken(), _Taken()
    with_host: list[float] = []
    with fleet(sandbox=True, light=False) as measured:
        measured.calm()
        measured.only(SLOTS)  # the schedules' first slots are taken: from here on there is nothing to do
        for _ in range(runs):
            measured.stop()
            measured.order("start", "*")
            seconds = measured.wait_ready(NUMBER)
            settle(QUIET_S)
            pids = list(measured.ready().values())
            ours.take(seconds, pids)
            with_host.append(pss_mb([*pids, *measured.manager_pids().values()]))
            measured.stop()
            with interpreters.plain_interpreters(NUMBER) as (seconds, pids):
                plain.take(seconds, pids)
            with (
                tempfile.TemporaryDirectory() as place,
                interpreters.celery_workers(NUMBER, Path(place) / "queue") as (seconds, pids),
            ):
                settle(QUIET_S)
                celery.take(seconds, pids)
        disk = measured.disk
    beside = partial(Figure, peer_name=interpreters.CELERY, raw_name=interpreters.PLAIN, disk=disk)
    memory = partial(
        beside,
        unit="MB PSS",
        peer_runs=celery.memory_mb,
        raw=plain.memory_mb,
        targets=(Target(most=MEMORY_TARGET_MB),),
    )
    kinds = f"{NUMBER} slots of the fleet's nine workers"
    yield beside(
        name="workers: 24 ready after the order to start",
        unit="s",
        runs=ours.ready_s,
        peer_runs=celery.ready_s,
        raw=plain.ready_s,
        targets=(Target(most=READY_TARGET_S),),
        note=f"{kinds}; from the command's row to the last beat that says READY",
    )
    yield memory(
        name="workers: memory of 24 with nothing to do",
        runs=ours.memory_mb,
        note=f"{kinds} with what they share with the keeper; PSS shares a page out among those who have it",
    )
    yield memory(
        name="workers: memory of 24 with keeper, manager and guardian",
        runs=with_host,
        note="the same with the host's own three processes; without console, sandbox and PostgreSQL",
    )
