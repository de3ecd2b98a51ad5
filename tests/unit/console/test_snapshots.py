"""When the console reads: by itself while nobody asks, and once for all who do."""

import asyncio
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar, cast

from console.connection import Connection, UnreachableError
from console.snapshots import FRESH_S, Snapshot, Snapshots
from coordination.database import Database
from tests.unit.console.test_metrics import snapshot

QUIET_S = 1.3 * FRESH_S
T = TypeVar("T")


class CountingConnection(Connection):
    """Gives the same snapshot each time, and notes when; it fails as it is told to."""

    def __init__(self) -> None:
        super().__init__(Path("nowhere"))
        self.begun_at: list[float] = []
        self.faults: list[Exception] = []
        self.read = asyncio.Event()

    async def run(self, work: Callable[[Database], T], *, timeout_s: float) -> T:  # noqa: ARG002  no database
        self.begun_at.append(time.monotonic())
        await asyncio.sleep(0)
        self.read.set()
        if self.faults:
            raise self.faults.pop()
        return cast("Any", snapshot())

    async def readings(self, number: int) -> None:
        while len(self.begun_at) < number:
            self.read.clear()
            await asyncio.wait_for(self.read.wait(), 10)


def gaps(moments: list[float]) -> list[float]:
    return [after - before for before, after in pairwise(moments)]


def kept_fresh(scene: Callable[[Snapshots, CountingConnection], Any]) -> CountingConnection:
    async def play() -> CountingConnection:
        connection = CountingConnection()
        snapshots = Snapshots(connection, quiet_s=QUIET_S)
        keeping = asyncio.create_task(snapshots.keep_fresh())
        await scene(snapshots, connection)
        keeping.cancel()
        return connection

    return asyncio.run(play())


def test_while_nobody_asks_it_is_read_again_and_again_at_its_distance() -> None:
    async def scene(_snapshots: Snapshots, connection: CountingConnection) -> None:
        await connection.readings(3)

    found = gaps(kept_fresh(scene).begun_at)
    assert len(found) == 2
    assert all(QUIET_S <= gap < 2 * QUIET_S for gap in found), found


def test_while_pages_ask_nothing_is_read_beside_them() -> None:
    async def scene(snapshots: Snapshots, connection: CountingConnection) -> None:
        while len(connection.begun_at) < 4:
            assert isinstance((await snapshots.sight()).snapshot, Snapshot)
            await asyncio.sleep(0.02)

    found = gaps(kept_fresh(scene).begun_at)
    assert all(FRESH_S <= gap < QUIET_S for gap in found), found


def test_a_reading_that_fails_in_any_way_is_not_the_last() -> None:
    async def scene(snapshots: Snapshots, connection: CountingConnection) -> None:
        connection.faults = [RuntimeError("a mistake of ours"), UnreachableError("away")]
        await connection.readings(3)
        assert (await snapshots.sight()).fault is None

    assert len(kept_fresh(scene).begun_at) == 3
