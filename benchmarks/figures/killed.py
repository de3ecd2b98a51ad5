"""A worker killed with SIGKILL: until its manager says so, and until it runs again."""

import os
import signal
from collections.abc import Iterator
from typing import Any

from benchmarks.figure import Figure, Target
from benchmarks.fleet import MeasuredFleet, fleet
from benchmarks.processes import seconds_until

NOTICED_TARGET_MS = 50.0
FIRST_BACKOFF_S = 1.0
START_S = 0.5
PATIENCE_S = 30.0


def measure(runs: int) -> Iterator[Figure]:
    """One kill a slot: a slot's first failure waits for the first backoff only."""
    noticed: list[float] = []
    again: list[float] = []
    with fleet() as measured:
        measured.only({"light": runs})
        for number in range(1, runs + 1):
            pid = measured.ready()["light", number]
            os.kill(pid, signal.SIGKILL)
            noticed.append(
                1000
                * seconds_until(
                    lambda number=number, pid=pid: _says_so(measured, number, pid),
                    within_s=PATIENCE_S,
                    what="the kill noticed",
                    every_s=0.001,
                )
            )
            again.append(
                noticed[-1] / 1000
                + seconds_until(
                    lambda number=number, pid=pid: measured.ready().get(("light", number), pid) != pid,
                    within_s=PATIENCE_S,
                    what="the killed worker ready again",
                )
            )
        disk = measured.disk
    yield Figure(
        name="killed: noticed by the manager",
        unit="ms",
        runs=noticed,
        targets=(Target(most=NOTICED_TARGET_MS),),
        disk=disk,
        note="asked by the manager's local line after every millisecond; the answer's way is in it",
    )
    yield Figure(
        name="killed: ready again",
        unit="s",
        runs=again,
        targets=(Target(most=FIRST_BACKOFF_S + START_S),),
        disk=disk,
        note=f"a first failure's backoff is up to {FIRST_BACKOFF_S:g} s, by chance; a start <= {START_S:g} s",
    )


def _says_so(measured: MeasuredFleet, slot: int, pid: int) -> bool:
    told: dict[str, Any] = measured.host.ask(do="status", name=f"light/{slot}")
    return all(one.get("pid") != pid for one in told["slots"])
