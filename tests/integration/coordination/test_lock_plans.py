"""Plans of the locks' statements, as their functions run them: by index, of few rows, in large tables."""

import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from coordination import Fleet
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.tables import Owner, planted

TABLES = ("engagement_locks", "lock_waiters", "lock_measures", "engagements", "incarnations")
LARGE = 20_000
LINE = 64
FEW = 2 * LINE
"""Rows that a statement may touch: the content's own line, and no other's."""
CONFIGURATION = {"clock", "settings"}
"""Of a row or two: read whole, where no index is asked for."""
FILLED = f"""
    INSERT INTO fleet.incarnations
        (id, worker, slot, host, pid, pid_started, boot_id, pid_namespace, started_at)
    SELECT gen_random_uuid(), 'many', n, 'h', n, '1', 'b', 'n', clock_timestamp()
    FROM generate_series(1, {LARGE}) n;
    INSERT INTO fleet.engagement_locks
        (content, lock_type, priority, incarnation, worker_id, fencing_token, acquired_at, lease_expires_at)
    SELECT 'held ' || n, 'quote', 'medium', gen_random_uuid(), 'w', n, at, at + interval '1 hour'
    FROM generate_series(1, {LARGE}) n, clock_timestamp() at;
    INSERT INTO fleet.lock_waiters
        (content, scope, lock_type, duration, priority, incarnation, worker_id, waits_since, stands_at,
        polled_at, poll_by, deadline_at)
    SELECT CASE WHEN n <= {LINE} THEN 'wanted' ELSE 'held ' || n END, '', 'quote', '1 minute', 'medium',
        gen_random_uuid(), 'w', at, at, at, at + interval '1 hour', at + interval '1 hour'
    FROM generate_series(1, {LARGE}) n, clock_timestamp() at;
    INSERT INTO fleet.lock_measures (counted_at, incarnation)
    SELECT clock_timestamp() - n * interval '5 minutes', gen_random_uuid()
    FROM generate_series(1, {LARGE}) n;
    INSERT INTO fleet.engagements (content, action, account, worker_id, success, engaged_at)
    SELECT 'held ' || n, 'quote', 'default', 'w', true, clock_timestamp() - n * interval '1 minute'
    FROM generate_series(1, {LARGE}) n;
"""

Node = dict[str, Any]


@pytest.fixture
def known_as_empty(fleet_database: FleetDatabase) -> None:
    """Vacuumed while they are empty, as they often are when a plan is made."""
    with psycopg.connect(fleet_database.superuser_dsn, autocommit=True) as admin:
        for table in TABLES:
            admin.execute(f"TRUNCATE fleet.{table} CASCADE".encode())
            admin.execute(f"VACUUM ANALYZE fleet.{table}".encode())


@pytest.fixture
def large(fleet_database: FleetDatabase, owner: Owner) -> Iterator[None]:
    """Many held, many waiting, a long history; emptied afterwards."""
    owner.execute(FILLED.encode())
    with psycopg.connect(fleet_database.superuser_dsn, autocommit=True) as admin:
        for table in TABLES:
            admin.execute(f"ANALYZE fleet.{table}".encode())
        yield
        admin.execute(f"TRUNCATE {', '.join(f'fleet.{table}' for table in TABLES)} CASCADE".encode())


class Explained:
    """A session in which every statement tells its plan, also those within functions."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._plans: list[Node] = []
        connection.add_notice_handler(self._notice)
        for setting in (
            "LOAD 'auto_explain'",
            "SET auto_explain.log_min_duration = 0",
            "SET auto_explain.log_nested_statements = on",
            "SET auto_explain.log_analyze = on",
            "SET auto_explain.log_format = json",
            "SET client_min_messages = log",
        ):
            connection.execute(setting.encode())
        self._plans.clear()

    def _notice(self, told: psycopg.errors.Diagnostic) -> None:
        _, found, plan = (told.message_primary or "").partition("plan:\n")
        if found:
            self._plans.append(json.loads(plan))

    def call(self, function: str, *arguments: object) -> Any:
        """Call a function and forget the plans of what was called before."""
        self._plans.clear()
        slots = ", ".join(["%s"] * len(arguments))
        row = self._connection.execute(f"SELECT fleet.{function}({slots})".encode(), arguments).fetchone()
        return row[0] if row else None

    def scans(self) -> Iterator[tuple[str, Node]]:
        """Give every read of a table in the last call, with its statement."""
        for plan in self._plans:
            for node in _nodes(plan["Plan"]):
                if node.get("Relation Name") and node["Node Type"] != "ModifyTable" and node["Actual Loops"]:
                    yield plan["Query Text"], node


def _nodes(node: Node) -> Iterator[Node]:
    yield node
    for child in node.get("Plans", []):
        yield from _nodes(child)


@contextmanager
def explained(database: FleetDatabase) -> Generator[Explained]:
    with psycopg.connect(database.superuser_dsn, autocommit=True) as connection:
        yield Explained(connection)


def assert_cheap(told: Explained) -> None:
    seen = 0
    for statement, node in told.scans():
        if node["Relation Name"] in CONFIGURATION:
            continue
        seen += 1
        assert "Seq Scan" not in node["Node Type"], statement
        touched = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
        assert touched * node["Actual Loops"] <= FEW, statement
    assert seen > 0


def in_turn(told: Explained, fleet: Fleet) -> None:
    """Every call of a lock's life, each looked at: taken, taken over, refused, waited for, given back."""
    me = fleet.incarnation.id
    taken = told.call("request_lock", me, "new", "w", "analysis")
    assert_cheap(told)
    engaging = told.call("request_lock", me, "newer", "w", "quote", 15, "medium", 0, "fleet", "default")
    assert_cheap(told)
    assert told.call("request_lock", me, "held 7", "w", "analysis")["granted"]  # of who is dead
    assert_cheap(told)
    assert not told.call("request_lock", me, "held 8", "w", "quote")["granted"]  # engaged a while ago
    assert_cheap(told)
    wanted = told.call("request_lock", me, "wanted", "w", "analysis")  # past a line of dead ones
    assert_cheap(told)
    waiting = told.call("request_lock", me, "wanted", "w", "analysis", 15, "medium", 60)
    assert_cheap(told)
    told.call("poll_lock", me, int(waiting["waiter"]))
    assert_cheap(told)
    told.call("leave_line", me, int(waiting["waiter"]))
    assert_cheap(told)
    for lease in (taken, engaging, wanted):
        told.call("renew_lock", me, lease["content"], lease["fencing_token"])
        assert_cheap(told)
        told.call("release_lock", me, lease["content"], lease["fencing_token"])
        assert_cheap(told)


@pytest.mark.usefixtures("large")
def test_no_call_of_a_lock_reads_a_table_whole_or_more_than_its_own_line(
    fleet_database: FleetDatabase, fleet: Fleet
) -> None:
    with explained(fleet_database) as told:
        in_turn(told, fleet)


def in_turn_as_planned_early(database: FleetDatabase, fleet: Fleet, owner: Owner) -> None:
    with explained(database) as told:
        for number in range(10):  # the sixth is the first of a plan that stays
            lease = told.call("request_lock", fleet.incarnation.id, f"early {number}", "w", "analysis")
            told.call("release_lock", fleet.incarnation.id, lease["content"], lease["fencing_token"])
        owner.execute(FILLED.encode())
        in_turn(told, fleet)


@pytest.mark.usefixtures("known_as_empty")
def test_nor_does_one_whose_plan_was_made_while_the_tables_were_empty(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    in_turn_as_planned_early(fleet_database, fleet, owner)


@pytest.mark.usefixtures("known_as_empty")
def test_such_a_plan_would_be_found(fleet_database: FleetDatabase, fleet: Fleet, owner: Owner) -> None:
    careless = planted(owner, "request_lock", (" SET enable_seqscan TO 'off'\n", ""))
    with careless, pytest.raises(AssertionError, match="Seq Scan"):
        in_turn_as_planned_early(fleet_database, fleet, owner)


@pytest.mark.usefixtures("large")
def test_a_read_of_a_whole_table_would_be_found(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    owner.execute("DROP INDEX fleet.lock_waiters_line")
    try:
        with explained(fleet_database) as told:
            told.call("request_lock", fleet.incarnation.id, "new", "w", "analysis")
            with pytest.raises(AssertionError):
                assert_cheap(told)
    finally:
        owner.execute("CREATE INDEX lock_waiters_line ON fleet.lock_waiters (content, stands_at, id)")
