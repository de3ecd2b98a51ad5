"""pgqueuer over asyncpg and uvloop, all its tables flushed: its own worker, until the queue is empty."""

import asyncio
import os
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from importlib import import_module
from typing import Any

from benchmarks.load import Call

NAME = "pgqueuer, asyncpg"
KIND = "noop"
AT_ONCE = 1000
FOR_EVER_S = 3600.0


def install(dsn: str) -> None:
    """Make its tables."""

    async def run() -> None:
        connection, queries = await _connect(dsn)
        await queries.install()
        await connection.close()

    _loop().run_until_complete(run())


def fill(dsn: str, number: int) -> None:
    """Put so many jobs that do nothing."""

    async def run() -> None:
        connection, queries = await _connect(dsn)
        for _ in range(0, number, AT_ONCE):
            await queries.enqueue([KIND] * AT_ONCE, [b"{}"] * AT_ONCE, [0] * AT_ONCE)
        await connection.execute("ANALYZE pgqueuer")
        await connection.close()

    _loop().run_until_complete(run())


@contextmanager
def worker(dsn: str, batch: int) -> Generator[Call]:
    """Open a worker; a call works the queue off."""
    manager_of: Any = import_module("pgqueuer.core.qm").QueueManager
    mode: Any = import_module("pgqueuer.domain.types").QueueExecutionMode
    loop = _loop()
    _, queries = loop.run_until_complete(_connect(dsn))
    manager = manager_of(queries)
    done = 0

    async def noop(_job: object) -> None:
        nonlocal done
        done += 1

    manager.entrypoint(KIND)(noop)

    def call() -> int:
        loop.run_until_complete(manager.run(batch_size=batch, mode=mode.drain))
        return done

    yield call


def put(dsn: str, kind: str) -> None:
    """Put one job of another kind."""

    async def run() -> None:
        connection, queries = await _connect(dsn)
        await queries.enqueue([kind], [b"{}"], [0])
        await connection.close()

    _loop().run_until_complete(run())


def hold(dsn: str, kind: str, told: int, timeout_s: float) -> None:
    """Work for ever, and keep each job for ever; who has one appends its process's number to a file.

    Args:
        dsn: where.
        kind: of what.
        told: the file's descriptor.
        timeout_s: after so long without a heartbeat a job is taken from its worker, and so often it is
            looked for.
    """
    loop = _loop()
    _, queries = loop.run_until_complete(_connect(dsn))
    manager: Any = import_module("pgqueuer.core.qm").QueueManager(queries)

    async def keep(_job: object) -> None:
        os.write(told, f"{os.getpid()}\n".encode())
        await asyncio.sleep(FOR_EVER_S)

    manager.entrypoint(kind)(keep)
    timeout = timedelta(seconds=timeout_s)
    loop.run_until_complete(manager.run(dequeue_timeout=timeout, heartbeat_timeout=timeout))


def _loop() -> Any:
    return import_module("uvloop").new_event_loop()


async def _connect(dsn: str) -> tuple[Any, Any]:
    connection: Any = await import_module("asyncpg").connect(dsn)
    queries: Any = import_module("pgqueuer.adapters.persistence.queries").Queries
    return connection, queries.from_asyncpg_connection(connection)
