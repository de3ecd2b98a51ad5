"""What keeps pools small and true: who is gone leaves, what nobody uses goes, a change holds for all."""

from typing import Any

import psycopg
import pytest

from coordination import Fleet
from coordination.database import Database
from coordination.pools import configure_pool
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.lines import Line, let_pass
from tests.integration.coordination.tables import Owner, rows, value

WAITING = "SELECT array_agg(worker_id ORDER BY id) FROM fleet.reservation_queue"


@pytest.fixture
def line(fleet: Fleet, owner: Owner) -> Line:
    return Line(fleet, owner)


def set_pool(console: Database, **values: Any) -> None:
    configure_pool(console, "content", "pool", actor="me", reason="test", **values)


def ask_and_end(fleet_database: FleetDatabase, *workers: str) -> None:
    """Wait for the pool in a life that ends, hours before the wait would."""
    with fleet_database.connect("mortal") as mortal, fleet_database.owner() as owner:
        for worker in workers:
            assert Line(mortal, owner).ask(worker)["waits"]


def test_who_ended_leaves_the_line_long_before_its_deadline(
    fleet_database: FleetDatabase, line: Line, fleet: Fleet, owner: Owner
) -> None:
    line.hold("holder")
    ask_and_end(fleet_database, "gone")
    line.ask("alive")
    fleet.reservations.tidy()
    assert value(owner, WAITING) == ["gone", "alive"]  # it may only be about to poll
    let_pass(owner, 10)
    owner.execute("UPDATE fleet.reservation_queue SET poll_by = clock_timestamp() - interval '9 s'")
    assert fleet.reservations.tidy().time_outs == 1
    assert value(owner, WAITING) == ["alive"]


def test_the_silent_take_no_place_from_who_comes(
    fleet_database: FleetDatabase, line: Line, console: Database, owner: Owner
) -> None:
    set_pool(console, capacity=1, queue_bound=2)
    line.hold("holder")
    ask_and_end(fleet_database, "gone", "gone too")
    said: list[str] = []
    for _ in range(3):
        owner.execute(
            "UPDATE fleet.reservation_queue SET poll_by = clock_timestamp() WHERE worker_id LIKE 'gone%'"
        )
        said.append(line.ask("w")["reason"])
    assert said == ["waiting", "waiting", "overflow"]


def test_all_pools_that_nobody_uses_go_at_once(fleet: Fleet, line: Line, owner: Owner) -> None:
    owner.execute(
        "INSERT INTO fleet.pools (resource_type, resource_id, capacity, min_capacity, max_capacity, "
        "is_standing, measured_at) SELECT 'content', 'p' || n, 1, 1, 1, false, "
        "clock_timestamp() - interval '11 minutes' FROM generate_series(1, 1500) n"
    )
    line.hold("w")
    let_pass(owner, 601)
    assert fleet.reservations.tidy(10).dropped == 1500
    assert rows(owner, "SELECT resource_id FROM fleet.pools ORDER BY 1") == [("content_pipeline",), ("pool",)]


def test_a_look_is_after_all_pools_in_batches_of_a_transaction_each_in_the_order_of_their_names(
    fleet: Fleet, owner: Owner
) -> None:
    for name in ("e", "b", "d", "a", "c"):
        assert fleet.reservations.reserve_resource("content", name, "w", duration_minutes=1) is not None
    let_pass(owner, 61)
    with psycopg.connect(owner.info.dsn, password=owner.info.password) as other:
        other.execute("SELECT 1 FROM fleet.pools WHERE resource_id = 'b' FOR UPDATE")  # in use: passed over
        assert fleet.reservations.tidy(2).expired == 4
    batches = rows(
        owner,
        "SELECT array_agg(resource_id ORDER BY resource_id) FROM fleet.pools "
        "WHERE reserved = 0 AND length(resource_id) = 1 GROUP BY xmin::text ORDER BY 1",
    )
    assert batches == [(["a"],), (["c", "d"],), (["e"],)]
    assert fleet.reservations.tidy(2).expired == 1


def test_a_change_of_ageing_holds_for_those_that_wait_too_i12(line: Line, console: Database) -> None:
    set_pool(console, capacity=1, ageing_s=1)
    held = line.hold("holder")
    urgent = line.ask("urgent", "critical")
    set_pool(console, ageing_s=3600)
    low = line.ask("low", "medium")
    assert line.poll(urgent)["queue_position"] == 1
    assert line.release(held) == [urgent["ticket"]]
    assert line.served(low, urgent) == [1]


def test_how_long_things_are_held_is_the_mean_whatever_their_units(
    line: Line, console: Database, owner: Owner
) -> None:
    set_pool(console, capacity=40)
    first, second = line.hold("w", 20), line.hold("w", 20)
    let_pass(owner, 10)
    line.release(first)
    let_pass(owner, 20)
    line.release(second)
    assert line.pool("hold_s") == pytest.approx(20, abs=0.5)


def test_a_look_leaves_pools_alone_where_nothing_is_to_be_done(
    fleet_database: FleetDatabase, line: Line, fleet: Fleet, owner: Owner
) -> None:
    line.hold("holder")
    line.ask("w")
    with fleet_database.connect("other") as other:
        assert other.reservations.reserve_resource("content", "another", "w") is not None
        before = value(owner, "SELECT array_agg(p::text ORDER BY p::text) FROM fleet.pools p")
        fleet.reservations.tidy()
        assert value(owner, "SELECT array_agg(p::text ORDER BY p::text) FROM fleet.pools p") == before
    assert fleet.reservations.tidy().recovered == 1


def test_use_fades_also_where_nobody_comes_any_more(line: Line, fleet: Fleet, owner: Owner) -> None:
    held = line.hold("w")
    let_pass(owner, 3000)
    line.release(held)
    let_pass(owner, 3000)
    [status] = fleet.reservations.get_pool_status("content", "pool")
    assert status["recent_utilization_percent"] < 0.1
    assert status["mean_utilization_percent"] == pytest.approx(50, abs=1)


def test_a_pool_that_a_person_makes_has_its_kinds_capacity(console: Database) -> None:
    made = configure_pool(console, "conversation", "talk", actor="me", reason="test", kind="discussion")
    assert (made["kind"], made["total_capacity"], made["max_capacity"]) == ("discussion", 3, 3)
    made = configure_pool(console, "conversation", "talk", actor="me", reason="test", kind="community")
    assert (made["kind"], made["total_capacity"]) == ("community", 3)


def test_the_alert_of_a_long_wait_is_taken_back_also_where_nobody_is_left(
    line: Line, fleet: Fleet, console: Database, owner: Owner
) -> None:
    set_pool(console, capacity=1, alert_after_s=900)
    held = line.hold("holder")
    asked = line.ask("patient")
    let_pass(owner, 901)
    line.poll(asked)
    fleet.reservations.tidy()
    assert value(owner, "SELECT count(*) FROM fleet.alerts WHERE cleared_at IS NULL") == 1
    line.release(held)
    line.release(line.poll(asked)["reservation_id"])
    fleet.reservations.tidy()
    assert value(owner, "SELECT count(*) FROM fleet.alerts WHERE cleared_at IS NULL") == 0
