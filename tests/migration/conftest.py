"""Empty databases for each test, on every server."""

import uuid
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import sql

from tests.postgres_servers import Server


@contextmanager
def _new_database(postgres: Server) -> Generator[str]:
    name = f"m_{uuid.uuid4().hex[:12]}"
    dsn = postgres.create_database(name)
    try:
        yield dsn
    finally:
        with psycopg.connect(postgres.superuser_dsn, autocommit=True) as connection:
            connection.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            )


@pytest.fixture
def empty_database(postgres: Server) -> Iterator[str]:
    """The migrator's DSN of a new database."""
    with _new_database(postgres) as dsn:
        yield dsn


@pytest.fixture
def empty_database_beside(postgres: Server) -> Iterator[str]:
    """Another one, to compare with."""
    with _new_database(postgres) as dsn:
        yield dsn
