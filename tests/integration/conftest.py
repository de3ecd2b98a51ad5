"""A migrated database for each test, cloned from a template that is migrated once for each server."""

import contextlib
import re
import uuid
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql

from coordination import Fleet, accounts, connect, settings
from coordination.database import Database
from migrations import schema
from tests.postgres_servers import Server
from workers import registry
from workers.base import Worker

PASSWORDS = {role: f"password-of-{role}" for role in schema.ROLES}
TEMPLATE = "fleet_template"


def as_role(dsn: str, role: str, password: str, database: str | None = None) -> str:
    """The same server with another login, and another database where one is named."""
    parts = urlsplit(dsn)
    host = parts.netloc.rpartition("@")[2]
    path = f"/{database}" if database else parts.path
    return urlunsplit(parts._replace(netloc=f"{role}:{password}@{host}", path=path))


@dataclass(frozen=True)
class FleetDatabase:
    """One test's own database, migrated; every role has a login."""

    migrator_dsn: str
    superuser_dsn: str
    server: Server

    def dsn(self, role: str) -> str:
        """The connection string of owner, worker, console, reader, maintainer or migrator."""
        if role == "migrator":
            return self.migrator_dsn
        return as_role(self.migrator_dsn, f"fleet_{role}", PASSWORDS[f"fleet_{role}"])

    def database(self, role: str) -> Database:
        """A connection as that role; the caller closes it."""
        return Database(self.dsn(role), name=f"test {role}")

    def connect(self, name: str = "tester", slot: int = 1) -> Fleet:
        """Join the fleet as a worker."""
        return connect(self.dsn("worker"), name, slot=slot)

    def know(self, *kinds: type[Worker]) -> None:
        """Let the fleet know the settings and the flag of workers that only a test has."""
        maintainer = self.database("maintainer")
        definitions = [one for kind in kinds for one in registry.settings_of(kind)]
        settings.register_settings(maintainer, definitions, [registry.flag_of(kind) for kind in kinds])
        maintainer.close()

    @contextlib.contextmanager
    def owner(self) -> Generator[psycopg.Connection]:
        """An owner's connection in autocommit, to look at tables and to move time."""
        with psycopg.connect(self.dsn("owner"), autocommit=True) as connection:
            yield connection

    def advance(self, seconds: float, rate: float = 1) -> None:
        """Move fleet time on."""
        with self.owner() as connection:
            connection.execute(
                "SELECT fleet.move_clock(make_interval(secs => %s), %s)", (float(seconds), float(rate))
            )


_templates: dict[int, str] = {}


@pytest.fixture(scope="session")
def template(postgres: Server) -> str:
    """The migrated template's migrator DSN; it has the sandbox's account and a real one."""
    # The fault tests have this fixture too: one template a server is enough for both.
    if id(postgres) not in _templates:
        _templates[id(postgres)] = dsn = postgres.create_database(TEMPLATE)
        schema.upgrade(dsn, PASSWORDS)
        maintainer = Database(
            as_role(dsn, "fleet_maintainer", PASSWORDS["fleet_maintainer"]), name="test template"
        )
        for account, url in (("sandbox", "http://127.0.0.1:1"), ("default", "https://api.x.com")):
            sandbox, topics = account == "sandbox", ["gardens", "databases"]
            accounts.ensure_account(
                maintainer, account, platform="x", api_url=url, sandbox=sandbox, topics=topics
            )
        settings.register_settings(maintainer, registry.definitions(), registry.flags())
        maintainer.close()
    return _templates[id(postgres)]


@pytest.fixture
def fleet_database(postgres: Server, template: str) -> Iterator[FleetDatabase]:
    """A fresh migrated database, with the sandbox's account and a real one."""
    name = f"t_{uuid.uuid4().hex[:12]}"
    migrator = re.sub(rf"/{TEMPLATE}(?=$|\?)", f"/{name}", template)
    admin = postgres.superuser_dsn
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER fleet_migrator").format(
                sql.Identifier(name), sql.Identifier(TEMPLATE)
            )
        )
        connection.execute("CHECKPOINT")  # a crash breaks a clone's unlogged indexes: PostgreSQL 15 to 18
    own = FleetDatabase(
        migrator_dsn=migrator, superuser_dsn=re.sub(r"/postgres(?=$|\?)", f"/{name}", admin), server=postgres
    )
    try:
        yield own
    finally:
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            )


@pytest.fixture
def fleet(fleet_database: FleetDatabase) -> Iterator[Fleet]:
    """One incarnation, worker `tester`."""
    with fleet_database.connect() as joined:
        yield joined
