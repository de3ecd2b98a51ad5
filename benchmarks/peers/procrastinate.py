"""procrastinate over psycopg: its own worker with many jobs at once, until the queue is empty."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from benchmarks.load import Call

NAME = "procrastinate"
AT_ONCE = 1000
_done = 0


def install(dsn: str) -> None:
    """Make its tables."""
    with _app(dsn).open() as app:
        app.schema_manager.apply_schema()


def fill(dsn: str, number: int) -> None:
    """Put so many jobs that do nothing."""
    with _app(dsn).open() as app:
        for _ in range(0, number, AT_ONCE):
            app.tasks["noop"].batch_defer(*[{}] * AT_ONCE)


@contextmanager
def worker(dsn: str, concurrency: int) -> Generator[Call]:
    """Open a worker with so many jobs at once; a call works the queue off."""
    app = _app(dsn, concurrency)

    async def run() -> None:
        async with app.open_async():
            await app.run_worker_async(
                wait=False, concurrency=concurrency, listen_notify=False, install_signal_handlers=False
            )

    def call() -> int:
        asyncio.run(run())
        return _done

    yield call


def _app(dsn: str, connections: int = 1) -> Any:
    made: Any = import_module("procrastinate")
    app = made.App(connector=made.PsycopgConnector(conninfo=dsn, min_size=1, max_size=connections))

    async def noop() -> None:
        global _done  # noqa: PLW0603  a worker is a process of its own
        _done += 1

    app.task(name="noop")(noop)
    return app
