"""Shares of a pool: who holds least for its need is next, and what it takes to find that out."""

from typing import Any

import psycopg
import pytest

from coordination import Fleet
from coordination.database import Database
from coordination.pools import configure_pool
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.lines import Line, let_pass
from tests.integration.coordination.tables import Owner


@pytest.fixture
def line(fleet: Fleet, owner: Owner) -> Line:
    return Line(fleet, owner)


def set_pool(console: Database, **values: Any) -> None:
    configure_pool(console, "content", "pool", actor="me", reason="test", **values)


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


def _queue(owner: Owner, number: int) -> None:
    """So many more waiters, each a worker of its own."""
    owner.execute(
        "INSERT INTO fleet.reservation_queue (ticket, resource_type, resource_id, units, need, incarnation, "
        "worker_id, priority, rank, duration_s, waits, asked_at, place, poll_by, deadline_at) "
        "SELECT gen_random_uuid(), 'content', 'pool', 1, 1, gen_random_uuid(), 'w' || n, 'medium', 2, 60, "
        "true, clock_timestamp(), clock_timestamp(), 'infinity', 'infinity' FROM generate_series(1, %s) n",
        (number,),
    )


@pytest.mark.parametrize("strategy", ["priority", "equal", "proportional"])
def test_what_comes_back_ranks_the_line_once_however_many_wait(
    fleet_database: FleetDatabase, line: Line, fleet: Fleet, console: Database, owner: Owner, strategy: Any
) -> None:
    set_pool(console, capacity=1, strategy=strategy)
    held = line.hold("holder")
    _queue(owner, 100)
    with psycopg.connect(fleet_database.superuser_dsn) as same:  # its transaction counts what it reads
        same.execute("SELECT fleet.release_resource(%s, %s)", (fleet.incarnation.id, int(held)))
        read = same.execute(
            "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables "
            "WHERE relname = 'reservation_queue'"
        ).fetchone()
    assert read is not None
    assert 1 <= read[0] <= 2 * 100
