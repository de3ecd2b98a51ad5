"""The one door to PostgreSQL: what becomes of errors, outages and waits."""

import threading
from typing import Any

import psycopg
import pytest

from coordination import Fleet, connect
from coordination.database import Database
from coordination.errors import (
    DatabaseBusyError,
    DatabaseError,
    DatabaseUnavailableError,
    InvalidValueError,
    NotAcknowledgedError,
    PermissionRefusedError,
)
from tests.integration.conftest import FleetDatabase, as_role
from tests.integration.coordination.crowd import until
from tests.integration.coordination.tables import Owner, assert_refused, kill_session, planted, value
from tests.integration.coordination.wire import wire


def test_a_lost_work_connection_is_told_once_and_made_anew(fleet: Fleet, owner: Owner) -> None:
    fleet.database.open()
    kill_session(owner, "tester/1")
    with pytest.raises(DatabaseUnavailableError, match="can't be reached"):
        fleet.engagement.request_lock("1", "tester/1", "quote")
    assert fleet.engagement.request_lock("1", "tester/1", "quote") is not None


def test_while_the_server_is_down_every_call_says_so_and_after_it_calls_work_i2(
    fleet_database: FleetDatabase,
) -> None:
    fleet = fleet_database.connect("survivor")
    lease = fleet.engagement.request_lock("1", "survivor/1", "quote")
    assert lease is not None
    fleet_database.server.immediate_stop()
    try:
        for _ in range(2):
            with pytest.raises(DatabaseUnavailableError):
                fleet.engagement.renew_lock(lease)
        with pytest.raises(DatabaseUnavailableError):
            fleet_database.connect("newcomer")
        fleet.close()  # safe while it is down
    finally:
        fleet_database.server.start()
    with fleet_database.connect("successor") as successor:
        # The lock outlived the crash, its holder didn't; tokens rise across restarts (I2).
        taken = successor.engagement.request_lock("1", "successor/1", "quote")
        assert taken is not None
        assert taken.fencing_token > lease.fencing_token


def test_a_wait_that_times_out_is_busy_and_changed_nothing(fleet: Fleet, owner: Owner) -> None:
    lease = fleet.engagement.request_lock("1", "tester/1", "quote")
    assert lease is not None
    with (
        planted(owner, "renew_lock", ("SET lock_timeout TO '5s'", "SET lock_timeout TO '50ms'")),
        owner.transaction(),
    ):
        owner.execute("SELECT pg_advisory_xact_lock(fleet.lock_key('content', '1'))")
        with pytest.raises(DatabaseBusyError, match="try again"):
            fleet.engagement.renew_lock(lease)
    assert fleet.engagement.renew_lock(lease).fencing_token == lease.fencing_token


def test_a_deadlock_that_was_cut_is_busy(fleet_database: FleetDatabase, owner: Owner) -> None:
    console = fleet_database.database("console")
    faults: list[Exception] = []

    def change() -> None:
        try:
            console.call("set_setting", key="planner_queue_target", value="1", actor="me", reason="x")
        except DatabaseBusyError as error:
            faults.append(error)

    thread = threading.Thread(target=change)
    try:
        with owner.transaction():
            # The owner holds the table; the call holds the key and waits for it; the owner asks for the key.
            owner.execute("SET LOCAL deadlock_timeout = '10s'")
            owner.execute("LOCK TABLE fleet.settings IN EXCLUSIVE MODE")
            thread.start()
            with psycopg.connect(fleet_database.superuser_dsn, autocommit=True) as watcher:
                until(lambda: value(watcher, "SELECT count(*) FROM pg_locks WHERE NOT granted") == 1, 5)
            owner.execute("SELECT pg_advisory_xact_lock(fleet.lock_key('configuration', 'version'))")
    finally:
        thread.join()
        console.close()
    assert len(faults) == 1
    assert value(owner, "SELECT count(*) FROM fleet.settings") == 0


def test_what_a_column_can_not_hold_is_an_invalid_value(fleet: Fleet) -> None:
    with pytest.raises(InvalidValueError, match="NUL"):
        fleet.ledger.propose("sandbox", "post", "plan:1", "a\0b")
    with pytest.raises(InvalidValueError, match="UTF-8") as refusal:
        fleet.ledger.propose("sandbox", "post", "plan:1", "a\ud800b")
    assert refusal.value.field == "text"
    message: Any = None
    with pytest.raises(InvalidValueError) as refusal:
        fleet.audit.event("info", "test", message)
    assert refusal.value.field == "message"
    with pytest.raises(InvalidValueError, match="integer") as refusal:
        fleet.jobs.enqueue("a", max_attempts=10**12)
    assert_refused(refusal, "max_attempts", str(10**12))
    with pytest.raises(InvalidValueError, match="integer") as refusal:
        fleet.jobs.claim("a", n=1.5)  # pyright: ignore[reportArgumentType]
    assert_refused(refusal, "n", "1.5")


def test_an_id_that_is_none_is_refused_by_name(fleet: Fleet) -> None:
    for field, call in (
        ("intent", fleet.ledger.get),
        ("hold", fleet.budgets.keep),
        ("grant_id", fleet.rate_limits.release),
        ("booking_id", fleet.rate_limits.cancel_booking),
        ("reservation_id", fleet.reservations.release_resource),
    ):
        with pytest.raises(InvalidValueError) as refusal:
            call("abc")
        assert_refused(refusal, field, "abc")


def test_a_refused_login_is_not_an_outage(fleet_database: FleetDatabase) -> None:
    stranger = Database(as_role(fleet_database.migrator_dsn, "fleet_worker", "wrong"), name="stranger")
    with pytest.raises(PermissionRefusedError, match="--reset-logins"):
        stranger.open()


def test_a_commit_that_comes_with_a_warning_is_not_acknowledged(fleet: Fleet, owner: Owner) -> None:
    with planted(owner, "flag_enabled", ("BEGIN", "BEGIN RAISE WARNING 'a standby did not confirm';")):
        assert fleet.database.call("flag_enabled", name="x") is True
        with pytest.raises(NotAcknowledgedError):
            fleet.database.call("flag_enabled", acknowledged=True, name="x")
    assert fleet.database.call("flag_enabled", acknowledged=True, name="x") is True


def test_each_call_is_one_round_trip(fleet_database: FleetDatabase) -> None:
    with wire(fleet_database.dsn("worker")) as between, connect(between.dsn, "tester") as fleet:
        fleet.database.open()
        for call in (
            lambda: fleet.engagement.request_lock("1", "w", "quote"),
            lambda: fleet.rate_limits.can_make_request("search_tweets", "w"),
            lambda: fleet.jobs.enqueue("a"),
            lambda: fleet.schedules.fire("tick", 60),
            lambda: fleet.ledger.propose("default", "post", "t", "x"),
            lambda: fleet.heartbeats.beat(state="READY", progress=1),
            lambda: fleet.settings.under("planner_"),
        ):
            before = between.answers
            call()
            assert between.answers == before + 1


def test_a_session_whose_process_is_gone_never_thinks_inside_a_transaction(
    fleet_database: FleetDatabase,
) -> None:
    database = fleet_database.database("worker")
    for key, expected in (
        ("idle_in_transaction_session_timeout", "1s"),
        ("client_connection_check_interval", "250ms"),
        ("statement_timeout", "1min"),
    ):
        assert database.select(f"SELECT current_setting('{key}') AS found", {}) == [{"found": expected}]
    database.close()


def test_a_statement_that_does_not_end_is_ended_and_says_so(fleet_database: FleetDatabase) -> None:
    database = fleet_database.database("worker")
    database.select("SELECT set_config('statement_timeout', '100ms', false)", {})
    with pytest.raises(DatabaseBusyError, match="statement timeout: nothing was changed"):
        database.select("SELECT pg_sleep(60)", {})
    assert database.select("SELECT 1 AS found", {}) == [{"found": 1}]
    database.close()


def test_a_statement_that_goes_beyond_a_limit_of_the_server_is_no_outage(
    fleet_database: FleetDatabase,
) -> None:
    database = fleet_database.database("worker")
    with pytest.raises(DatabaseError, match="too large") as refusal:
        database.select("SELECT repeat('x', 2000000000)", {})
    assert not isinstance(refusal.value, DatabaseUnavailableError)
    assert database.select("SELECT 1 AS found", {}) == [{"found": 1}]
    database.close()


def test_a_connection_string_that_can_not_be_read_shows_no_piece_of_itself() -> None:
    damaged = Database("ostgresql://fleet_console:hidden@/x", name="damaged")
    with pytest.raises(DatabaseUnavailableError, match="can't be read") as refusal:
        damaged.open()
    assert "hidden" not in str(refusal.value)
