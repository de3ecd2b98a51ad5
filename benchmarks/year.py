"""A year of a busy account, generated: what a database holds after it, each table as long as it is kept."""

from pathlib import Path

import psycopg
from psycopg import sql

SOURCE = Path(__file__).with_suffix(".sql")
LEAST_ROWS = 5000


def generate(admin: psycopg.Connection, *, size: float = 1.0) -> int:
    """Fill an empty migrated database, and analyse it; give its rows.

    Args:
        admin: a superuser's connection in autocommit.
        size: 1 is a whole year, about 6 million rows. A smaller one leaves each large table 5000 rows at
            least: with fewer, reading all of them would be the better plan.
    """
    with admin.transaction():
        admin.execute("SET LOCAL ROLE fleet_owner")  # whose partitions are made in here
        admin.execute("SET LOCAL synchronous_commit = off")
        admin.execute(
            sql.SQL(
                "CREATE FUNCTION pg_temp.rows_of(n integer) RETURNS bigint LANGUAGE sql IMMUTABLE "
                "RETURN ceil(greatest(n * {}::double precision, {}))"
            ).format(sql.Literal(size), sql.Literal(LEAST_ROWS))
        )
        admin.execute(SOURCE.read_bytes())
    admin.execute("VACUUM (ANALYZE)")
    row = admin.execute(
        "SELECT sum(c.reltuples)::bigint FROM pg_class c "
        "WHERE c.relnamespace = 'fleet'::regnamespace AND c.relkind = 'r'"
    ).fetchone()
    return int(row[0]) if row else 0
