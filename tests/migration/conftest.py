"""An empty database for each test, on every server."""

import uuid
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from tests.postgres_servers import Server


@pytest.fixture
def empty_database(postgres: Server) -> Iterator[str]:
    """The migrator's DSN of a new database."""
    name = f"m_{uuid.uuid4().hex[:12]}"
    dsn = postgres.create_database(name)
    try:
        yield dsn
    finally:
        with psycopg.connect(postgres.superuser_dsn, autocommit=True) as connection:
            connection.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            )
