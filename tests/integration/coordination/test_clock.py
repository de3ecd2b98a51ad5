"""Two clocks: real time is the server's; fleet time is moved by the owner, and only ever forward."""

import shutil
import threading
from itertools import pairwise
from typing import Any

import psycopg
import pytest

from coordination.errors import PermissionRefusedError
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.tables import Owner, value


def test_without_a_clock_row_fleet_time_is_real_time(fleet_database: FleetDatabase, owner: Owner) -> None:
    assert fleet_database.dsn("owner")
    assert value(owner, "SELECT abs(extract(epoch FROM fleet.now() - clock_timestamp())) < 0.01")


def test_fleet_time_never_runs_back_for_readers_who_look_while_it_is_moved(
    fleet_database: FleetDatabase,
) -> None:
    stop = threading.Event()
    seen: list[list[Any]] = []

    def watch() -> None:
        moments: list[Any] = []
        seen.append(moments)
        with psycopg.connect(fleet_database.dsn("worker"), autocommit=True) as connection:
            while not stop.is_set():
                moments.append(value(connection, "SELECT fleet.now()"))

    watchers = [threading.Thread(target=watch) for _ in range(2)]
    for watcher in watchers:
        watcher.start()
    for turn in range(24):  # from racing to crawling and back: what a reader still saw must not be undone
        fleet_database.advance(0, rate=(100_000, 0.01)[turn % 2])
    stop.set()
    for watcher in watchers:
        watcher.join()
    for moments in seen:
        assert len(moments) > 24
        assert all(earlier <= later for earlier, later in pairwise(moments))


def test_the_clock_is_moved_by_the_owner_only_and_never_back(fleet_database: FleetDatabase) -> None:
    for role in ("worker", "console", "reader", "maintainer"):
        database = fleet_database.database(role)
        with pytest.raises(PermissionRefusedError):
            database.call("move_clock", advance="1 hour")
        database.close()
    with pytest.raises(psycopg.Error, match="never runs backwards"):
        fleet_database.advance(-1)
    for rate in (0, -1):
        with pytest.raises(psycopg.Error):
            fleet_database.advance(0, rate=rate)


@pytest.mark.skipif(
    shutil.which("faketime") is None, reason="needs libfaketime's faketime, which is not installed"
)
def test_a_workers_wall_clock_a_day_off_changes_nothing_i18(fleet_database: FleetDatabase) -> None:
    import subprocess  # noqa: PLC0415  only where faketime is there
    import sys  # noqa: PLC0415  the same

    program = (
        "import sys; from coordination import connect\n"
        "with connect(sys.argv[1], 'tester') as fleet:\n"
        "    print(fleet.engagement.request_lock('1', 'w', 'quote').lease_expires_at.timestamp())"
    )
    answers = [
        float(
            subprocess.run(
                ["faketime", "-f", shift, sys.executable, "-c", program, fleet_database.dsn("worker")],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
        for shift in ("+0d", "+1d")
    ]
    assert abs(answers[1] - answers[0]) < 60
