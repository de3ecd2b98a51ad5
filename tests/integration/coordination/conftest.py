"""One database for all these tests, emptied after each, and who else looks at it."""

import re
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from coordination import accounts
from coordination.database import Database
from tests.integration.conftest import TEMPLATE, FleetDatabase
from tests.integration.coordination.tables import Owner
from tests.postgres_servers import Server

NAME = "fleet_coordination"
STAYS = {"schema_revision", "installation", "rate_limits", "accounts"}


@pytest.fixture(scope="session")
def coordination_database(postgres: Server, template: str) -> FleetDatabase:
    """Made once a server: a database a test would cost more than most of these tests."""
    with psycopg.connect(postgres.superuser_dsn, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER fleet_migrator").format(
                sql.Identifier(NAME), sql.Identifier(TEMPLATE)
            )
        )
    made = FleetDatabase(
        migrator_dsn=re.sub(rf"/{TEMPLATE}(?=$|\?)", f"/{NAME}", template),
        superuser_dsn=re.sub(r"/postgres(?=$|\?)", f"/{NAME}", postgres.superuser_dsn),
        server=postgres,
    )
    maintainer = made.database("maintainer")
    for account, url, sandbox in (
        ("sandbox", "http://127.0.0.1:1", True),
        ("default", "https://api.x.com", False),
    ):
        accounts.ensure_account(
            maintainer, account, platform="x", api_url=url, sandbox=sandbox, topics=["gardens", "databases"]
        )
    maintainer.close()
    return made


@pytest.fixture
def owner(coordination_database: FleetDatabase) -> Iterator[Owner]:
    """A superuser's connection in autocommit, which sees and may do everything."""
    with psycopg.connect(coordination_database.superuser_dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture
def fleet_database(coordination_database: FleetDatabase) -> Iterator[FleetDatabase]:
    """The database, left without anything of the test and without its sessions."""
    yield coordination_database
    with psycopg.connect(coordination_database.superuser_dsn, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() AND usename LIKE 'fleet%'"
        )
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'fleet'").fetchall()
        empty = [f"DELETE FROM fleet.{table};" for (table,) in tables if table not in STAYS]
        connection.execute(
            " ".join(
                [
                    *empty,
                    "DELETE FROM fleet.rate_limits WHERE account <> '*';",
                    "UPDATE fleet.accounts SET platform_user_id = NULL, handle = NULL;",
                    "SELECT fleet.accept_cluster('test')",
                ]
            ).encode()
        )


@pytest.fixture
def console(fleet_database: FleetDatabase) -> Iterator[Database]:
    """A person's connection."""
    database = fleet_database.database("console")
    yield database
    database.close()
