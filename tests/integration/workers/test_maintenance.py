"""Maintenance on a real database: what is over goes, what is not stays."""

from collections.abc import Callable
from threading import Event

import pytest

from config import Config
from coordination import Fleet, connect
from coordination.conflicts import Contender
from coordination.engagement import Priority
from coordination.errors import InvalidValueError, ReservationLostError
from coordination.resources import Reservation
from coordination.retention import KINDS
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.crowd import until, victim
from tests.integration.coordination.tables import planted
from workers.context import Context
from workers.errors import PartsFailedError
from workers.fleet.maintenance import Maintenance, MaintenanceSettings
from workers.progress import Progress

DAY_S = 86_400


def maintenance(fleet: Fleet) -> Maintenance:
    return Maintenance(
        context=Context(config=Config(), account="sandbox"),
        fleet=fleet,
        progress=Progress(),
        draining=Event(),
    )


def count(fleet_database: FleetDatabase, table: str) -> int:
    with fleet_database.owner() as owner:
        found = owner.execute(f"SELECT count(*) FROM fleet.{table}".encode()).fetchone()
    assert found is not None
    return int(found[0])


def test_every_kind_has_a_time_and_can_be_swept(fleet: Fleet) -> None:
    settings = MaintenanceSettings()
    for kind in KINDS:
        assert settings.keep_s(kind) > 0
        assert fleet.retention.sweep(kind, keep_s=settings.keep_s(kind)) == 0
    with pytest.raises(InvalidValueError, match=r"kind is 'intents'.*candidates"):
        fleet.retention.sweep("intents", keep_s=1)


def test_what_is_past_its_time_goes_and_the_rest_stays(fleet: Fleet, fleet_database: FleetDatabase) -> None:
    granted = fleet.rate_limits.can_make_request("get_tweets", "tester/1", account="sandbox")
    assert granted.grant_id is not None
    fleet.rate_limits.record_usage(granted.grant_id, True, {})
    assert fleet.rate_limits.can_make_request("get_tweets", "tester/1", account="sandbox").grant_id
    fleet.runs.finish(fleet.runs.start("step", "old"), items=0, item_errors=0)
    fleet.runs.start("step", "running")
    fleet.audit.event("info", "old", "an old event")
    fleet_database.advance(31 * DAY_S)
    fleet.audit.event("info", "new", "a new event")
    maintenance(fleet).step()
    # Of the two grants the unsettled one stays: nobody knows yet whether it was used.
    assert count(fleet_database, "rate_grants") == 1
    assert count(fleet_database, "runs") == 0
    assert count(fleet_database, "open_runs") == 1
    with fleet_database.owner() as owner:
        assert owner.execute("SELECT kind FROM fleet.events ORDER BY id").fetchall() == [("new",), ("swept",)]


def test_more_than_a_batch_goes_in_one_step(fleet: Fleet, fleet_database: FleetDatabase) -> None:
    with fleet_database.owner() as owner:
        owner.execute(
            "INSERT INTO fleet.events (at, severity, kind, source, message, data) "
            "SELECT fleet.now() - interval '40 days', 'info', 'old', 'me', '', '{}' "
            "FROM generate_series(1, 2500)"
        )
    maintenance(fleet).step()
    assert count(fleet_database, "events WHERE kind = 'old'") == 0


def test_a_kind_that_can_not_be_swept_is_told_keeps_no_other_back_and_is_never_given_up(
    fleet: Fleet, fleet_database: FleetDatabase
) -> None:
    broken = "IF kind = 'events' THEN RAISE EXCEPTION 'this one is broken'; END IF;"
    one = maintenance(fleet)
    with fleet_database.owner() as owner:
        for _ in range(one.settings.max_item_attempts):
            fleet.audit.event("info", "old", "an old event")
            fleet.runs.finish(fleet.runs.start("step", "old"), items=0, item_errors=0)
            fleet_database.advance(32 * DAY_S)
            with (
                planted(owner, "sweep", ("PERFORM fleet.require_incarnation(incarnation);", broken)),
                pytest.raises(PartsFailedError, match=r"^events: DatabaseError: this one is broken$"),
            ):
                one.step()
            assert count(fleet_database, "runs") == 0
    one.step()
    assert count(fleet_database, "events WHERE kind = 'old'") == 0


def test_the_ledger_and_the_audit_are_never_swept() -> None:
    assert not {"intents", "attempts", "intent_transitions", "audits", "readings"} & set(KINDS)


def test_a_life_that_fell_silent_is_closed_and_one_that_holds_its_lock_is_not(
    fleet: Fleet, fleet_database: FleetDatabase
) -> None:
    with fleet_database.connect("living") as living, fleet_database.owner() as owner:
        owner.execute(
            "INSERT INTO fleet.incarnations "
            "(id, worker, slot, host, pid, pid_started, boot_id, pid_namespace, started_at) "
            "VALUES (gen_random_uuid(), 'gone', 1, 'h', 1, '1', 'b', 'n', now())"
        )
        owner.execute("UPDATE fleet.incarnations SET started_at = now() - interval '9 days'")
        assert fleet.retention.close_silent(keep_s=DAY_S) == 1
        found = owner.execute(
            "SELECT worker FROM fleet.incarnations WHERE ended_at IS NULL ORDER BY worker"
        ).fetchall()
        assert found == [("living",), ("tester",)]
        assert living.flags.enabled("any")


def test_a_conflict_goes_once_it_was_decided_long_ago_and_stays_as_long_as_a_person_must(
    fleet: Fleet, fleet_database: FleetDatabase
) -> None:
    def settle(key: str, *priorities: Priority) -> str:
        wants = [Contender(worker=f"w{n}", priority=one) for n, one in enumerate(priorities)]
        return fleet.conflicts.resolve(key, "resource", "post 7", wants).id

    settle("old", "high", "low")
    still_open = settle("open", "low", "low")
    fleet_database.advance(91 * DAY_S)
    new = settle("new", "high", "low")
    maintenance(fleet).step()
    with fleet_database.owner() as owner:
        left = owner.execute("SELECT id::text FROM fleet.conflicts ORDER BY id").fetchall()
    assert left == [(still_open,), (new,)]


def test_a_reservation_goes_when_it_ended_long_ago_in_real_time(
    fleet: Fleet, fleet_database: FleetDatabase
) -> None:
    old, new, held = (
        fleet.reservations.request_resource("content", "content_pipeline", "w", duration_minutes=1440)
        for _ in range(3)
    )
    quota = fleet.reservations.request_api_quota("w", "search", account="sandbox")
    assert isinstance(old, Reservation)
    assert isinstance(new, Reservation)
    assert isinstance(held, Reservation)
    assert isinstance(quota, Reservation)
    fleet.reservations.release_resource(old)
    fleet.reservations.release_resource(quota)
    with fleet_database.owner() as owner:
        owner.execute("UPDATE fleet.reservations SET reserved_at = reserved_at - interval '8 days'")
        owner.execute("UPDATE fleet.reservations SET ended_at = ended_at - interval '7 days'")
        fleet.reservations.release_resource(new)
        fleet_database.advance(31 * DAY_S)
        maintenance(fleet).step()
        left = owner.execute("SELECT id::text FROM fleet.reservations ORDER BY id").fetchall()
    assert left == [(new.reservation_id,), (held.reservation_id,)]
    for gone, why in ((old, "unknown"), (quota, "unknown"), (new, "released")):
        with pytest.raises(ReservationLostError) as lost:
            fleet.reservations.renew(gone)
        assert lost.value.why == why
    [pool] = fleet.reservations.get_pool_status("content", "content_pipeline")
    assert pool["reserved_capacity"] == 1
    fleet.reservations.release_resource(held)


def test_nobody_is_woken_for_long_who_died_in_its_sleep(fleet: Fleet, fleet_database: FleetDatabase) -> None:
    with fleet_database.owner() as owner, fleet_database.connect("living") as living:
        with victim(_fall_asleep, fleet_database.dsn("worker")) as doomed:
            doomed.kill()
            owner.execute("UPDATE fleet.incarnations SET started_at = started_at - interval '9 days'")
            until(lambda: fleet.retention.close_silent(keep_s=DAY_S) == 1, 2)
        left = owner.execute("SELECT incarnation FROM fleet.sleepers ORDER BY worker").fetchall()
        assert left == [(living.incarnation.id,), (fleet.incarnation.id,)]


def _fall_asleep(keep: Callable[[object], None], dsn: str) -> None:
    fleet = connect(dsn, "sleeper")
    keep(fleet)
    assert fleet.messages.claim() == []
