"""One database for all these tests, emptied after each, and who else looks at it."""

import re
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from coordination.database import Database
from coordination.errors import DatabaseUnavailableError
from tests.integration.conftest import TEMPLATE, FleetDatabase
from tests.integration.coordination.tables import Owner
from tests.integration.known_workers import ensure_worker
from tests.postgres_servers import Server

NAME = "fleet_coordination"
STAYS = {
    "schema_revision",
    "installation",
    "rate_limits",
    "accounts",
    "policy_rules",
    "resource_kinds",
    "routes",
    "setting_definitions",
    "flag_definitions",
    "breaker_rules",
}


class Standing:
    """What would cost more than most of these tests if each made its own: a database and two logins."""

    def __init__(self, database: FleetDatabase) -> None:
        self.database = database
        self.console = database.database("console")
        self._owner: Owner | None = None
        self._first_pools = self.owner.execute("SELECT jsonb_agg(p) FROM fleet.pools p").fetchone()
        self._first_accounts = self.owner.execute("SELECT jsonb_agg(a) FROM fleet.accounts a").fetchone()

    @property
    def owner(self) -> Owner:
        """A superuser's connection; made anew where a test stopped the server."""
        if self._owner is not None:
            try:
                self._owner.execute("SELECT 1")
            except psycopg.Error:
                self._owner.close()
            else:
                return self._owner
        self._owner = psycopg.connect(self.database.superuser_dsn, autocommit=True)
        return self._owner

    def empty(self) -> None:
        """Remove every session and row of a test."""
        owner = self.owner
        owner.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database() "
            "AND usename LIKE 'fleet%' AND application_name <> 'socialfleet test console'"
        )
        tables = owner.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'fleet'").fetchall()
        emptied = [f"DELETE FROM fleet.{table};" for (table,) in tables if table not in STAYS]
        rest = [
            "DELETE FROM fleet.rate_limits WHERE account <> '*';",
            "DELETE FROM fleet.routes WHERE changed_by <> 'migration';",
            "INSERT INTO fleet.rate_epoch (started_at) VALUES (clock_timestamp());",
            (
                "UPDATE fleet.accounts SET platform_user_id = NULL, handle = NULL, "
                "engagement_spacing_s = NULL, "
                "tier = CASE WHEN sandbox THEN 'enterprise' ELSE 'pay_per_use' END;"
            ),
            "SELECT fleet.accept_cluster('test')",
        ]
        owner.execute(" ".join([*emptied, *rest]).encode())
        owner.execute(
            "INSERT INTO fleet.pools SELECT (jsonb_populate_record(NULL::fleet.pools, p || "
            "jsonb_build_object('measured_at', clock_timestamp()))).* FROM jsonb_array_elements(%s) p",
            [Jsonb(pools) for pools in self._first_pools or ()],
        )
        owner.execute(
            "INSERT INTO fleet.accounts SELECT (jsonb_populate_record(NULL::fleet.accounts, a)).* "
            "FROM jsonb_array_elements(%s) a ON CONFLICT DO NOTHING",
            [Jsonb(accounts) for accounts in self._first_accounts or ()],
        )

    def close(self) -> None:
        """Leave nothing open."""
        self.console.close()
        if self._owner is not None:
            self._owner.close()


@pytest.fixture(scope="session")
def standings() -> Iterator[dict[str, Standing]]:
    """One a server, by its address; each stands until the session ends, whichever is asked for between."""
    made: dict[str, Standing] = {}
    yield made
    for one in made.values():
        one.close()


@pytest.fixture(scope="session")
def standing(postgres: Server, template: str, standings: dict[str, Standing]) -> Standing:
    """The one of this server."""
    if postgres.superuser_dsn not in standings:
        standings[postgres.superuser_dsn] = _stand(postgres, template)
    return standings[postgres.superuser_dsn]


def _stand(postgres: Server, template: str) -> Standing:
    with psycopg.connect(postgres.superuser_dsn, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER fleet_migrator").format(
                sql.Identifier(NAME), sql.Identifier(TEMPLATE)
            )
        )
        connection.execute("CHECKPOINT")  # a crash breaks a clone's unlogged indexes: PostgreSQL 15 to 18
    made = FleetDatabase(
        migrator_dsn=re.sub(rf"/{TEMPLATE}(?=$|\?)", f"/{NAME}", template),
        superuser_dsn=re.sub(r"/postgres(?=$|\?)", f"/{NAME}", postgres.superuser_dsn),
        server=postgres,
    )
    return Standing(made)


@pytest.fixture
def fleet_database(standing: Standing) -> Iterator[FleetDatabase]:
    """The database, left without anything of the test and without its sessions."""
    yield standing.database
    standing.empty()


@pytest.fixture
def owner(standing: Standing) -> Owner:
    """A superuser's connection in autocommit, which sees and may do everything."""
    return standing.owner


@pytest.fixture
def console(standing: Standing, fleet_database: FleetDatabase) -> Database:
    """A person's connection."""
    assert fleet_database is standing.database
    try:
        standing.console.call("get_kill_switch")
    except DatabaseUnavailableError:  # a test stopped the server; the next call connects anew
        standing.console.call("get_kill_switch")
    return standing.console


@pytest.fixture
def workers(fleet_database: FleetDatabase) -> Iterator[Callable[..., None]]:
    """Makes workers known: `workers(tester=(), writer=("prose",))`."""
    maintainer = fleet_database.database("maintainer")

    def know(**roles: tuple[str, ...]) -> None:
        for name, own in roles.items():
            ensure_worker(maintainer, name, name, own)

    yield know
    maintainer.close()
