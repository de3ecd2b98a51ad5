"""The embedded PostgreSQL after its processes were killed at bad moments."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from host.lifeline import bound_to_parent
from host.postgres import EmbeddedPostgres, erase, find_binaries
from host.postgres_account import Account
from host.postgres_errors import PostgresBusy
from tests.postgres_servers import UNSAFE_BUT_FAST

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's lifeline")

REPOSITORY = Path(__file__).parents[3]
ENDS_WITHIN_S = 15

# A fleet's manager in small: starts the server of a state directory, says so, waits to be killed.
MANAGER = """
import signal, sys
from pathlib import Path
from host import postgres_account
from host.postgres import EmbeddedPostgres, find_binaries

def say(line):
    print(line, flush=True)

if "--untied" in sys.argv:
    postgres_account.bound_to_parent = lambda signum: lambda: None
server = EmbeddedPostgres(Path(sys.argv[1]), find_binaries(None), say, options={"fsync": "off"})
server.start()
say(f"pid {server.pid}")
signal.pause()
"""


@pytest.fixture
def state_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fleet-test-", dir="/tmp") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory) / "state"
        erase(Path(directory) / "state")


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def server(state_dir: Path, said: list[str]) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(state_dir, find_binaries(None), said.append, options=UNSAFE_BUT_FAST)
    yield server
    server.stop()


def start_manager(state_dir: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", MANAGER, str(state_dir), *arguments],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=bound_to_parent(signal.SIGKILL),  # noqa: PLW1509  no thread runs here
    )


def read_until(manager: subprocess.Popen[str], beginning: str) -> str:
    assert manager.stdout
    for line in manager.stdout:
        if line.startswith(beginning):
            return line.removeprefix(beginning).strip()
    pytest.fail(f"the manager ended without saying '{beginning}'")


def kill(manager: subprocess.Popen[str]) -> None:
    with manager:
        manager.kill()


def has_ended(pid: int) -> bool:
    """Whether the process is gone, or a zombie that waits for a reaper, within the time allowed."""
    try:
        process = psutil.Process(pid)
        for _ in range(ENDS_WITHIN_S * 10):
            gone, _alive = psutil.wait_procs([process], timeout=0.1)
            if gone or process.status() == psutil.STATUS_ZOMBIE:
                return True
    except psutil.NoSuchProcess:
        return True
    return False


def write_a_row(server: EmbeddedPostgres) -> None:
    with psycopg.connect(server.migrator_dsn) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS value")


def assert_the_row_is_there(server: EmbeddedPostgres) -> None:
    with psycopg.connect(server.migrator_dsn) as connection:
        assert connection.execute("SELECT value FROM kept").fetchone() == (42,)


def test_a_killed_server_starts_again_at_once_with_what_was_committed(server: EmbeddedPostgres) -> None:
    server.start()
    write_a_row(server)
    process = server.process
    assert process

    with psycopg.connect(server.migrator_dsn):  # its backend outlives the postmaster for a moment
        process.kill()
        process.wait()
        assert server.poll() == -signal.SIGKILL
        server.start()

    assert_the_row_is_there(server)


@pytest.mark.parametrize("how", ["a process of the same user", "this very process"])
def test_a_stale_pid_that_went_to_another_program_is_no_hindrance(server: EmbeddedPostgres, how: str) -> None:
    server.start()
    write_a_row(server)
    process, data = server.process, server.data
    assert process
    socket_lock = data.parent / "run" / f".s.PGSQL.{server.port}.lock"
    lock_lines = socket_lock.read_text().splitlines()
    pid_lines = (data / "postmaster.pid").read_text().splitlines()
    process.kill()
    process.wait()
    stranger = Account.for_this_process().spawn(
        ["/bin/sleep", "1000"],
        on_orphaned=signal.SIGKILL,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    with stranger:
        pid = stranger.pid if how == "a process of the same user" else os.getpid()
        (data / "postmaster.pid").write_text("\n".join([str(pid), *pid_lines[1:]]) + "\n")
        socket_lock.write_text("\n".join([str(pid), *lock_lines[1:]]) + "\n")

        server.start()

        assert stranger.poll() is None
        stranger.kill()
    assert_the_row_is_there(server)


def test_when_its_parent_is_killed_the_server_shuts_down_cleanly(
    state_dir: Path, server: EmbeddedPostgres
) -> None:
    manager = start_manager(state_dir)
    pid = int(read_until(manager, "pid "))

    kill(manager)

    assert has_ended(pid)
    program = find_binaries(None).program("pg_controldata")
    told = subprocess.run([program, "-D", server.data], capture_output=True, text=True, check=True).stdout
    assert "shut down\n" in told
    server.start()
    assert not any("earlier run" in line for line in server.log.read_text().splitlines())


def test_parent_and_server_killed_together_start_again(state_dir: Path, server: EmbeddedPostgres) -> None:
    manager = start_manager(state_dir)
    pid = int(read_until(manager, "pid "))
    write_a_row(server)

    for victim in (manager.pid, pid):
        os.kill(victim, signal.SIGKILL)
    kill(manager)
    server.start()

    assert_the_row_is_there(server)


def test_a_server_left_by_a_killed_parent_is_stopped_first(
    state_dir: Path, server: EmbeddedPostgres, said: list[str]
) -> None:
    manager = start_manager(state_dir, "--untied")
    left = int(read_until(manager, "pid "))
    write_a_row(server)
    kill(manager)
    assert psutil.Process(left).name() == "postgres"

    server.start()

    assert has_ended(left)
    assert server.pid != left
    assert any("a PostgreSQL of an earlier run still works" in line for line in said)
    assert_the_row_is_there(server)


@pytest.mark.parametrize("moment", ["making a PostgreSQL", "starting PostgreSQL"])
def test_a_first_start_killed_on_the_way_is_begun_again(
    state_dir: Path, server: EmbeddedPostgres, moment: str
) -> None:
    manager = start_manager(state_dir)
    read_until(manager, moment)
    kill(manager)

    server.start()

    write_a_row(server)
    assert_the_row_is_there(server)


def test_what_a_killed_initdb_left_is_removed(state_dir: Path, server: EmbeddedPostgres) -> None:
    unfinished = state_dir / "postgres" / "initdb-killed"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n")

    server.start()

    assert not unfinished.exists()


def test_a_second_fleet_in_the_same_state_directory_is_refused(
    state_dir: Path, server: EmbeddedPostgres
) -> None:
    manager = start_manager(state_dir)
    pid = int(read_until(manager, "pid "))

    with pytest.raises(
        PostgresBusy, match=f"Process {manager.pid} already runs the PostgreSQL of {state_dir}"
    ):
        server.start()
    with pytest.raises(PostgresBusy):
        erase(state_dir)

    assert psutil.pid_exists(pid)
    with psycopg.connect(server.migrator_dsn) as connection:  # another process may still read the address
        assert connection.execute("SELECT 1").fetchone() == (1,)
    kill(manager)
    assert has_ended(pid)
