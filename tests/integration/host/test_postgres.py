"""The embedded PostgreSQL as a server: what it promises to those who connect and to those who start it."""

import os
import pwd
import socket
import stat
import tempfile
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from pathlib import Path

import psycopg
import pytest

from host.postgres import EmbeddedPostgres, erase, find_binaries
from host.postgres_account import Account, failure
from host.postgres_errors import (
    NO_SPACE,
    BadStateDir,
    PasswordLost,
    PostgresDiskFull,
    PostgresFailed,
    PostgresForbidden,
    WrongMajorVersion,
    from_os_error,
)
from host.postgres_places import ELSEWHERE, SOCKET_PATH_BYTES
from tests.postgres_servers import UNSAFE_BUT_FAST, Server

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another user")


@dataclass
class House:
    """A state directory and what was said about its PostgreSQL."""

    state_dir: Path
    said: list[str] = field(default_factory=list)

    def server(self, **options: str) -> EmbeddedPostgres:
        return EmbeddedPostgres(
            self.state_dir, find_binaries(None), self.said.append, options={**UNSAFE_BUT_FAST, **options}
        )


@pytest.fixture
def house() -> Iterator[House]:
    """A state directory that everyone may enter, with no server in it yet."""
    with new_house() as house:
        yield house


@contextmanager
def new_house() -> Generator[House]:
    with tempfile.TemporaryDirectory(prefix="fleet-test-", dir="/tmp") as directory:
        Path(directory).chmod(0o755)
        house = House(Path(directory) / "state")
        yield house
        erase(house.state_dir)


@pytest.fixture(scope="module")
def running() -> Iterator[EmbeddedPostgres]:
    """A running server for tests that leave it as it is."""
    with new_house() as house:
        server = house.server()
        server.start()
        yield server
        server.stop()


@pytest.fixture
def server(house: House) -> Iterator[EmbeddedPostgres]:
    """A server that isn't started yet, stopped after the test."""
    server = house.server()
    yield server
    server.stop()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_database_made_for_the_migrator_is_its_own(postgres: Server) -> None:
    dsn = postgres.create_database("owned")

    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT current_user, current_database()").fetchone()
        connection.execute("CREATE SCHEMA fleet")

    assert row == ("fleet_migrator", "owned")
    assert dsn.startswith("postgresql://fleet_migrator:")


def test_committed_data_outlives_a_crash_of_the_server(postgres: Server) -> None:
    dsn = postgres.create_database("crashed")
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS value")

    postgres.immediate_stop()
    postgres.start()

    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT value FROM kept").fetchone() == (42,)


def test_the_fleet_gets_a_database_and_a_role_that_can_make_roles(running: EmbeddedPostgres) -> None:

    with psycopg.connect(running.migrator_dsn) as connection:
        connection.execute("CREATE ROLE made_by_the_migrator LOGIN")
        row = connection.execute(
            "SELECT current_user, current_database(), pg_get_userbyid(datdba), pg_encoding_to_char(encoding),"
            " current_setting('TimeZone'), rolsuper"
            " FROM pg_database JOIN pg_roles ON rolname = current_user WHERE datname = current_database()"
        ).fetchone()

    assert row == ("fleet_migrator", "socialfleet", "fleet_migrator", "UTF8", "UTC", False)


def test_extensions_of_the_wheel_can_be_made(running: EmbeddedPostgres) -> None:

    with psycopg.connect(running.dsn("postgres", "socialfleet")) as connection:
        connection.execute("CREATE EXTENSION vector")
        connection.execute("CREATE EXTENSION pg_trgm")
        row = connection.execute("SELECT similarity('été à Zürich', 'été à Zurich') > 0.5").fetchone()

    assert row == (True,)


def test_data_and_addresses_stay_from_one_start_to_the_next(server: EmbeddedPostgres, house: House) -> None:
    server.start()
    before = server.migrator_dsn
    with psycopg.connect(before) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS value")
    server.stop()

    again = house.server()
    again.start()
    try:
        assert again.migrator_dsn == before
        with psycopg.connect(before) as connection:
            assert connection.execute("SELECT value FROM kept").fetchone() == (42,)
    finally:
        again.stop()


def test_stop_is_safe_before_start_and_twice_and_start_twice_is_one(server: EmbeddedPostgres) -> None:
    server.stop()
    assert (server.pid, server.process, server.poll()) == (None, None, None)

    server.start()
    pid = server.pid
    server.start()
    assert server.pid == pid
    assert server.poll() is None

    server.stop()
    server.stop()
    assert server.pid is None


def test_stop_cuts_off_those_who_are_still_connected(server: EmbeddedPostgres) -> None:
    server.start()
    with psycopg.connect(server.migrator_dsn) as connection:
        connection.execute("SELECT 1")

        server.stop()

        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


@pytest.mark.parametrize("password", ["", ":wrong"])
@pytest.mark.parametrize("over", ["socket", "loopback"])
def test_nobody_connects_without_the_password(running: EmbeddedPostgres, password: str, over: str) -> None:
    host = running.migrator_dsn.split("host=")[1].split("&")[0] if over == "socket" else "127.0.0.1"

    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(f"postgresql://fleet_migrator{password}@/socialfleet?host={host}&port={running.port}")


def test_loopback_takes_the_same_password_as_the_socket(running: EmbeddedPostgres) -> None:
    password = running.migrator_dsn.split(":")[2].split("@")[0]

    with psycopg.connect(
        f"postgresql://fleet_migrator:{password}@127.0.0.1:{running.port}/socialfleet"
    ) as it:
        assert it.execute("SELECT inet_server_addr()::text").fetchone() == ("127.0.0.1/32",)


def test_secrets_are_readable_by_their_owner_only_and_stand_in_no_log(running: EmbeddedPostgres) -> None:
    keep = running.data.parent
    files = [keep / "postgres.password", keep / "fleet_migrator.password"]

    assert [mode(file) for file in files] == [0o600, 0o600]
    passwords = {file.read_text() for file in files}
    assert len(passwords) == 2
    assert all(len(password) >= 32 for password in passwords)
    assert not any(password in running.log.read_text() for password in passwords)


def test_a_terminals_interrupt_does_not_reach_the_server(running: EmbeddedPostgres) -> None:

    assert running.pid is not None
    assert os.getsid(running.pid) == running.pid


def test_when_the_kept_port_is_taken_another_one_is_chosen(server: EmbeddedPostgres, house: House) -> None:
    server.start()
    taken = server.port
    server.stop()

    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", taken))
        other.listen()
        server.start()

    assert server.port != taken
    assert f"port {taken} is taken by another program: PostgreSQL listens on {server.port} now" in house.said
    with psycopg.connect(server.migrator_dsn) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("awkward", ["with space and %20", "it's", "ünï"])
def test_a_state_directory_may_have_an_awkward_name(house: House, awkward: str) -> None:
    house.state_dir = house.state_dir.parent / awkward
    server = house.server()
    server.start()
    try:
        with psycopg.connect(server.migrator_dsn) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    finally:
        server.stop()


@pytest.mark.parametrize("name", ['say "no"', "$HOME", "`id`", "back\\slash", "two\nlines"])
def test_a_state_directory_that_a_shell_would_misread_is_refused(house: House, name: str) -> None:
    house.state_dir = house.state_dir.parent / name

    with pytest.raises(BadStateDir, match="SOCIALFLEET_STATE_DIR is"):
        house.server().start()

    assert not house.state_dir.exists()


@pytest.mark.parametrize("unfit", ["é" * 50, "a,b"])
def test_a_path_unfit_for_a_socket_gets_a_short_private_directory(house: House, unfit: str) -> None:
    house.state_dir = house.state_dir / unfit / "state"
    server = house.server()
    server.start()
    try:
        with psycopg.connect(server.migrator_dsn) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        run = Path(server.migrator_dsn.split("host=")[1].split("&")[0])
        assert run.parent == Path("/tmp")
        assert mode(run) == 0o700
        assert len(os.fsencode(run / f".s.PGSQL.{server.port}")) <= SOCKET_PATH_BYTES
    finally:
        server.stop()
    erase(house.state_dir)
    assert not run.exists()


def test_a_socket_directory_of_someone_else_is_refused(server: EmbeddedPostgres, house: House) -> None:
    run = house.state_dir / "postgres" / "run"
    run.mkdir(parents=True)
    run.chmod(0o777)

    with pytest.raises(PostgresForbidden, match="mode 0700"):
        server.start()


def test_a_cluster_of_another_major_version_is_refused(server: EmbeddedPostgres) -> None:
    server.start()
    server.stop()
    (server.data / "PG_VERSION").write_text("13\n")

    with pytest.raises(WrongMajorVersion, match="made by PostgreSQL 13") as caught:
        server.start()

    assert "SOCIALFLEET_PG_BIN" in str(caught.value)


def test_a_lost_password_is_named(server: EmbeddedPostgres, house: House) -> None:
    server.start()
    server.stop()
    (house.state_dir / "postgres" / "fleet_migrator.password").unlink()

    with pytest.raises(PasswordLost, match=r"fleet_migrator\.password is missing"):
        server.start()


def test_what_the_server_refuses_is_told_in_its_words_and_can_be_tried_again(house: House) -> None:
    faulty, sound = house.server(max_connections="none"), house.server()

    with pytest.raises(PostgresFailed, match='invalid value for parameter "max_connections"'):
        faulty.start()

    assert faulty.pid is None
    sound.start()  # nothing of the failed start is in the way
    sound.stop()


def test_a_full_disk_is_named_as_such() -> None:
    assert isinstance(failure("initdb", f"could not write file: {NO_SPACE}"), PostgresDiskFull)
    assert isinstance(from_os_error(OSError(28, NO_SPACE, "/state"), Path("/state")), PostgresDiskFull)


def test_a_directory_that_cannot_be_written_is_named(house: House) -> None:
    house.state_dir.parent.joinpath("state").write_text("a file where the directory should be")

    with pytest.raises(PostgresFailed, match=str(house.state_dir)):
        house.server().start()

    house.state_dir.unlink()


def test_erase_leaves_only_the_log(server: EmbeddedPostgres, house: House) -> None:
    server.start()
    server.stop()

    erase(house.state_dir)

    left = [path.relative_to(house.state_dir) for path in house.state_dir.rglob("*")]
    assert sorted(left) == [Path("logs"), Path("logs/postgresql.log")]


@AS_ROOT
def test_started_by_root_the_server_is_unprivileged_and_runs_from_a_copy(running: EmbeddedPostgres) -> None:

    status = Path(f"/proc/{running.pid}/status").read_text()
    assert "\nUid:\t65534\t65534\t65534\t65534\n" in status
    assert "\nGid:\t65534\t65534\t65534\t65534\n" in status
    assert "\nGroups:\t \n" in status
    assert Path(f"/proc/{running.pid}/exe").readlink().is_relative_to(running.data.parent)


@AS_ROOT
def test_an_ordinary_user_runs_it_in_place_as_oneself(house: House) -> None:
    uid = next(user.pw_uid for user in pwd.getpwall() if user.pw_uid not in {0, 65534})
    ours = house.state_dir.parent
    binaries = find_binaries(None).usable_by(Account(uid=uid), ours)  # for a clone that this user can't read
    os.chown(ours, uid, uid)

    def start_and_tell(pipe: Connection) -> None:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
        server = EmbeddedPostgres(house.state_dir, binaries, house.said.append, options=UNSAFE_BUT_FAST)
        server.start()
        with psycopg.connect(server.migrator_dsn) as connection:
            row = connection.execute("SELECT current_user").fetchone()
        exe = Path(f"/proc/{server.pid}/exe").readlink()
        pipe.send((row, exe, server.data.stat().st_uid, mode(server.data.parent)))
        server.stop()

    here, there = Pipe()
    with closing(here), closing(there):
        child = get_context("fork").Process(target=start_and_tell, args=(there,))
        child.start()
        child.join()
        assert child.exitcode == 0
        told = here.recv()

    assert told == (("fleet_migrator",), binaries.directory / "postgres", uid, 0o700)


def test_a_user_without_a_name_is_told_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 987654321)

    with pytest.raises(PostgresForbidden, match="uid 987654321, which PostgreSQL would run as, has no name"):
        Account.for_this_process().check_name()


@AS_ROOT
def test_under_a_private_home_the_cluster_lives_elsewhere_and_no_mode_changes(house: House) -> None:
    home = house.state_dir.parent / "home"
    home.mkdir(mode=0o700)
    house.state_dir = home / "clone" / ".socialfleet"
    server = house.server()
    server.start()
    try:
        with psycopg.connect(server.migrator_dsn) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        assert mode(home) == 0o700
        assert server.data.parent.parent == ELSEWHERE
        assert any(str(server.data.parent) in line and "can't enter" in line for line in house.said)
        place = server.data
    finally:
        server.stop()

    server.start()
    assert server.data == place
    server.stop()

    erase(house.state_dir)
    assert not place.parent.exists()


@AS_ROOT
def test_root_removes_no_place_that_a_forged_file_names(house: House) -> None:
    keep = house.state_dir / "postgres"
    keep.mkdir(parents=True)
    (keep / "home").write_text("../../etc")

    with pytest.raises(PostgresForbidden, match="12 hexadecimal digits"):
        erase(house.state_dir)

    (keep / "home").unlink()


@AS_ROOT
def test_a_cluster_that_its_user_can_no_longer_enter_is_not_replaced_by_an_empty_one(house: House) -> None:
    server = house.server()
    server.start()
    server.stop()
    house.state_dir.parent.chmod(0o700)

    with pytest.raises(PostgresForbidden, match="holds the cluster"):
        server.start()
