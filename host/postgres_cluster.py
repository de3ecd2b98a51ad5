"""The cluster on disk: made whole or not at all, freed of what a killed server left behind."""

import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from host.postgres_account import Account
from host.postgres_binaries import Binaries
from host.postgres_errors import OWN_SERVER, PostgresFailed, PostgresForbidden, WrongMajorVersion

DATABASE = "socialfleet"
MIGRATOR = "fleet_migrator"
SUPERUSER = "postgres"
UNFINISHED = "initdb-"
INITDB_TIMEOUT_S = 120.0
POLL_S = 0.1
READY_LINE = 7  # of postmaster.pid, counted from 0: the server's own word on its state

# Fast shutdown, then without waiting for clients (the next start recovers), then the kernel's.
STEPS = ((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))


def initialise(
    data: Path, binaries: Binaries, account: Account, passwords: Mapping[str, str], *, sync: bool
) -> None:
    """Make a cluster with the fleet's database and its migrator role, then move it to `data`.

    Args:
        data: where it shall be; its parent exists.
        binaries: what makes it.
        account: who owns and runs it.
        passwords: those of the superuser and the migrator, by role.
        sync: whether it is safely on the disk afterwards; only tests do without.

    Raises:
        PostgresForbidden: the account has no name.
        PostgresFailed: a program failed; `data` is not there then.
    """
    account.check_name()
    for leftover in data.parent.glob(f"{UNFINISHED}*"):
        for process in _working_in(leftover):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        shutil.rmtree(leftover, ignore_errors=True)  # what a dying process still wrote goes next time
    unfinished = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=data.parent))
    account.give(unfinished)
    # C.UTF-8 sorts by code point everywhere, so an index outlives an upgrade of the C library. Nobody
    # connects before pg_hba.conf is the fleet's.
    account.run(
        [
            binaries.program("initdb"),
            f"--pgdata={unfinished}",
            f"--username={SUPERUSER}",
            "--auth=reject",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            *([] if sync else ["--no-sync"]),
        ],
        timeout_s=INITDB_TIMEOUT_S,
    )
    # Single-user mode takes a statement a line from its input: no listener, no password in any argument.
    statements = (
        f"ALTER ROLE {SUPERUSER} PASSWORD '{passwords[SUPERUSER]}'",
        f"CREATE ROLE {MIGRATOR} LOGIN CREATEROLE PASSWORD '{passwords[MIGRATOR]}'",
        f"CREATE DATABASE {DATABASE} OWNER {MIGRATOR}",
    )
    account.run(
        [
            binaries.program("postgres"),
            "--single",
            "-D",
            str(unfinished),
            "-c",
            "exit_on_error=on",
            "-c",
            "password_encryption=scram-sha-256",
            "-c",
            "log_min_error_statement=panic",  # a statement that fails is not repeated in the error: secrets
            "-c",
            f"fsync={'on' if sync else 'off'}",
            "postgres",
        ],
        stdin="".join(f"{statement}\n" for statement in statements),
        timeout_s=INITDB_TIMEOUT_S,
    )
    unfinished.rename(data)


def check(data: Path, binaries: Binaries, account: Account) -> None:
    """Refuse a cluster of another major version or another user.

    Raises:
        WrongMajorVersion: PG_VERSION is not the binaries' major version.
        PostgresForbidden: the directory belongs to another user than PostgreSQL would run as.
    """
    owner = data.stat().st_uid
    if owner != account.owner:
        raise PostgresForbidden(
            f"{data} belongs to uid {owner}, but PostgreSQL would run as uid {account.owner}. Start the "
            f"fleet as the user that made it, or set another SOCIALFLEET_STATE_DIR, {OWN_SERVER}."
        )
    made_by = (data / "PG_VERSION").read_text().strip()
    if made_by != str(binaries.major):
        raise WrongMajorVersion(
            f"{data} was made by PostgreSQL {made_by}; {binaries.directory} is {binaries.version}. Set "
            f"SOCIALFLEET_PG_BIN to the bin directory of a PostgreSQL {made_by}, or move the data over with "
            f"pg_dump, {OWN_SERVER}."
        )


def is_ready(data: Path, pid: int) -> bool:
    """Whether the server with this pid says in its pid file that it accepts connections."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) > READY_LINE and lines[0] == str(pid) and lines[READY_LINE].strip() == "ready"


def free(data: Path, run: Path, say: Callable[[str], None]) -> None:
    """Stop whatever still works in `data`, then remove the lock files that it left.

    PostgreSQL trusts the pid in such a file as long as any process of its user has it. Here the processes
    themselves are asked where they work, so a pid that went to another program is no hindrance, and a
    killed server's last children are waited for.

    Raises:
        PostgresFailed: something there can't be ended.
    """
    pid_file = data / "postmaster.pid"
    for signum, patience_s in STEPS:
        left = _working_in(data)
        if not left:
            break
        say(f"a PostgreSQL of an earlier run still works in {data}: stopping it ({signum.name})")
        for process in left:
            # Only the postmaster shuts down on SIGINT; its orphans end by themselves.
            if signum is not signal.SIGINT or _is_postmaster(process, pid_file):
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signum)
        _wait_until_free(data, patience_s)
    if left := _working_in(data):
        raise PostgresFailed(
            f"Processes {', '.join(str(process.pid) for process in left)} still work in {data}: end them, "
            "then start again."
        )
    pid_file.unlink(missing_ok=True)
    for stale in run.glob(".s.PGSQL.*"):
        stale.unlink()


def _working_in(data: Path) -> list[psutil.Process]:
    """Every PostgreSQL process with this data directory: all of them make it their working directory."""
    found: list[psutil.Process] = []
    cluster = str(data.resolve())
    for process in psutil.process_iter():
        try:
            if process.name() == "postgres" and process.cwd() == cluster:
                found.append(process)
        except psutil.Error:
            continue  # gone, or another user's, who could not work in a private directory
    return found


def _wait_until_free(data: Path, patience_s: float) -> None:
    """Wait until nobody works in `data`, but not longer than `patience_s`."""
    deadline = time.monotonic() + patience_s
    # Asked anew each time: a zombie that nobody reaps works no more, but psutil would wait for it.
    while (left := _working_in(data)) and time.monotonic() < deadline:
        psutil.wait_procs(left, timeout=POLL_S)


def _is_postmaster(process: psutil.Process, pid_file: Path) -> bool:
    """Whether the pid file names this process."""
    try:
        return pid_file.read_text().splitlines()[0] == str(process.pid)
    except (FileNotFoundError, IndexError):
        return False
