"""The console's named queries fit the migrated schema, and its role may run them."""

import re
from importlib.resources import files

import psycopg

from coordination.database import queries
from coordination.intents import INTENT_STATES
from coordination.lists import MAX_ITEMS, Cursor, IntentFilter, compile_intents
from tests.integration.conftest import FleetDatabase

SOURCE = (files("coordination") / "queries" / "console.sql").read_text("utf-8")
NAMES = re.findall(r"^-- name: (\w+)$", SOURCE, re.MULTILINE)


def test_every_query_says_what_it_reads() -> None:
    assert len(NAMES) == len(set(NAMES)) > 0
    assert all(re.match(r"-- [A-Z].*[.,;]", queries()[name]) for name in NAMES)


def test_every_query_can_be_prepared_as_the_console(fleet_database: FleetDatabase) -> None:
    with psycopg.connect(fleet_database.dsn("console"), autocommit=True) as connection:
        for name in NAMES:
            query = queries()[name]
            for number, parameter in enumerate(dict.fromkeys(re.findall(r"%\((\w+)\)s", query)), start=1):
                query = query.replace(f"%({parameter})s", f"${number}")
            connection.execute(f"PREPARE {name} AS {query}".encode())


def test_the_filtered_list_can_be_prepared_and_goes_along_its_index(fleet_database: FleetDatabase) -> None:
    cursor = Cursor.parse("1795305043643156-13")
    assert cursor
    wanted = IntentFilter(
        states=INTENT_STATES, since=cursor.updated_at, until=cursor.updated_at, limit=MAX_ITEMS, after=cursor
    )
    statement, parameters = compile_intents(wanted)
    with psycopg.connect(fleet_database.dsn("console"), autocommit=True) as connection:
        connection.execute("SET enable_seqscan = off")
        plan = connection.execute(f"EXPLAIN {statement}".encode(), parameters).fetchall()
    assert "intents_updated" in str(plan)
    assert "Sort" not in str(plan)


def test_the_states_are_those_of_the_ledger(fleet_database: FleetDatabase) -> None:
    with fleet_database.owner() as owner:
        checks = owner.execute(
            "SELECT pg_get_constraintdef(c.oid) FROM pg_constraint c "
            "WHERE c.conrelid = 'fleet.intents'::regclass AND c.conname = 'intents_state_check'"
        ).fetchall()
    assert re.findall(r"'(\w+)'::text", checks[0][0]) == list(INTENT_STATES)
