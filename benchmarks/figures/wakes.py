"""From the sending of a job or a message until a sleeping worker begins with it, beside two other queues."""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from select import select
from typing import Any, Self

from benchmarks.figure import Figure, Target
from benchmarks.fleet import MeasuredFleet, fleet
from benchmarks.peers.interpreters import all_ready
from benchmarks.peers.waiting import PGQUEUER, PROCRASTINATE
from benchmarks.processes import settle
from benchmarks.taker import KIND, NAME, install
from coordination import Fleet, connect

WORKERS = 10
SENT = 200
IDLE_S = 0.02
PATIENCE_S = 10.0
PEER = "pgqueuer, asyncpg"
OTHER = "procrastinate"
NEARLY_ALL = 0.99
PEERS_TIMES = 1.25

Send = Callable[[], object]


def measure(runs: int) -> Iterator[Figure]:
    """Ten waiting workers of each; one of each kind is sent after another, in turns."""
    with tempfile.TemporaryDirectory(prefix="fleet-bench-", dir="/tmp") as made, ExitStack() as stack:
        Path(made).chmod(0o755)
        measured = stack.enter_context(fleet(environment={"PYTHONPATH": install(Path(made) / "packages")}))
        measured.only({NAME: WORKERS})
        place = Path(made) / "arrived"
        os.mkfifo(place)
        arrivals = stack.enter_context(_Arrivals(place))
        ours = stack.enter_context(connect(measured.host.dsn("worker"), "sender"))
        ways: dict[str, Send] = _ours(ours, str(place)) | stack.enter_context(_peers(measured, str(place)))
        taken: dict[str, list[list[float]]] = {name: [] for name in ways}
        for _ in range(runs):
            for name, latencies in _in_turns(ways, arrivals).items():
                taken[name].append(sorted(latencies))
        for what in ("a job", "a message"):
            for share, title in ((0.5, "p50"), (NEARLY_ALL, "p99")):
                yield Figure(
                    name=f"wakes: {what}, sent until begun, {title}",
                    unit="ms",
                    runs=[_at(share, run) for run in taken[what]],
                    peer_runs=[_at(share, run) for run in taken[PGQUEUER]],
                    peer_name=PEER,
                    raw=[_at(share, run) for run in taken[PROCRASTINATE]],
                    raw_name=OTHER,
                    targets=[Target(of="ratio_peer", most=PEERS_TIMES)],
                    disk=measured.disk,
                    note=f"{WORKERS} idle workers each; {SENT} sent in turns, {IDLE_S * 1000:g} ms apart",
                )


def _ours(sender: Fleet, place: str) -> dict[str, Send]:
    ping = {"kind": KIND, "place": place}
    return {
        "a job": lambda: sender.jobs.enqueue(KIND, ping),
        "a message": lambda: sender.messages.send("TASK_DELEGATION", NAME, ping),
    }


@contextmanager
def _peers(measured: MeasuredFleet, place: str) -> Generator[dict[str, Send]]:
    asyncpg: Any = import_module("asyncpg")
    drivers: Any = import_module("pgqueuer.db")
    queries: Any = import_module("pgqueuer.queries")
    procrastinate: Any = import_module("procrastinate")
    dsn = measured.postgres.superuser_dsn
    loop = asyncio.new_event_loop()

    def now(work: Awaitable[Any]) -> Any:
        return loop.run_until_complete(work)

    queue: Any = queries.Queries(drivers.AsyncpgDriver(now(asyncpg.connect(dsn))))
    now(queue.install())
    app: Any = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=dsn))
    now(app.open_async())
    now(app.schema_manager.apply_schema_async())
    ping: Any = app.configure_task(KIND)
    waiting = [
        [sys.executable, "-m", "benchmarks.peers.waiting", peer, place]
        for peer in (PGQUEUER, PROCRASTINATE)
        for _ in range(WORKERS)
    ]
    with all_ready(waiting, {"PEER_DSN": dsn}):
        settle(1.0)
        yield {
            PGQUEUER: lambda: now(queue.enqueue(KIND, b"{}")),
            PROCRASTINATE: lambda: now(ping.defer_async()),
        }
    now(app.close_async())
    loop.close()


class _Arrivals:
    """The pipe into which whoever took something says when."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._pipe = -1

    def __enter__(self) -> Self:
        self._pipe = os.open(self._place, os.O_RDWR)  # open for both: it never ends
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._pipe)

    def next_s(self) -> float:
        """When the next thing arrived."""
        if not select([self._pipe], [], [], PATIENCE_S)[0]:
            raise TimeoutError(f"nobody took it within {PATIENCE_S:g} s")
        return float(os.read(self._pipe, 100).split(b"\n")[0])


def _in_turns(ways: dict[str, Send], arrivals: _Arrivals) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(SENT):
        for name, send in ways.items():
            settle(IDLE_S)
            began_s = time.clock_gettime(time.CLOCK_BOOTTIME)
            send()
            taken[name].append((arrivals.next_s() - began_s) * 1000)
    return taken


def _at(share: float, latencies: list[float]) -> float:
    return latencies[min(len(latencies) - 1, int(share * len(latencies)))]
