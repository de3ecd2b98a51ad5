"""The embedded PostgreSQL under watch: it comes back, and it ends in time even when it hangs."""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
import pytest

from host.database_server import DatabaseServer
from host.postgres import EmbeddedPostgres, PostgresError, find_binaries
from tests.postgres_servers import UNSAFE_BUT_FAST

WITHIN_S = 60.0


@dataclass
class Watched:
    postgres: EmbeddedPostgres
    server: DatabaseServer
    starts: list[int | None]
    said: list[str]

    def process(self) -> psutil.Process:
        assert self.postgres.pid is not None
        return psutil.Process(self.postgres.pid)


def until(reached: Callable[[], bool]) -> None:
    waiting = threading.Event()
    deadline = time.monotonic() + WITHIN_S
    while not reached():
        assert time.monotonic() < deadline, f"not within {WITHIN_S} s"
        waiting.wait(0.05)


@pytest.fixture
def watched() -> Iterator[Watched]:
    with tempfile.TemporaryDirectory(prefix="fleet-test-", dir="/tmp") as directory:
        Path(directory).chmod(0o755)  # as root PostgreSQL runs as another user
        said, starts = list[str](), list[int | None]()
        postgres = EmbeddedPostgres(
            Path(directory) / "state", find_binaries(None), said.append, options=UNSAFE_BUT_FAST
        )
        server = DatabaseServer(
            postgres,
            started=lambda: starts.append(postgres.pid),
            say=lambda line, _kind: said.append(line),
            wake=lambda: None,
        )
        server.start()
        until(lambda: server.has_begun)
        assert server.error is None
        yield Watched(postgres, server, starts, said)
        server.stop(10)


def test_killed_it_is_started_again(watched: Watched) -> None:
    watched.process().kill()
    until(lambda: len(watched.starts) == 2)
    with psycopg.connect(watched.postgres.migrator_dsn) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert any("PostgreSQL ended (exit code -9); starts again in" in line for line in watched.said)


def test_stopped_it_ends_in_order_and_stays_stopped(watched: Watched) -> None:
    process = watched.process()
    watched.server.stop(10)
    assert not process.is_running()
    watched.server.stop(10)
    assert len(watched.starts) == 1


@pytest.mark.timed
def test_one_that_hangs_is_killed_with_its_backends_within_the_patience(watched: Watched) -> None:
    with psycopg.connect(watched.postgres.migrator_dsn) as connection:
        connection.execute("SELECT 1")
        processes = [watched.process(), *watched.process().children(recursive=True)]
        for process in processes:
            process.suspend()
        began = time.monotonic()
        watched.server.stop(3)
        assert time.monotonic() - began < 4
        _, alive = psutil.wait_procs(processes, 5)
        assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
        connection.close()


def test_a_first_start_that_fails_is_told_and_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    postgres = EmbeddedPostgres(tmp_path / "file" / "state", find_binaries(None), lambda _line: None)
    server = DatabaseServer(postgres, started=lambda: None, say=lambda _line, _kind: None, wake=lambda: None)
    server.start()
    until(lambda: server.has_begun)
    assert isinstance(server.error, PostgresError)
    server.stop(1)
