"""Two clocks: real time is the server's; fleet time is moved by the owner, and only ever forward."""

import shutil
import threading
from itertools import pairwise
from typing import Any

import psycopg
import pytest

from coordination import Fleet
from coordination.database import Database
from coordination.errors import PermissionRefusedError
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.crowd import until
from tests.integration.coordination.queueing import configure
from tests.integration.coordination.tables import Owner, value

WAITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
)


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


def test_a_move_is_in_no_circle_with_who_read_the_time_and_then_settles(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    fleet_database.advance(1)
    grant = fleet.session.call("can_make_request", endpoint="post_tweet", worker_id="w/1")
    with psycopg.connect(fleet_database.dsn("owner")) as sender:
        sender.execute("SELECT fleet.now()")
        move = threading.Thread(target=fleet_database.advance, args=(5,))
        move.start()
        until(lambda: value(owner, WAITING) == 1, 5)
        settled = value(
            sender,
            "SELECT fleet.settle_grant(%s, %s, true, '{}', 200) IS NOT NULL",
            fleet.incarnation.id,
            int(grant["grant_id"]),
        )
        sender.commit()
        move.join()
    assert settled is not None


def test_nor_with_who_waits_for_a_prepaid_unit_and_then_decides(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, console: Database
) -> None:
    configure(console, "like_tweet", (10_000, 60))
    configure(console, "api_requests", (1_000_000, 900))
    for _ in range(20):
        fleet.rate_limits.can_make_request("like_tweet", "w/1")
    with psycopg.connect(fleet_database.superuser_dsn) as holder:
        owner.execute(
            "UPDATE fleet.rate_prepaid SET units = 5, paid_real_at = clock_timestamp() + interval '1 s'"
        )
        holder.execute("SELECT 1 FROM fleet.rate_prepaid FOR UPDATE")
        allowed: list[bool] = []
        low = threading.Thread(
            target=lambda: allowed.append(
                fleet.rate_limits.can_make_request("like_tweet", "w/1", "low").allowed
            )
        )
        low.start()
        until(lambda: value(owner, WAITING) == 1, 5)
        move = threading.Thread(target=fleet_database.advance, args=(5,))
        move.start()
        until(lambda: value(owner, WAITING) == 2, 5)
        holder.rollback()
    low.join()
    move.join()
    assert allowed == [True]
    assert value(owner, "SELECT fleet.now() - clock_timestamp() > interval '4 s'")


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
