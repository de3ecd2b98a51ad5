"""Reservations: units of things with a capacity, held by one until they come back."""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_args

import pytest

from coordination import Fleet, Reservation, connect
from coordination.database import Database
from coordination.errors import IncarnationLostError, InvalidValueError, ReservationLostError
from coordination.pools import configure_pool
from coordination.resources import Refused, ResourceType
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination import crowd
from tests.integration.coordination.crowd import PROCESSES, together, until, victim
from tests.integration.coordination.lines import Line, let_pass
from tests.integration.coordination.tables import Owner, assert_refused, planted, rows, value


def reserve(fleet: Fleet, resource_id: str = "a post", **options: Any) -> Reservation | None:
    return fleet.reservations.reserve_resource("content", resource_id, "tester/1", **options)


def _contend(start: Callable[[], int], dsn: str, times: int) -> int:
    """Take one or two units of a pool and give them back, so many times."""
    done = 0
    with connect(dsn, "contender") as fleet:
        chance = random.Random(str(fleet.incarnation.id))
        start()
        while done < times:
            units = chance.choice((1, 1, 2))
            held = fleet.reservations.reserve_resource(
                "content", "pool", f"w{chance.randrange(4)}", units=units, wait_s=chance.choice((0, 30))
            )
            if held is not None:
                fleet.reservations.release_resource(held)
                done += 1
    return done


def _contention(fleet_database: FleetDatabase, console: Database, strategy: Any = None) -> None:
    configure_pool(
        console, "content", "pool", actor="me", reason="test", capacity=3, strategy=strategy, queue_bound=100
    )
    assert together(_contend, 10, fleet_database.dsn("worker"), 12) == [12] * 10


def highest_use(owner: Owner, resource_id: str = "pool") -> int:
    """The most units that were held at one time, by the database's own record."""
    changes = rows(
        owner,
        "SELECT reserved_at AS at, 1, units FROM fleet.reservations WHERE resource_id = %s UNION ALL "
        "SELECT ended_at, 0, -units FROM fleet.reservations WHERE resource_id = %s AND ended_at IS NOT NULL "
        "ORDER BY 1, 2",
        resource_id,
        resource_id,
    )
    used, highest = 0, 0
    for _, _, units in changes:
        used += units
        highest = max(highest, used)
    return highest


@pytest.mark.parametrize("strategy", ["priority", "equal", "proportional"])
def test_ten_processes_never_hold_more_than_there_is_and_all_of_it_comes_back_i11(
    fleet_database: FleetDatabase, console: Database, fleet: Fleet, owner: Owner, strategy: str
) -> None:
    _contention(fleet_database, console, strategy)
    assert 1 < highest_use(owner) <= 3
    line = Line(fleet, owner)
    line.assert_sound()
    assert line.pool("reserved") == 0
    assert value(owner, "SELECT count(*) FROM fleet.reservation_queue WHERE waits") == 0


def test_a_capacity_that_changes_under_them_is_never_exceeded_and_loses_nobody_i11(
    fleet_database: FleetDatabase, console: Database, fleet: Fleet, owner: Owner
) -> None:
    configure_pool(
        console, "content", "pool", actor="me", reason="test", capacity=3, min_capacity=1, max_capacity=3
    )
    with ThreadPoolExecutor(1) as beside:
        done = beside.submit(together, _contend, 6, fleet_database.dsn("worker"), 12)
        load = 0.0
        while not done.done():
            load = 1 - load
            fleet.reservations.adjust_capacity("content", "pool", load)  # to 1, and back to 3
        assert done.result() == [12] * 6
    assert 1 < highest_use(owner) <= 3
    line = Line(fleet, owner)
    line.assert_sound()
    assert (line.pool("reserved"), line.pool("overhang")) == (0, 0)


def test_without_the_pools_row_the_test_above_would_fail(
    fleet_database: FleetDatabase, console: Database, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crowd, "PATIENCE_S", 8.0)  # units that are lost are waited for without an end
    with planted(owner, "hold_pool", ("= hold_pool.resource_id FOR UPDATE;", "= hold_pool.resource_id;")):
        try:
            _contention(fleet_database, console)
        except AssertionError:  # a process failed: the pool's count went below nothing, or above what it has
            return
        assert highest_use(owner) > 3


def test_the_table_itself_refuses_a_use_above_capacity(fleet: Fleet, owner: Owner) -> None:
    assert reserve(fleet) is not None
    room = "before.requests = 0 AND room >= asked.units"
    with (
        planted(owner, "reserve_resource", (room, "true")),
        pytest.raises(InvalidValueError, match="pools_check"),
    ):
        reserve(fleet)
    assert value(owner, "SELECT sum(units) FROM fleet.reservations") == 1


def test_a_thing_that_nobody_configured_is_for_one_holder(
    fleet_database: FleetDatabase, fleet: Fleet
) -> None:
    held = reserve(fleet)
    assert held is not None
    assert (held.resource_type, held.resource_id, held.units) == ("content", "a post", 1)
    assert held.reservation_id == str(held.fencing_token)
    with fleet_database.connect("other") as other:
        assert reserve(other) is None
        assert reserve(fleet) is None  # nor for the holder a second time
        fleet.reservations.release_resource(held.reservation_id)
        again = reserve(other)
        assert again is not None
        assert again.fencing_token > held.fencing_token


def test_kinds_say_how_many_may_share_what_nobody_configured(fleet: Fleet) -> None:
    for kind, places in (("thread", 1), ("reply_chain", 1), ("discussion", 3), ("community", 5)):
        asked = [
            fleet.reservations.reserve_resource("conversation", f"a {kind}", "w", kind=kind) for _ in range(6)
        ]
        assert sum(one is not None for one in asked) == places
    capacities: dict[ResourceType, int] = {
        "db_connection": 20,
        "memory": 1024,
        "cpu": 100,
        "storage": 10240,
    }
    for resource_type, units in capacities.items():
        held = fleet.reservations.reserve_resource(resource_type, "here", "w", units=units)
        assert held is not None
        assert fleet.reservations.reserve_resource(resource_type, "here", "w") is None
    for kind in ("premium", "reply_opportunity", "analysis", "trending"):
        assert fleet.reservations.reserve_resource("content", kind, "w", kind=kind) is not None
        with pytest.raises(InvalidValueError) as refused:
            fleet.reservations.reserve_resource("content", kind, "w", kind="pipeline")
        assert_refused(refused, "kind", "pipeline")


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("resource_type", "gold"),
        ("resource_id", ""),
        ("resource_id", "x" * 513),
        ("worker_id", ""),
        ("priority", "urgent"),
        ("duration_minutes", 0),
        ("duration_minutes", float("nan")),
        ("duration_minutes", 1441),
        ("units", 0),
        ("units", 2),
        ("wait_s", -1),
        ("wait_s", float("nan")),
        ("kind", "golden"),
        ("need", 0),
    ],
)
def test_what_can_not_be_asked_for_is_refused_by_name(fleet: Fleet, field: str, bad: Any) -> None:
    options: dict[str, Any] = {"resource_type": "content", "resource_id": "a post", "worker_id": "w"}
    with pytest.raises(InvalidValueError) as refused:
        fleet.reservations.reserve_resource(**{**options, field: bad})
    assert refused.value.field == field


def test_a_life_that_ended_reserves_nothing(fleet_database: FleetDatabase) -> None:
    ended = fleet_database.connect("ended")
    ended.incarnation.close("test")
    with pytest.raises(IncarnationLostError):
        reserve(ended)
    ended.close()


def test_what_is_lost_says_why_and_is_counted(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    held = reserve(fleet)
    assert held is not None
    with fleet_database.connect("other") as other:
        with pytest.raises(ReservationLostError) as lost:
            other.reservations.release_resource(held)
        assert lost.value.why == "not_yours"
        with pytest.raises(ReservationLostError) as lost:
            other.reservations.renew(held)
        assert lost.value.why == "not_yours"
    fleet.reservations.release_resource(held)
    for late in (fleet.reservations.release_resource, fleet.reservations.renew):
        with pytest.raises(ReservationLostError) as lost:
            late(held)
        assert lost.value.why == "released"
    assert Line(fleet, owner, "a post").pool("late") == 4
    with pytest.raises(ReservationLostError) as lost:
        fleet.reservations.release_resource("99999999999")
    assert lost.value.why == "unknown"


def test_a_lease_that_is_over_frees_its_units_and_comes_back_to_nobody(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    held = reserve(fleet, duration_minutes=10)
    assert held is not None
    let_pass(owner, 599)
    renewed = fleet.reservations.renew(held, 10)
    assert renewed > held.lease_expires_at
    let_pass(owner, 599)
    with fleet_database.connect("heir") as heir:
        assert reserve(heir) is None
        let_pass(owner, 2)
        assert heir.reservations.check_availability("content", "a post").available
        with pytest.raises(ReservationLostError) as lost:
            fleet.reservations.renew(held)
        assert lost.value.why == "expired"
        taken = reserve(heir)
        assert taken is not None
        with pytest.raises(ReservationLostError) as lost:
            fleet.reservations.release_resource(held)
        assert lost.value.why == "expired"
        heir.reservations.renew(taken)  # the late one took nothing from its heir
    line = Line(fleet, owner, "a post")
    line.assert_sound()
    assert (line.pool("expired"), line.pool("late")) == (1, 2)


def test_moving_fleet_time_ends_no_reservation(fleet_database: FleetDatabase, fleet: Fleet) -> None:
    held = reserve(fleet, duration_minutes=1)
    assert held is not None
    fleet_database.advance(30 * 86400)
    with fleet_database.connect("heir") as heir:
        assert reserve(heir) is None
    fleet.reservations.release_resource(held)


def _hold_for_long(keep: Callable[[object], None], dsn: str) -> str:
    fleet = connect(dsn, "mortal")
    keep(fleet)
    held = fleet.reservations.reserve_resource("content", "a post", "mortal/1", duration_minutes=1440)
    assert held is not None
    return held.reservation_id


def test_the_units_of_a_process_that_died_are_anybodys_at_once(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    with victim(_hold_for_long, fleet_database.dsn("worker")) as mortal:
        assert reserve(fleet) is None
        assert not fleet.reservations.check_availability("content", "a post").available
        mortal.kill()
        until(lambda: fleet.reservations.check_availability("content", "a post").available, 10)
        assert reserve(fleet) is not None
        with pytest.raises(ReservationLostError) as lost:
            fleet.reservations.release_resource(mortal.result)
        assert lost.value.why == "not_yours"
    line = Line(fleet, owner, "a post")
    line.assert_sound()
    assert line.pool("recovered") == 1


def _churn(dsn: str, number: int) -> None:
    """Hold and wait for ever, with leases that would outlast the test."""
    with connect(dsn, "churner") as fleet:
        chance = random.Random(number)
        while True:
            held = fleet.reservations.reserve_resource(
                "content",
                "pool",
                f"w{number}",
                chance.choice(("low", "high")),
                1440,
                units=chance.randint(1, 3),
                wait_s=30,
            )
            if held is not None:
                fleet.reservations.release_resource(held)


def test_processes_killed_while_they_hold_and_wait_cost_the_pool_nothing_i11_i13(
    fleet_database: FleetDatabase, console: Database, fleet: Fleet, owner: Owner
) -> None:
    configure_pool(console, "content", "pool", actor="me", reason="test", capacity=3)
    line = Line(fleet, owner)
    lives = [
        PROCESSES.Process(target=_churn, args=(fleet_database.dsn("worker"), number), daemon=True)
        for number in range(8)
    ]
    for life in lives:
        life.start()
    try:
        for doomed in (lives[:3], lives[3:6], lives[6:]):
            seen = line.pool("granted")
            until(lambda seen=seen: line.pool("granted") >= seen + 20, 60)
            for life in doomed:
                life.kill()
    finally:
        for life in lives:
            life.kill()
            life.join()
    assert 1 < highest_use(owner) <= 3
    assert fleet.reservations.reserve_resource("content", "pool", "last", units=3, wait_s=60) is not None
    line.assert_sound()
    assert line.pool("late") == 0


def test_a_waiter_sees_by_itself_that_the_holder_died(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    line = Line(fleet, owner, "a post")
    with victim(_hold_for_long, fleet_database.dsn("worker")) as mortal:
        waiting = line.ask("w")
        assert not line.poll(waiting)["granted"]
        mortal.kill()

        def granted() -> bool:
            owner.execute("UPDATE fleet.reservation_queue SET poll_by = clock_timestamp()")
            return bool(line.poll(waiting)["granted"])

        until(granted, 10)


def test_ones_own_session_says_nothing_about_ones_own_life(fleet: Fleet) -> None:
    """A script with one connection holds its own lock there: tried from there it is always free."""
    held = reserve(fleet)
    assert held is not None
    one = fleet.incarnation.database
    answer = one.call(
        "reserve_resource",
        incarnation=fleet.incarnation.id,
        resource_type="content",
        resource_id="a post",
        worker_id="w",
    )
    assert (answer["granted"], answer["reason"]) == (False, "no_room")


def test_refusals_say_why(fleet_database: FleetDatabase, fleet: Fleet, console: Database) -> None:
    configure_pool(console, "content", "pool", actor="me", reason="test", capacity=2)
    assert reserve(fleet, "pool", units=2) is not None
    refused = fleet.reservations.request_resource("content", "pool", "w", units=2)
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.queue_position) == ("no_room", 1)
    assert refused.estimated_wait_minutes == pytest.approx(30, abs=1)
    assert fleet.reservations.request_resource("content", "pool", "w", wait_s=0.2) == Refused(
        reason="time_out"
    )
    with fleet_database.connect("other") as other:
        found = other.reservations.check_availability("content", "pool")
        assert (found.available, found.queue_position) == (False, 1)
        assert found.estimated_wait_minutes == pytest.approx(30, abs=1)
        assert other.reservations.check_availability("content", "another").available
        # Of the type's pools the one that has room.
        assert other.reservations.check_availability("content").resource_id == "content_pipeline"
    [status] = fleet.reservations.get_pool_status("content", "pool")
    assert (status["conflicts"], status["time_outs"]) == (2, 1)
    assert (status["total_capacity"], status["available_capacity"], status["reserved_capacity"]) == (2, 0, 2)
    assert (status["utilization_percent"], status["health"]) == (100.0, "critical")


def test_every_type_is_known_to_both_sides(owner: Owner) -> None:
    known = {kind for (kind,) in rows(owner, "SELECT DISTINCT resource_type FROM fleet.resource_kinds")}
    assert known == set(get_args(ResourceType))
