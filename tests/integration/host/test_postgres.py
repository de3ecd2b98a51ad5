"""The embedded PostgreSQL as a server: what it promises to those who connect."""

import psycopg

from tests.postgres_servers import Server


def test_a_database_made_for_the_migrator_is_its_own(postgres: Server) -> None:
    dsn = postgres.create_database("owned")

    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT current_user, current_database()").fetchone()
        connection.execute("CREATE SCHEMA fleet")

    assert row == ("fleet_migrator", "owned")
    assert dsn.startswith("postgresql://fleet_migrator:")
