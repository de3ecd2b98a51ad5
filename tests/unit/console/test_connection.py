"""The connection's words when there is nothing to connect to; real servers are in the integration tests."""

import asyncio
from pathlib import Path

import pytest

from console.connection import Connection, UnreachableError


def fault(dsn_file: Path) -> str:
    async def ask() -> None:
        await Connection(dsn_file).run(lambda database: database.open(), timeout_s=10)

    with pytest.raises(UnreachableError) as raised:
        asyncio.run(ask())
    return str(raised.value)


def test_a_dsn_that_is_not_written_yet_is_named(tmp_path: Path) -> None:
    assert fault(tmp_path / "console").endswith("console is written when the fleet starts")


@pytest.mark.parametrize(
    "dsn",
    [
        "",
        "s3cret",
        "host=db password=s3cret",
        "mysql://fleet:s3cret@db/fleet",
        "postgresql://fleet:s3/cret@db/fleet",
        "postgresql://fleet:s3@cret@db/fleet",
        "postgresql://fleet:s3cret%zz@127.0.0.1:1/fleet",
        "postgresql://fleet:s3cret@127.0.0.1:1/fleet",
        "postgresql://fleet:s3cret@127.0.0.1:port/fleet",
        "postgresql://fleet:s3cret@127.0.0.1:1/fleet?s3cret=1",
    ],
)
def test_no_fault_shows_a_password(tmp_path: Path, dsn: str) -> None:
    (tmp_path / "console").write_text(dsn)
    assert "s3" not in fault(tmp_path / "console")
