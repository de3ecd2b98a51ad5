"""One process of a peer that waits for jobs and says when one came: pgqueuer over asyncpg, or procrastinate.

    PEER_DSN=... python -m benchmarks.peers.waiting pgqueuer PLACE

Both listen as they do by default. It writes a byte to READY_FD when it waits.
"""

import asyncio
import os
import sys
from importlib import import_module
from typing import Any

from benchmarks.taker import KIND, say_arrived

PGQUEUER, PROCRASTINATE = "pgqueuer", "procrastinate"


async def wait_pgqueuer(dsn: str, place: str) -> None:
    """Take jobs one at a time, as soon as they are told of."""
    asyncpg: Any = import_module("asyncpg")
    pgqueuer: Any = import_module("pgqueuer")
    drivers: Any = import_module("pgqueuer.db")
    queries: Any = import_module("pgqueuer.queries")
    manager = pgqueuer.QueueManager(queries.Queries(drivers.AsyncpgDriver(await asyncpg.connect(dsn))))

    @manager.entrypoint(KIND)
    async def take(_job: Any) -> None:
        say_arrived(place)

    running = asyncio.create_task(manager.run(batch_size=10))
    await _say_ready(running)
    await running


async def wait_procrastinate(dsn: str, place: str) -> None:
    """The same, with its own worker."""
    procrastinate: Any = import_module("procrastinate")
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=dsn))

    @app.task(name=KIND)
    async def take() -> None:
        say_arrived(place)

    async with app.open_async():
        running = asyncio.create_task(app.run_worker_async(install_signal_handlers=False))
        await _say_ready(running)
        await running


async def _say_ready(running: asyncio.Task[Any]) -> None:
    await asyncio.wait([running], timeout=1)  # by then it has looked for jobs, and listens
    if running.done():
        running.result()
    os.write(int(os.environ["READY_FD"]), b".")


if __name__ == "__main__":
    wait = {PGQUEUER: wait_pgqueuer, PROCRASTINATE: wait_procrastinate}[sys.argv[1]]
    asyncio.run(wait(os.environ["PEER_DSN"], sys.argv[2]))
