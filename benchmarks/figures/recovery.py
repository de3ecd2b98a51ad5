"""A worker is killed that holds a job and a lock: until another has each, beside another queue."""

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg

from benchmarks.figure import Figure, Target
from benchmarks.fleet import MeasuredFleet, fleet
from benchmarks.load import FORK
from benchmarks.peers import pgqueuer
from benchmarks.processes import seconds_until
from coordination import Fleet, connect

WORKER = "taker"
KIND = "hold"
SPARE_SLOTS = 2
RECOVERY_TARGET_S = 1.0
PATIENCE_S = 120.0
AS_DOCUMENTED_S = 30.0
TUNED_S = 1.0
PEER_DATABASE = "peer"


def measure(runs: int) -> Iterator[Figure]:
    """A kill each: of ours, of the peer's worker with its defaults, and of one that looks once a second."""
    locks: list[float] = []
    jobs: list[float] = []
    documented: list[float] = []
    tuned: list[float] = []
    with fleet() as measured:
        measured.admin.execute(f"CREATE DATABASE {PEER_DATABASE}".encode())
        peer_dsn = measured.postgres.superuser_dsn.replace("/postgres?", f"/{PEER_DATABASE}?")
        pgqueuer.install(peer_dsn)
        measured.only({WORKER: runs + SPARE_SLOTS})
        for run in range(runs):
            with connect(measured.host.dsn("worker"), "prober") as prober:
                lock_s, job_s = _recovered(measured, prober, f"recovery-{run}")
            locks.append(lock_s)
            jobs.append(job_s)
            documented.append(_peer_recovered(peer_dsn, f"documented-{run}", AS_DOCUMENTED_S))
            tuned.append(_peer_recovered(peer_dsn, f"tuned-{run}", TUNED_S))
        disk = measured.disk
    yield Figure(
        name="recovery: a killed worker's lock",
        unit="s",
        runs=locks,
        targets=[Target(most=RECOVERY_TARGET_S)],
        disk=disk,
        note="from kill -9 until a process that waited for the content has it",
    )
    what = "from kill -9 until another worker has the job; workers of a host's manager, as they come"
    for name, runs_of_peer, timeout_s in (
        ("as documented", documented, AS_DOCUMENTED_S),
        ("tuned", tuned, TUNED_S),
    ):
        yield Figure(
            name=f"recovery: a killed worker's job, the peer {name}",
            unit="s",
            runs=jobs,
            peer_runs=runs_of_peer,
            peer_name=f"{pgqueuer.NAME}, heartbeat_timeout and dequeue_timeout {timeout_s:g} s",
            targets=[Target(most=RECOVERY_TARGET_S)],
            disk=disk,
            note=what,
        )


def _recovered(measured: MeasuredFleet, prober: Fleet, content: str) -> tuple[float, float]:
    """Kill who has a job and its content; give the seconds until others have the lock and the job."""
    prober.jobs.enqueue(KIND, {"content": content})
    _until(lambda: _holder_of_job(measured, content) is not None, "the job begun")
    victim: Any = _holder_of_job(measured, content)
    _until(lambda: _holds_lock(measured, content, victim), "its content locked")
    row = measured.owner.execute("SELECT pid FROM fleet.incarnations WHERE id = %s", (victim,)).fetchone()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(_wait_for, prober, content)
        _until(lambda: _is_waited_for(measured, content), "somebody in line")
        began = time.monotonic()
        os.kill(row[0] if row else 0, signal.SIGKILL)
        job_s = _until(lambda: _holder_of_job(measured, content) not in {None, victim}, "the job taken over")
        return waiting.result(PATIENCE_S) - began, job_s


def _wait_for(prober: Fleet, content: str) -> float:
    """Wait for the content; give when it was had."""
    lease = prober.engagement.request_lock(content, "prober/1", "analysis", wait_s=PATIENCE_S)
    had_at = time.monotonic()
    if lease is None:
        raise RuntimeError(f"nobody gave {content} back")
    prober.engagement.release_lock(lease)
    return had_at


def _holder_of_job(measured: MeasuredFleet, content: str) -> object:
    return _asked(
        measured,
        "SELECT incarnation FROM fleet.jobs WHERE state = 'running' AND payload->>'content' = %s",
        content,
    )


def _holds_lock(measured: MeasuredFleet, content: str, holder: object) -> bool:
    return (
        _asked(measured, "SELECT incarnation FROM fleet.engagement_locks WHERE content = %s", content)
        == holder
    )


def _is_waited_for(measured: MeasuredFleet, content: str) -> bool:
    return _asked(measured, "SELECT 1 FROM fleet.lock_waiters WHERE content = %s", content) is not None


def _asked(measured: MeasuredFleet, statement: str, content: str) -> object:
    row = measured.owner.execute(statement.encode(), (content,)).fetchone()
    return row[0] if row else None


def _until(look: Any, what: str) -> float:
    return seconds_until(look, within_s=PATIENCE_S, what=what, every_s=0.002)


def _peer_recovered(dsn: str, kind: str, timeout_s: float) -> float:
    """Kill the one of two of the peer's workers that has a job; give the seconds until the other has it."""
    with tempfile.TemporaryFile("a+b") as told:
        workers = [
            FORK.Process(target=pgqueuer.hold, args=(dsn, kind, told.fileno(), timeout_s), daemon=True)
            for _ in range(2)
        ]
        try:
            for worker in workers:
                worker.start()
            pgqueuer.put(dsn, kind)
            _until(lambda: len(_lines(told)) == 1, "the peer's job begun")
            began = time.monotonic()
            os.kill(int(_lines(told)[0]), signal.SIGKILL)
            _until(lambda: len(_lines(told)) > 1, "the peer's job taken over")
            return time.monotonic() - began
        finally:
            for worker in workers:
                worker.kill()
                worker.join()
            with psycopg.connect(dsn, autocommit=True) as connection:
                connection.execute("DELETE FROM pgqueuer")


def _lines(told: Any) -> list[bytes]:
    told.seek(0)
    return list(told)
