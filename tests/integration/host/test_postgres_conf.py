"""What deploy/postgres.conf gives to a server of one's own."""

from pathlib import Path

import psycopg
import pytest

from benchmarks.core import RECOMMENDED, recommended
from host.postgres import find_binaries
from host.postgres_binaries import system_directories
from tests.postgres_servers import LocalServer


def test_every_setting_has_its_reason() -> None:
    lines = RECOMMENDED.read_text("utf-8").splitlines()
    settings = [line for line in lines if "=" in line.partition("#")[0]]
    assert len(settings) == len(recommended()) > 20
    # Three that belong together have one reason.
    without = {line.partition(" ")[0] for line in settings if not line.partition("#")[2].strip()}
    assert without == {"tcp_keepalives_interval", "tcp_keepalives_count"}


@pytest.mark.parametrize("directory", [None, next(system_directories(), None)], ids=["embedded", "system"])
def test_a_server_starts_with_them_and_takes_each(directory: Path | None) -> None:
    server = LocalServer(find_binaries(directory), recommended())
    server.start()
    try:
        with psycopg.connect(server.superuser_dsn) as connection:
            taken = connection.execute(
                "SELECT name FROM pg_file_settings WHERE applied AND error IS NULL AND name = ANY (%s)",
                (list(recommended()),),
            ).fetchall()
        assert {name for (name,) in taken} == set(recommended())
    finally:
        server.remove()
