"""Alerts: one open row a key; and black boxes."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from coordination import alerts, black_boxes
from coordination.alerts import Alerts
from coordination.database import Database
from coordination.errors import DatabaseBusyError, InvalidValueError
from coordination.rate_limits import unblock_endpoint
from coordination.session import Session
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.managers import managed
from tests.integration.coordination.tables import Owner, assert_refused, rows, value

CRASHES: Any = {"severity": "error", "kind": "crash_loop", "source": "here", "message": "poster/1 crashes"}


def of(severity: str) -> Any:
    return {**CRASHES, "severity": severity}


def test_what_goes_on_failing_is_one_alert_and_one_event(
    fleet_database: FleetDatabase, console: Database, owner: Owner
) -> None:
    with managed(fleet_database, "a") as (manager,):
        raised = [alerts.raise_alert(manager.database, "crash_loop:poster/1", **CRASHES) for _ in range(5)]
        assert raised == [True, False, False, False, False]
        (alert,) = alerts.list_alerts(console)
        assert (alert["times"], alert["severity"], alert["message"]) == (5, "error", "poster/1 crashes")
        assert value(owner, "SELECT count(*) FROM fleet.events WHERE kind = 'alert'") == 1
        assert alerts.clear_alert(manager.database, "crash_loop:poster/1")
        assert not alerts.clear_alert(manager.database, "crash_loop:poster/1")
        assert alerts.list_alerts(console) == []
        assert alerts.raise_alert(manager.database, "crash_loop:poster/1", **CRASHES)
        assert len(alerts.list_alerts(console, open_only=False)) == 2


def test_many_who_raise_one_alert_at_the_same_moment_raise_one(
    fleet_database: FleetDatabase, owner: Owner
) -> None:
    with managed(fleet_database, "a", "b", "c", "d") as managers, ThreadPoolExecutor(4) as threads:

        def raise_often(connection: Database) -> int:
            return sum(alerts.raise_alert(connection, "disk", **CRASHES) for _ in range(25))

        assert sum(threads.map(raise_often, [manager.database for manager in managers])) == 1
        assert rows(owner, "SELECT times FROM fleet.alerts") == [(100,)]


def test_the_worst_open_alert_is_listed_first(fleet_database: FleetDatabase, console: Database) -> None:
    with managed(fleet_database, "a") as (manager,):
        for severity in ("warning", "critical", "info", "error"):
            alerts.raise_alert(manager.database, severity, **of(severity))
        assert [alert["severity"] for alert in alerts.list_alerts(console)] == [
            "critical", "error", "warning", "info",
        ]  # fmt: skip
        with pytest.raises(InvalidValueError) as refusal:
            alerts.raise_alert(manager.database, "x", **of("dreadful"))
        assert_refused(refusal, "severity", "dreadful")


def test_a_person_acknowledges_an_alert_and_it_stays_open(
    fleet_database: FleetDatabase, console: Database, owner: Owner
) -> None:
    with managed(fleet_database, "a") as (manager,):
        alerts.raise_alert(manager.database, "disk", **CRASHES)
        (alert,) = alerts.list_alerts(console)
        told = alerts.acknowledge_alert(console, alert["id"], actor="ann", reason="on it")
        assert told["open"]
        (alert,) = alerts.list_alerts(console)
        assert alert["acknowledged_by"] == "ann"
        assert rows(owner, "SELECT actor, target FROM fleet.audits WHERE action = 'acknowledge_alert'") == [
            ("ann", "disk")
        ]
        with pytest.raises(InvalidValueError):
            alerts.acknowledge_alert(console, "999999", actor="ann", reason="on it")


def test_a_worker_raises_and_withdraws_its_own(fleet_database: FleetDatabase, console: Database) -> None:
    with fleet_database.connect("monitoring") as fleet:
        own = Alerts(Session(fleet.database, fleet.incarnation.id))
        assert own.raise_alert("errors:poster", severity="warning", kind="health", message="many")
        assert [alert["source"] for alert in alerts.list_alerts(console)] == ["monitoring/1"]
        assert own.clear_alert("errors:poster")
        assert alerts.list_alerts(console) == []


def test_a_black_box_shows_the_query_the_locks_and_what_is_in_hand(
    fleet_database: FleetDatabase, owner: Owner
) -> None:
    with managed(fleet_database, "a") as (manager,), fleet_database.connect("poster") as fleet:
        intent = fleet.ledger.propose("sandbox", "post", "t", "hello")
        owner.execute(
            "UPDATE fleet.intents SET state = 'claimed', incarnation = %s, fencing_token = 1 WHERE id = %s",
            (fleet.incarnation.id, intent.id),
        )
        assert fleet.engagement.request_lock("1999", "poster/1", "analysis") is not None
        seen = black_boxes.look_into(manager.database, "poster", 1, str(fleet.incarnation.id))
        names = {session["name"] for session in seen["sessions"]}
        assert names == {"socialfleet poster/1", "socialfleet poster/1 incarnation"}
        # The migrator is no superuser, and yet the query's text is there.
        queries = " ".join(str(session["query"]) for session in seen["sessions"])
        assert "request_lock" in queries
        assert "insufficient privilege" not in queries
        assert any(lock["type"] == "advisory" and lock["granted"] for lock in seen["locks"])
        assert [(entry["id"], entry["state"]) for entry in seen["intents"]] == [(intent.id, "claimed")]
        assert [lease["content"] for lease in seen["leases"]] == ["1999"]


def test_a_black_box_shows_who_blocks_a_session(fleet_database: FleetDatabase, owner: Owner) -> None:
    with (
        managed(fleet_database, "a") as (manager,),
        fleet_database.connect("poster") as fleet,
        ThreadPoolExecutor(1) as threads,
    ):
        with owner.transaction():
            owner.execute("LOCK TABLE fleet.failed_items IN ACCESS EXCLUSIVE MODE")
            waiting = threads.submit(fleet.failed_items.fail, "1999", ValueError("no"), max_attempts=3)
            blocked: list[list[int]] = []
            while not any(blocked) and not waiting.done():
                seen = black_boxes.look_into(manager.database, "poster", 1, None)
                blocked = [session["blocked_by"] for session in seen["sessions"]]
            assert [owner.info.backend_pid] in blocked
        assert waiting.exception(10) is None


def test_a_look_that_is_blocked_itself_gives_up(fleet_database: FleetDatabase, owner: Owner) -> None:
    with managed(fleet_database, "a") as (manager,), owner.transaction():
        owner.execute("LOCK TABLE fleet.intents IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(DatabaseBusyError):
            black_boxes.look_into(manager.database, "poster", 1, None)


def test_black_boxes_are_kept_and_too_large_ones_only_by_their_size(
    fleet_database: FleetDatabase, console: Database
) -> None:
    with managed(fleet_database, "a") as (manager,):
        kept: Any = {"worker": "poster", "slot": 1, "incarnation": None, "pid": 7, "reason": "stalled"}
        black_boxes.keep_black_box(manager.database, "a", **kept, report={"stacks": "line\0"})
        black_boxes.keep_black_box(manager.database, "a", **kept, report={"stacks": "x" * 1_200_000})
        large, small = black_boxes.list_black_boxes(console)
        assert black_boxes.list_black_boxes(console, worker="planner") == []
        found = black_boxes.get_black_box(console, small["id"])
        assert found is not None
        assert found["report"] == {"stacks": "line\ufffd"}
        found = black_boxes.get_black_box(console, large["id"])
        assert found is not None
        assert found["report"]["too_large"] > 1_200_000
        assert black_boxes.get_black_box(console, "999999") is None


def test_a_person_lifts_a_block_that_refusals_put_on_an_endpoint(
    fleet_database: FleetDatabase, console: Database, owner: Owner
) -> None:
    with fleet_database.connect("poster") as fleet:
        grant = fleet.rate_limits.can_make_request("post_tweet", "poster/1", "high", "sandbox")
        assert grant.grant_id is not None
        fleet.rate_limits.record_usage(grant.grant_id, success=False, response_headers={}, status=429)
        assert not fleet.rate_limits.can_make_request("post_tweet", "poster/1", "high", "sandbox").allowed
        told = unblock_endpoint(console, "sandbox", "post_tweet", actor="ann", reason="X says it was theirs")
        assert told["was_blocked_until"]
        assert fleet.rate_limits.can_make_request("post_tweet", "poster/1", "high", "sandbox").allowed
        (audit,) = rows(
            owner, "SELECT actor, target, details FROM fleet.audits WHERE action = 'unblock_endpoint'"
        )
        assert audit[:2] == ("ann", "sandbox post_tweet")
        assert audit[2]["blocked_until"]
        again = unblock_endpoint(console, "sandbox", "post_tweet", actor="ann", reason="again")
        assert again["was_blocked_until"] is None
    with pytest.raises(InvalidValueError) as refusal:
        unblock_endpoint(console, "sandbox", "levitate", actor="ann", reason="x")
    assert_refused(refusal, "endpoint", "levitate")
