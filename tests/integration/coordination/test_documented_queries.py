"""What a page tells a person to ask the database can be asked."""

import re
from pathlib import Path

import psycopg

from tests.integration.conftest import FleetDatabase

PAGE = Path(__file__).resolve().parents[3] / "docs" / "explanation" / "performance.md"


def test_every_query_of_the_page_on_performance_runs_for_who_may_watch_the_server(
    fleet_database: FleetDatabase,
) -> None:
    blocks = re.findall(r"^```sql\n(.+?)^```", PAGE.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    queries = [query for block in blocks for query in block.split(";") if query.strip()]
    assert len(queries) > 4
    with psycopg.connect(fleet_database.superuser_dsn, autocommit=True) as watcher:
        watcher.execute("SET ROLE pg_monitor")
        for query in queries:
            watcher.execute(query.encode()).fetchall()
