"""Every hot call goes by indexes on a database that holds a year, and touches few rows of it."""

import re
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from benchmarks import year
from benchmarks.hot_calls import HOT_CALLS, OTHER, WORKER, Station
from coordination.session import Session
from tests.integration.conftest import TEMPLATE, FleetDatabase
from tests.integration.coordination.plans import ExplainedDatabase, rows_of, scans
from tests.postgres_servers import Server

NAME = "fleet_year"
SIZE = 0.01
GROWN = 1000
MOST_ROWS = 15
OF_SEVERAL = {
    "an act from its proposal to its settling": 150,  # it tidies what waits
    "candidate offered, taken and decided": 150,  # the pool of those that wait has a size to keep
    "hold and settling of money": 150,  # each budget's present periods
    "ten jobs enqueued, claimed and completed": 150,
    "ten jobs enqueued, ten completed and ten taken": 150,
    "renewal of a job, a lock and a reservation": 45,
}
"""Calls that deal with more than one thing, and how many rows of all that they may touch."""
CALLS = 8
"""More than five: from then on PL/pgSQL may go by a plan for all values."""


@pytest.fixture(scope="module")
def database(postgres: Server, template: str) -> Iterator[FleetDatabase]:
    """A database of these tests' own that holds a small year."""
    own = FleetDatabase(
        migrator_dsn=re.sub(rf"/{TEMPLATE}(?=$|\?)", f"/{NAME}", template),
        superuser_dsn=re.sub(r"/postgres(?=$|\?)", f"/{NAME}", postgres.superuser_dsn),
        server=postgres,
    )
    with psycopg.connect(postgres.superuser_dsn, autocommit=True) as admin:
        admin.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER fleet_migrator").format(
                sql.Identifier(NAME), sql.Identifier(TEMPLATE)
            )
        )
        admin.execute("CHECKPOINT")  # a crash breaks a clone's unlogged indexes: PostgreSQL 15 to 18
        try:
            with psycopg.connect(own.superuser_dsn, autocommit=True) as connection:
                assert year.generate(connection, size=SIZE) > 100_000
            yield own
        finally:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(NAME)))


@pytest.fixture(scope="module")
def explained(database: FleetDatabase) -> Iterator[ExplainedDatabase]:
    connection = ExplainedDatabase(database.superuser_dsn)
    yield connection
    connection.close()


@pytest.fixture(scope="module")
def station(database: FleetDatabase, explained: ExplainedDatabase) -> Iterator[Station]:
    """Two living workers whose calls are explained."""
    with database.connect(WORKER) as me, database.connect(OTHER) as other:
        made = Station(
            me=Session(explained, me.incarnation.id),
            other=Session(explained, other.incarnation.id),
            admin=explained,
        )
        made.prepare()
        yield made


@pytest.fixture(scope="module")
def grown(database: FleetDatabase) -> set[str]:
    """The tables that grow, each partition too."""
    with database.owner() as owner:
        found = owner.execute(
            "SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'fleet'::regnamespace "
            "AND c.relkind = 'r' AND (c.reltuples >= %s OR c.relispartition)",
            (GROWN,),
        ).fetchall()
    return {name for (name,) in found}


@pytest.mark.parametrize("name", HOT_CALLS)
def test_a_hot_call_finds_its_rows_by_index(
    name: str, station: Station, explained: ExplainedDatabase, grown: set[str]
) -> None:
    call = HOT_CALLS[name](station)
    call()  # the limiter counts the log once where its windows are new
    for _ in range(CALLS):
        explained.plans.clear()
        call()
        assert explained.plans
        assert whole(explained, grown) == []
        assert touched(explained, grown) <= OF_SEVERAL.get(name, MOST_ROWS)


@pytest.mark.parametrize(
    ("index", "name"),
    [
        ("engagements_content", "has_recent_engagement"),
        ("engagements_content", "request and release of a lock"),
        ("intents_due", "an act from its proposal to its settling"),
        ("interactions_open", "mentions to answer"),
        ("candidates_taken", "candidate offered, taken and decided"),
        ("tracked_posts_due", "posts to measure"),
        ("budget_periods_end", "hold and settling of money"),
    ],
)
def test_without_its_index_it_would_be_seen(
    index: str, name: str, station: Station, explained: ExplainedDatabase, grown: set[str]
) -> None:
    call = HOT_CALLS[name](station)
    call()
    explained.plans.clear()
    explained.select("BEGIN", {})
    try:
        explained.select(f"DROP INDEX fleet.{index}", {})
        call()
    finally:
        explained.select("ROLLBACK", {})
    assert whole(explained, grown) or touched(explained, grown) > OF_SEVERAL.get(name, MOST_ROWS)


def whole(explained: ExplainedDatabase, grown: set[str]) -> list[str]:
    """The tables that grow and that were read from end to end."""
    return [
        scan["Relation Name"]
        for scan in scans(explained.plans)
        if scan["Node Type"] == "Seq Scan" and scan["Relation Name"] in grown
    ]


def touched(explained: ExplainedDatabase, grown: set[str]) -> float:
    """How many rows of them were touched; of small tables all may be."""
    return sum(rows_of(scan) for scan in scans(explained.plans) if scan["Relation Name"] in grown)
