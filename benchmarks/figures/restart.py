"""One worker's restart: from a person's order to the new process's READY, beside a Celery worker's."""

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from benchmarks.figure import Figure, Target
from benchmarks.fleet import fleet
from benchmarks.peers import interpreters
from benchmarks.processes import seconds_until

TARGET_S = 0.5
PATIENCE_S = 30.0
SLOT = ("light", 1)


def measure(runs: int) -> Iterator[Figure]:
    """Restarts of ours and of the peer's, by turns."""
    ours: list[float] = []
    celery: list[float] = []
    plain: list[float] = []
    with fleet() as measured, tempfile.TemporaryDirectory() as place:
        measured.only({"light": 1})
        for _ in range(runs):
            old = measured.ready()[SLOT]
            measured.order("restart", "light/1")
            ours.append(
                seconds_until(
                    lambda old=old: measured.ready().get(SLOT, old) != old,
                    within_s=PATIENCE_S,
                    what="the restarted worker ready",
                )
            )
            with interpreters.celery_workers(1, Path(place) / "queue") as (seconds, pids):
                celery.append(_end_s(pids[0]) + seconds)
            with interpreters.plain_interpreters(1) as (seconds, _):
                plain.append(seconds)
        disk = measured.disk
    yield Figure(
        name="restart: one worker, from the order to READY",
        unit="s",
        runs=ours,
        peer_runs=celery,
        peer_name=f"{interpreters.CELERY}: its end on SIGTERM and its start",
        raw=plain,
        raw_name="one plain interpreter's start",
        targets=(Target(most=TARGET_S),),
        disk=disk,
        note="from the command's row to the beat that says READY: the order's way and the drain are in it",
    )


def _end_s(pid: int) -> float:
    began = time.monotonic()
    os.kill(pid, signal.SIGTERM)
    with suppress(ChildProcessError):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return time.monotonic() - began
