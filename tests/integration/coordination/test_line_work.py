"""What it takes to find out who is next, however many wait."""

from typing import Any

import psycopg
import pytest

from coordination import Fleet
from coordination.database import Database
from coordination.pools import configure_pool
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.lines import Line
from tests.integration.coordination.tables import Owner


@pytest.fixture
def line(fleet: Fleet, owner: Owner) -> Line:
    return Line(fleet, owner)


def set_pool(console: Database, **values: Any) -> None:
    configure_pool(console, "content", "pool", actor="me", reason="test", **values)


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
