"""Pools: capacity that a person sets and the load moves, and nobody loses what they hold."""

from typing import Any

import pytest

from coordination import Fleet
from coordination.database import Database
from coordination.errors import InvalidValueError
from coordination.pools import configure_pool
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.lines import Line, let_pass
from tests.integration.coordination.tables import Owner, assert_refused, rows


@pytest.fixture
def line(fleet: Fleet, owner: Owner) -> Line:
    return Line(fleet, owner)


def set_pool(console: Database, **values: Any) -> dict[str, Any]:
    return configure_pool(console, "content", "pool", actor="me", reason="why", **values)


def test_the_content_pipeline_is_there_with_a_hundred_places(fleet: Fleet) -> None:
    [pipeline] = fleet.reservations.get_pool_status("content")
    assert (pipeline["resource_id"], pipeline["kind"]) == ("content_pipeline", "pipeline")
    assert (pipeline["total_capacity"], pipeline["available_capacity"]) == (100, 100)
    assert (pipeline["reserved_capacity"], pipeline["waiting_queue"]) == (0, 0)
    held = fleet.reservations.reserve_resource("content", "content_pipeline", "w", units=85)
    assert held is not None
    [pipeline] = fleet.reservations.get_pool_status("content")
    assert (pipeline["available_capacity"], pipeline["utilization_percent"]) == (15, 85.0)
    assert pipeline["health"] == "warning"


def test_a_persons_change_is_live_bounded_and_audited(console: Database, owner: Owner, line: Line) -> None:
    made = set_pool(console, capacity=5, strategy="equal", queue_bound=7)
    assert (made["total_capacity"], made["min_capacity"], made["max_capacity"]) == (5, 5, 5)
    assert (made["strategy"], made["queue_bound"]) == ("equal", 7)
    made = set_pool(console, min_capacity=2, max_capacity=8)
    assert (made["total_capacity"], made["min_capacity"], made["max_capacity"]) == (5, 2, 8)
    assert (made["strategy"], made["queue_bound"]) == ("equal", 7)  # what is not named stays
    made = set_pool(console, capacity=20)
    assert (made["total_capacity"], made["min_capacity"], made["max_capacity"]) == (20, 2, 20)
    made = set_pool(console, max_capacity=4)
    assert (made["total_capacity"], made["max_capacity"]) == (4, 4)
    assert line.pool("capacity") == 4
    audits = rows(owner, "SELECT actor, action, target, reason, details FROM fleet.audits ORDER BY id")
    assert [one[:4] for one in audits] == [("me", "configure_pool", "content pool", "why")] * 4
    before, after = audits[3][4]["before"], audits[3][4]["after"]
    assert (before["total_capacity"], after["total_capacity"]) == (20, 4)


def test_a_pool_that_a_person_closed_stays_closed_whatever_the_load_and_who_waits_for_it_waits(
    console: Database, fleet: Fleet, line: Line
) -> None:
    set_pool(console, capacity=8, min_capacity=2)
    closed = set_pool(console, capacity=0)
    assert (closed["min_capacity"], closed["total_capacity"], closed["max_capacity"]) == (0, 0, 0)
    assert fleet.reservations.adjust_capacity("content", "pool", 0.1) == 0
    found = fleet.reservations.check_availability("content", "pool", units=5)
    assert (found.available, found.queue_position, found.estimated_wait_minutes) == (False, 1, None)
    asked = line.ask("w", units=5)
    assert (asked["waits"], asked["reason"]) == (True, "above_capacity")
    set_pool(console, capacity=8)
    assert line.poll(asked)["granted"]


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("capacity", -1),
        ("capacity", 1000001),
        ("capacity", 3_000_000_000),
        ("max_capacity", 0),
        ("strategy", "fair"),
        ("queue_bound", 10001),
        ("ageing_s", 0),
        ("alert_after_s", float("nan")),
        ("kind", "thread"),
    ],
)
def test_what_a_pool_can_not_have_is_refused_by_name(console: Database, field: str, bad: Any) -> None:
    with pytest.raises(InvalidValueError) as refused:
        set_pool(console, **{field: bad})
    assert refused.value.field == field


def test_the_limiters_pools_are_not_configured_here(console: Database) -> None:
    with pytest.raises(InvalidValueError) as refused:
        configure_pool(console, "api_quota", "api_tweets", actor="me", reason="why", capacity=60)
    assert_refused(refused, "resource_type", "api_quota")


def test_a_capacity_below_what_is_held_takes_nothing_and_gives_nothing_until_enough_came_back(
    console: Database, line: Line, fleet: Fleet
) -> None:
    set_pool(console, capacity=4)
    held = [line.hold("w") for _ in range(4)]
    waiting = line.ask("waiter")
    set_pool(console, capacity=2)
    line.assert_sound()
    assert (line.pool("reserved"), line.pool("overhang")) == (4, 2)
    for number, overhang in ((0, 1), (1, 0)):
        assert line.release(held[number]) == []
        assert line.served(waiting) == []
        assert line.pool("overhang") == overhang
    for still in held[2:]:
        fleet.reservations.renew(still)
    assert line.release(held[2]) == [waiting["ticket"]]
    assert line.served(waiting) == [0]
    line.assert_sound()


@pytest.mark.parametrize("strategy", ["priority", "equal", "proportional"])
def test_who_wants_more_than_a_pool_has_now_keeps_its_place_and_nobody_from_theirs_i13(
    console: Database, line: Line, owner: Owner, strategy: Any
) -> None:
    set_pool(console, capacity=4, strategy=strategy)
    held = [line.hold("holder", 2), line.hold("holder", 2)]
    large, small = line.ask("large", units=3), line.ask("small")
    set_pool(console, capacity=2, max_capacity=4)
    told = line.poll(large)
    assert (told["waits"], told["reason"], told["estimated_wait_minutes"]) == (True, "above_capacity", None)
    assert line.poll(small)["queue_position"] == 1
    assert line.release(held[0]) == []
    assert line.release(held[1]) == [small["ticket"]]
    assert line.served(large, small) == [1]
    assert line.ask("late", wait_s=0)["granted"]
    assert line.ask("as large", units=3, wait_s=0)["reason"] == "above_capacity"
    let_pass(owner, 301)
    line.poll(large)
    [(message,)] = rows(owner, "SELECT payload FROM fleet.messages WHERE type = 'PRIORITY_ESCALATION'")
    assert "waits for 3 of content pool, which has 2" in message["reason"]
    # Now that it fits, it is the head again, whatever came after it.
    set_pool(console, capacity=4)
    line.ask("later")
    assert line.ask("latest", wait_s=0)["reason"] == "others_wait"
    line.assert_sound()


def test_what_is_left_over_of_a_pool_that_shrank_is_waited_for_too_i17(console: Database, line: Line) -> None:
    set_pool(console, capacity=4)
    for minutes in (10, 20, 30, 40):
        line.hold("w", duration_minutes=minutes)
    set_pool(console, capacity=2)
    # Of four, each for 25 minutes or its lease, two go before anything is given.
    told = [line.ask("waiter")["estimated_wait_minutes"] for _ in range(3)]
    assert told == pytest.approx([25, 25, 50], abs=0.1)


def test_more_capacity_is_the_waiters_at_once(console: Database, line: Line) -> None:
    set_pool(console, capacity=1)
    line.hold("w")
    waiting = [line.ask("waiter") for _ in range(3)]
    answer = set_pool(console, capacity=3)
    assert [one["ticket"] for one in answer["wake"]] == [waiting[0]["ticket"], waiting[1]["ticket"]]
    assert line.served(*waiting) == [0, 1]


def test_the_load_moves_the_capacity_between_its_bounds(
    console: Database, line: Line, fleet: Fleet, owner: Owner
) -> None:
    set_pool(console, capacity=10, min_capacity=2)
    line.hold("w", 6)
    seen = [fleet.reservations.adjust_capacity("content", "pool", load) for load in (0, 0.5, 0.725, 0.95, 5)]
    assert seen == [10, 10, 6, 2, 2]
    line.assert_sound()
    assert line.pool("overhang") == 4
    assert not line.ask("w", wait_s=0)["granted"]
    assert fleet.reservations.adjust_capacity("content", "pool", 0.3) == 10
    assert line.ask("w", wait_s=0)["granted"]
    [status] = fleet.reservations.get_pool_status("content", "pool")
    assert (status["load"], status["min_capacity"], status["max_capacity"]) == (0.3, 2, 10)
    told = [message for (message,) in rows(owner, "SELECT message FROM fleet.events WHERE kind = 'capacity'")]
    assert len(told) == 3
    assert "is 6, it was 10" in told[0]
    for bad in (-1, float("nan")):
        with pytest.raises(InvalidValueError):
            fleet.reservations.adjust_capacity("content", "pool", bad)
    with pytest.raises(InvalidValueError) as refused:
        fleet.reservations.adjust_capacity("content", "unknown", 0.5)
    assert_refused(refused, "resource_id", "unknown")


def test_load_takes_away_from_what_a_person_set_and_gives_back_no_more(
    console: Database, fleet: Fleet
) -> None:
    set_pool(console, capacity=10, min_capacity=2)
    set_pool(console, capacity=6)
    assert [fleet.reservations.adjust_capacity("content", "pool", load) for load in (0.95, 0)] == [2, 6]
    set_pool(console, capacity=20)
    assert [fleet.reservations.adjust_capacity("content", "pool", load) for load in (0.95, 0)] == [2, 20]


def test_when_a_pool_shrinks_to_its_least_what_is_left_is_the_critical_works(
    console: Database, line: Line, fleet: Fleet
) -> None:
    set_pool(console, capacity=4, min_capacity=1)
    held = [line.hold("w") for _ in range(4)]
    low = line.ask("background", "low")
    fleet.reservations.adjust_capacity("content", "pool", 1)
    critical = line.ask("urgent", "critical")
    assert line.poll(low)["queue_position"] == 2
    assert [line.release(one) for one in held] == [[], [], [], [critical["ticket"]]]
    assert line.served(low, critical, low) == [1]


def test_use_is_measured_now_lately_and_since_the_beginning(
    console: Database, line: Line, fleet: Fleet, owner: Owner
) -> None:
    set_pool(console, capacity=4)
    held = line.hold("w", 2)
    let_pass(owner, 600)
    line.release(held)
    let_pass(owner, 600)
    line.hold("w", 1)
    [status] = fleet.reservations.get_pool_status("content", "pool")
    assert status["utilization_percent"] == 25
    assert status["mean_utilization_percent"] == pytest.approx(25, abs=1)
    assert status["recent_utilization_percent"] == pytest.approx(50 * (1 - 0.1353) * 0.1353, abs=1)
    assert status["availability"] == 1
    assert not line.ask("w", units=4, wait_s=0)["granted"]
    [status] = fleet.reservations.get_pool_status("content", "pool")
    assert status["availability"] == pytest.approx(2 / 3, abs=1e-4)


def test_the_kind_of_a_pool_is_that_of_who_uses_it(fleet: Fleet, owner: Owner) -> None:
    reserve = fleet.reservations.reserve_resource
    mistaken = reserve("conversation", "a talk", "w", kind="thread")
    assert mistaken is not None
    with pytest.raises(InvalidValueError) as refused:
        reserve("conversation", "a talk", "w", kind="discussion")
    assert_refused(refused, "kind", "discussion")
    assert "thread" in refused.value.allowed
    fleet.reservations.release_resource(mistaken)
    held = [reserve("conversation", "a talk", "w", kind="discussion") for _ in range(4)]
    assert [one is not None for one in held] == [True, True, True, False]
    assert rows(owner, "SELECT kind, capacity FROM fleet.pools WHERE resource_id = 'a talk'") == [
        ("discussion", 3)
    ]
    # What a person set stays.
    with pytest.raises(InvalidValueError):
        reserve("content", "content_pipeline", "w", kind="trending")


def test_a_pool_whose_holder_is_gone_takes_another_kind_on(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    talk = Line(fleet, owner, "a talk", "conversation")
    find = fleet.reservations.check_availability
    talk.hold("w", kind="thread", duration_minutes=1)
    talk.ask("waiter", kind="thread", wait_s=30)
    with pytest.raises(InvalidValueError):
        talk.ask("w", kind="discussion")
    let_pass(owner, 90)
    assert find("conversation", "a talk", kind="discussion", units=3).available
    talk.hold("w", units=3, kind="discussion")
    assert (talk.pool("kind"), talk.pool("expired"), talk.pool("time_outs")) == ("discussion", 1, 1)
    talk.assert_sound()
    let_pass(owner, 60 * 600)
    with fleet_database.connect("mortal") as mortal:
        assert mortal.reservations.reserve_resource("conversation", "a talk", "m", kind="discussion")
        Line(mortal, owner, "a talk", "conversation").ask("waiter", units=3)
    owner.execute("UPDATE fleet.reservation_queue SET poll_by = clock_timestamp()")
    assert find("conversation", "a talk", kind="thread").available
    talk.hold("w", kind="thread")
    assert (talk.pool("kind"), talk.pool("recovered"), talk.pool("time_outs")) == ("thread", 1, 2)
    talk.assert_sound()


def test_a_pool_that_nobody_made_has_what_its_first_use_would_give_it(fleet: Fleet) -> None:
    check = fleet.reservations.check_availability
    for kind, places in ((None, 1), ("thread", 1), ("discussion", 3)):
        found = check("conversation", "new", units=places, kind=kind)
        assert (found.available, found.resource_id) == (True, "new")
        with pytest.raises(InvalidValueError) as refused:
            check("conversation", "new", units=places + 1, kind=kind)
        assert_refused(refused, "units", str(places + 1))
        assert f"conversation new can have: {places}" in refused.value.allowed
    assert check("db_connection", units=20).available
    with pytest.raises(InvalidValueError):
        check("db_connection", units=21)
    with pytest.raises(InvalidValueError) as refused:
        check("content", "content_pipeline", units=101)
    assert_refused(refused, "units", "101")
    with pytest.raises(InvalidValueError) as refused:
        check("conversation", "new", kind="pipeline")
    assert_refused(refused, "kind", "pipeline")


def test_a_type_without_an_id_is_available_where_any_pool_of_it_is(
    fleet_database: FleetDatabase, console: Database
) -> None:
    for name, capacity in (("first", 1), ("second", 2)):
        configure_pool(console, "db_connection", name, actor="me", reason="why", capacity=capacity)
    with fleet_database.connect("one") as one, fleet_database.connect("two") as two:
        assert (
            one.reservations.reserve_resource("db_connection", "first", "w", duration_minutes=5) is not None
        )
        assert two.reservations.check_availability("db_connection").resource_id == "second"
        assert one.reservations.reserve_resource("db_connection", "second", "w", units=2, duration_minutes=9)
        found = two.reservations.check_availability("db_connection")
        assert (found.available, found.resource_id, found.queue_position) == (False, "first", 1)
        assert found.estimated_wait_minutes == pytest.approx(5, abs=0.5)
