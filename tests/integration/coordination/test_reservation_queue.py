"""The line for a pool: who is next, who is passed over, what a wait will take."""

import math
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from coordination import Fleet, Reservation, connect
from coordination.database import Database
from coordination.errors import DatabaseUnavailableError
from coordination.pools import configure_pool
from coordination.resources import Refused
from coordination.waiting import POLL_S
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.crowd import until
from tests.integration.coordination.lines import Line, let_pass
from tests.integration.coordination.tables import Owner, kill_session, planted, rows, value
from tests.quickly import quickly


@pytest.fixture
def line(fleet: Fleet, owner: Owner) -> Line:
    return Line(fleet, owner)


def set_pool(console: Database, **values: Any) -> None:
    configure_pool(console, "content", "pool", actor="me", reason="test", **values)


def test_the_higher_priority_is_first_and_within_one_who_came_first_i12(line: Line) -> None:
    held = line.hold("holder")
    asked = [line.ask(f"w{n}", priority) for n, priority in enumerate(("low", "high", "medium", "high"))]
    asked.append(line.ask("w4", "critical"))
    order: list[int] = []
    for _ in asked:
        [ticket] = line.release(held)
        for number in [*reversed(range(5)), *range(5)]:
            if number in order:
                continue
            answer = line.poll(asked[number])
            if answer["granted"]:
                order.append(number)
                held = answer["reservation_id"]
                assert ticket == asked[number]["ticket"]
    assert order == [4, 1, 3, 2, 0]
    line.assert_sound()


def test_a_critical_request_that_finds_room_passes_those_that_wait_for_more(
    line: Line, console: Database
) -> None:
    set_pool(console, capacity=4)
    line.hold("holder", 2)
    assert line.ask("large", "low", 4)["waits"]
    assert not line.ask("small", "low", 1, wait_s=0)["granted"]
    assert line.ask("small", "critical", 1, wait_s=0)["granted"]


def test_no_small_request_passes_a_large_one_that_waits_for_room(line: Line, console: Database) -> None:
    set_pool(console, capacity=4)
    held = [line.hold("holder") for _ in range(4)]
    large, small = line.ask("large", units=3), line.ask("small")
    for number in (0, 1):
        assert line.release(held[number]) == []  # nobody is woken in vain
        assert line.served(small, large, small) == []
    assert not line.ask("late", wait_s=0)["granted"]
    assert line.ask("late", wait_s=0)["reason"] == "others_wait"
    assert line.release(held[2]) == [large["ticket"]]
    assert line.served(small, large) == [1]
    assert line.release(held[3]) == [small["ticket"]]
    assert line.served(small) == [0]


def test_without_the_heads_precedence_the_test_above_would_fail(
    line: Line, console: Database, owner: Owner
) -> None:
    with (
        planted(owner, "reserve_resource", ("before.requests = 0 AND room", "room")),
        pytest.raises(AssertionError),
    ):
        test_no_small_request_passes_a_large_one_that_waits_for_room(line, console)


def test_waiting_is_worth_priority_so_that_nobody_waits_for_ever(
    line: Line, console: Database, owner: Owner
) -> None:
    set_pool(console, capacity=1, ageing_s=10, escalate_after_s=1000)
    held = line.hold("holder")
    low = line.ask("low", "low")
    let_pass(owner, 19)
    high = line.ask("high", "high")  # two steps above: 20 seconds ahead of its time
    let_pass(owner, 2)
    late = line.ask("late", "high")
    order: list[int] = []
    for _ in range(3):
        line.release(held)
        for number, asked in enumerate((low, high, late)):
            answer = line.poll(asked)
            if answer["granted"]:
                held = answer["reservation_id"]
                order.append(number)
                break
    assert order == [1, 0, 2]


def test_room_is_given_to_as_many_as_it_is_enough_for(line: Line, console: Database) -> None:
    set_pool(console, capacity=6)
    held = line.hold("holder", 6)
    asked = [line.ask("w", units=units) for units in (2, 3, 2, 1)]
    assert line.release(held) == [asked[0]["ticket"], asked[1]["ticket"]]
    assert line.served(*asked) == [0, 1]


def test_a_silent_waiter_is_passed_over_keeps_its_place_and_goes_at_its_deadline(
    line: Line, owner: Owner
) -> None:
    held = line.hold("holder")
    silent, lively = line.ask("silent", wait_s=60), line.ask("lively")
    owner.execute("UPDATE fleet.reservation_queue SET poll_by = clock_timestamp() WHERE worker_id = 'silent'")
    assert line.poll(lively)["queue_position"] == 1
    assert line.release(held) == [lively["ticket"]]
    answer = line.poll(lively)
    assert answer["granted"]
    # It comes back, and is where it was: before all who came after it.
    later = line.ask("later")
    assert line.poll(silent)["queue_position"] == 1
    assert line.poll(later)["queue_position"] == 2
    let_pass(owner, 61)
    assert line.release(answer["reservation_id"]) == [later["ticket"]]
    assert line.poll(silent)["reason"] == "time_out"
    assert line.poll(silent)["reason"] == "not_waiting"
    assert line.pool("time_outs") == 1


def test_a_poll_of_who_is_not_the_head_takes_no_lock_and_writes_twice_a_second_at_most(
    fleet_database: FleetDatabase, line: Line, owner: Owner
) -> None:
    line.hold("holder")
    first, second = line.ask("first"), line.ask("second")
    with psycopg.connect(fleet_database.superuser_dsn) as other:
        other.execute("SELECT 1 FROM fleet.pools FOR UPDATE")
        for asked in (first, second):  # the head too, while there is no room
            assert line.poll(asked)["reason"] == "waiting"
        other.rollback()
    owner.execute("UPDATE fleet.reservation_queue SET poll_by = clock_timestamp() + interval '0.4 seconds'")
    alive = "SELECT array_agg(poll_by ORDER BY id) FROM fleet.reservation_queue"
    before = value(owner, alive)
    for asked in (first, second):
        line.poll(asked)
    once = value(owner, alive)
    assert all(late > early for early, late in zip(before, once, strict=True))
    for asked in (first, second):
        line.poll(asked)
    assert value(owner, alive) == once


def test_a_full_queue_refuses_at_once(line: Line, fleet: Fleet, console: Database) -> None:
    set_pool(console, capacity=1, queue_bound=2)
    line.hold("holder")
    assert [line.ask(f"w{number}")["reason"] for number in range(3)] == ["waiting", "waiting", "overflow"]
    assert line.ask("w", "critical")["reason"] == "overflow"
    assert line.pool("overflows") == 2
    [status] = fleet.reservations.get_pool_status("content", "pool")
    assert (status["waiting_queue"], status["overflows"]) == (2, 2)


def test_who_waits_long_rises_and_the_coordinator_is_told_once_and_then_a_person(
    line: Line, fleet: Fleet, owner: Owner, console: Database
) -> None:
    set_pool(console, capacity=1, ageing_s=60, escalate_after_s=300, alert_after_s=900)
    held = line.hold("holder")
    asked = line.ask("patient", "low")
    let_pass(owner, 299)
    line.poll(asked)
    assert value(owner, "SELECT count(*) FROM fleet.messages") == 0
    let_pass(owner, 2)
    for _ in range(3):
        line.poll(asked)
        fleet.reservations.tidy()
    told = rows(owner, "SELECT type, recipient_kind, recipient, payload FROM fleet.messages")
    assert [one[:3] for one in told] == [("PRIORITY_ESCALATION", "role", "coordinator")]
    assert (told[0][3]["worker_id"], told[0][3]["priority"]) == ("patient", "medium")
    assert value(owner, "SELECT priority FROM fleet.reservation_queue") == "medium"
    assert line.pool("escalated") == 1
    assert value(owner, "SELECT count(*) FROM fleet.alerts") == 0
    let_pass(owner, 601)
    fleet.reservations.tidy()
    line.poll(asked)
    assert rows(owner, "SELECT kind, times FROM fleet.alerts WHERE cleared_at IS NULL") == [("long_wait", 1)]
    line.release(held)
    assert line.served(asked) == [0]
    fleet.reservations.tidy()
    assert value(owner, "SELECT count(*) FROM fleet.alerts WHERE cleared_at IS NULL") == 0
    assert value(owner, "SELECT count(*) FROM fleet.messages") == 1


def test_the_coordinators_look_frees_ends_and_drops(
    fleet_database: FleetDatabase, line: Line, fleet: Fleet, owner: Owner
) -> None:
    line.hold("holder", duration_minutes=1)
    asked, gone = line.ask("w"), line.ask("gone", wait_s=30)
    with fleet_database.connect("closing") as closing:
        assert closing.reservations.reserve_resource("content", "another", "w") is not None
    let_pass(owner, 61)
    tidied = fleet.reservations.tidy()
    assert (tidied.expired, tidied.recovered, tidied.time_outs) == (1, 1, 1)
    assert line.served(gone, asked) == [1]
    assert fleet.reservations.tidy() == type(tidied)(
        quotas=0, expired=0, recovered=0, time_outs=0, escalated=0, dropped=0
    )
    let_pass(owner, 601)
    assert fleet.reservations.tidy().dropped == 1  # the one that was made at first use, and stands empty
    assert rows(owner, "SELECT resource_id FROM fleet.pools ORDER BY 1") == [("content_pipeline",), ("pool",)]


# Shares


def _next(line: Line, *asked: dict[str, Any]) -> int:
    """Which of these is granted first, whatever the order in which they poll."""
    served = line.served(*reversed(asked), *asked)
    assert len(served) == 1
    return len(asked) - 1 - served[0] if served[0] < len(asked) else served[0] - len(asked)


def test_equal_shares_give_next_to_who_has_least(line: Line, console: Database) -> None:
    set_pool(console, capacity=4, strategy="equal")
    held = [line.hold("much") for _ in range(4)]
    more, none = line.ask("much", "critical"), line.ask("none", "low")
    assert line.poll(none)["queue_position"] == 1
    line.release(held[0])
    assert _next(line, more, none) == 1
    second = line.ask("none", "low")
    line.release(held[1])
    assert _next(line, more, second) == 1
    # Two each: now the priority decides.
    third = line.ask("none", "low")
    line.release(held[2])
    assert _next(line, more, third) == 0


def test_under_steady_demand_equal_and_proportional_shares_come_about(line: Line, console: Database) -> None:
    for strategy, needs, expected in (
        ("equal", (1, 5, 1), [4, 4, 4]),
        ("proportional", (1, 3, 2), [2, 6, 4]),
    ):
        set_pool(console, capacity=12, strategy=strategy)
        held = [("w0", line.hold("w0", need=needs[0])) for _ in range(12)]
        asked = {f"w{number}": line.ask(f"w{number}", need=need) for number, need in enumerate(needs)}
        for _ in range(36):  # first come, first gone
            line.release(held.pop(0)[1])
            for worker, one in list(asked.items()):
                answer = line.poll(one)
                if answer["granted"]:
                    held.append((worker, answer["reservation_id"]))
                    asked[worker] = line.ask(worker, need=needs[int(worker[1])])
        assert [sum(worker == f"w{number}" for worker, _ in held) for number in range(3)] == expected
        line.assert_sound()
        for _, one in held:
            line.release(one)
        for one in asked.values():
            line.leave(one)
        assert line.pool("reserved") == 0


def test_who_leaves_leaves_its_share_to_the_others(line: Line, console: Database) -> None:
    set_pool(console, capacity=4, strategy="equal")
    held = [line.hold("a"), line.hold("a"), line.hold("b"), line.hold("b")]
    line.release(held[2])
    line.release(held[3])
    assert [line.ask("a")["granted"] for _ in range(3)] == [True, True, False]  # all of it, while it is alone


def test_who_asks_without_waiting_has_its_share_kept_for_two_seconds(
    line: Line, console: Database, owner: Owner
) -> None:
    set_pool(console, capacity=2, strategy="equal")
    held = [line.hold("greedy"), line.hold("greedy")]
    assert line.ask("shy", wait_s=0)["reason"] == "no_room"
    line.release(held[0])
    assert line.ask("greedy", wait_s=0)["reason"] == "others_wait"
    assert line.ask("shy", wait_s=0)["granted"]
    line.release(held[1])
    assert line.ask("other", wait_s=0)["reason"] == "others_wait"  # the greedy one has nothing now, and asked
    let_pass(owner, 2.1)
    assert line.ask("other", wait_s=0)["granted"]  # what nobody asks for any more is forgotten


# Waits


def _wait(fleet_database: FleetDatabase, worker: str, wait_s: float = 60) -> tuple[Reservation | None, float]:
    with connect(fleet_database.dsn("worker"), "waiter") as fleet:
        got = fleet.reservations.reserve_resource("content", "pool", worker, wait_s=wait_s)
        at = time.monotonic()
        if got is not None:
            fleet.reservations.release_resource(got)
    return got, at


def _waiting(owner: Owner, number: int) -> None:
    until(lambda: value(owner, "SELECT count(*) FROM fleet.reservation_queue") == number, 30)


@pytest.mark.timed
def test_a_unit_that_comes_back_is_the_next_ones_in_milliseconds(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    def hand_over() -> float:
        held = fleet.reservations.reserve_resource("content", "pool", "holder")
        assert held is not None
        with ThreadPoolExecutor(1) as pool:
            waiter = pool.submit(_wait, fleet_database, "w")
            _waiting(owner, 1)
            threading.Event().wait(POLL_S / 2)  # somewhere between two polls
            released = time.monotonic()
            fleet.reservations.release_resource(held)
            got, at = waiter.result(60)
        assert got is not None
        return at - released

    quickly(hand_over, within_s=0.1)


def test_twelve_waiters_pass_one_unit_on_until_none_waits_i13(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    held = fleet.reservations.reserve_resource("content", "pool", "holder")
    assert held is not None
    with ThreadPoolExecutor(12) as pool:
        waiters = [pool.submit(_wait, fleet_database, f"w{number}") for number in range(12)]
        _waiting(owner, 12)
        fleet.reservations.release_resource(held)
        got = sorted(
            (found for waiter in waiters if (found := waiter.result(60)[0])),
            key=lambda found: found.fencing_token,
        )
    assert len(got) == 12
    line = Line(fleet, owner)
    assert line.pool("waits") == 12
    assert line.pool("longest_wait_s") == pytest.approx(max(one.waited_s for one in got), abs=0.001)
    # Each was granted as soon as the one before was gone, up to a poll.
    idle = rows(
        owner,
        "SELECT extract(epoch FROM lead(reserved_at) OVER (ORDER BY id) - ended_at) FROM fleet.reservations",
    )
    gaps = [float(gap) for (gap,) in idle if gap is not None]
    assert len(gaps) == 12
    assert min(gaps) >= 0


def test_a_waiter_whose_connection_ends_leaves_the_line(fleet_database: FleetDatabase, fleet: Fleet) -> None:
    held = fleet.reservations.reserve_resource("content", "pool", "holder")
    assert held is not None
    with (
        fleet_database.owner() as owner,
        fleet_database.connect("waiter") as waiter,
        ThreadPoolExecutor(1) as pool,
    ):
        waiting = pool.submit(waiter.reservations.reserve_resource, "content", "pool", "w", wait_s=60)
        _waiting(owner, 1)
        with psycopg.connect(fleet_database.superuser_dsn, autocommit=True) as admin:
            kill_session(admin, "waiter/1")
        with pytest.raises(DatabaseUnavailableError):
            waiting.result(60)
        assert value(owner, "SELECT count(*) FROM fleet.reservation_queue") == 0


def test_a_worker_that_drains_leaves_the_line(fleet: Fleet, owner: Owner) -> None:
    assert fleet.reservations.reserve_resource("content", "pool", "holder") is not None
    polls = iter([True, True, False])
    refused = fleet.reservations.request_resource(
        "content", "pool", "w", wait_s=3600, keep_waiting=lambda: next(polls)
    )
    assert refused == Refused(reason="given_up")
    assert value(owner, "SELECT count(*) FROM fleet.reservation_queue") == 0


# Estimates


def _errors(line: Line, owner: Owner, hold_s: Any, *, passed: bool, grants: int = 150) -> list[float]:
    """A pool that is always wanted: how far off each wait was from what the waiter was told first.

    Where they are passed, every second unit goes to somebody urgent who just came.
    """
    capacity, depth = 4, 12
    holders = [(float(hold_s()), line.hold("w")) for _ in range(capacity)]
    now = 0.0
    waiting: list[tuple[float, dict[str, Any]]] = []
    told: list[float] = []
    urgent = False
    while len(told) < grants:
        while len(waiting) < depth:
            asked = line.ask("w")
            waiting.append((now, asked))
        holders.sort()
        ends, gone = holders.pop(0)
        let_pass(owner, max(0, ends - now))
        now = max(ends, now)
        line.release(gone)
        urgent = passed and not urgent
        if urgent:
            holders.append((now + hold_s(), line.hold("urgent", priority="critical")))
            continue
        since, asked = waiting.pop(0)
        answer = line.poll(asked)
        assert answer["granted"]
        holders.append((now + hold_s(), answer["reservation_id"]))
        told.append(abs(asked["estimated_wait_minutes"] * 60 - (now - since)) / max(now - since, 1e-9))
    return told


@pytest.mark.parametrize(("spread", "passed"), [(0, False), (0.3, False), (0.1, True)])
def test_in_a_steady_pool_nine_of_ten_waits_are_within_a_quarter_of_what_was_told_i17(
    line: Line, fleet: Fleet, owner: Owner, console: Database, spread: float, passed: bool
) -> None:
    set_pool(console, capacity=4, ageing_s=86400, escalate_after_s=604800, alert_after_s=604800)
    chance = random.Random(7)
    found = _errors(line, owner, lambda: max(6, chance.gauss(60, 60 * spread)), passed=passed)[50:]
    assert sorted(found)[math.ceil(0.9 * len(found)) - 1] <= 0.25
    [status] = fleet.reservations.get_pool_status("content", "pool")
    assert status["estimate_error_p90"] is not None
    assert status["hold_s"] == pytest.approx(60, rel=0.25)
    assert status["mean_utilization_percent"] > 95


def test_without_calibration_the_test_above_would_fail_where_others_pass(
    line: Line, fleet: Fleet, owner: Owner, console: Database
) -> None:
    learns = "asked.reckoned_s > 0.01"
    with planted(owner, "grant_reservation", (learns, "false")), pytest.raises(AssertionError):
        test_in_a_steady_pool_nine_of_ten_waits_are_within_a_quarter_of_what_was_told_i17(
            line, fleet, owner, console, 0.1, passed=True
        )
