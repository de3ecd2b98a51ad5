"""The embedded PostgreSQL: one server in the state directory, a child of the process that starts it.

It needs no installed service, no root and no network: scram over a unix socket and loopback TCP. It
survives a kill of everything at any moment and starts again. The errors are in `host.postgres_errors`.
"""

import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO
from urllib.parse import quote, urlencode

from host import postgres_cluster as cluster
from host import postgres_settings as settings
from host.postgres_account import Account, failure
from host.postgres_binaries import Binaries, find_binaries
from host.postgres_errors import (
    PasswordLost,
    PostgresDiskFull,
    PostgresError,
    PostgresFailed,
    PostgresNotFound,
    disk_full,
    from_os_error,
)
from host.postgres_places import Places

__all__ = [
    "Binaries",
    "EmbeddedPostgres",
    "PostgresError",
    "PostgresNotFound",
    "erase",
    "find_binaries",
]

START_TIMEOUT_S = 120.0  # recovery after a crash may take its time
IMMEDIATE_TIMEOUT_S = 5.0
POLL_S = 0.05
PORT_ATTEMPTS = 5
PASSWORD_BYTES = 24


class EmbeddedPostgres:
    """The PostgreSQL server of one state directory.

    Making the object does nothing. Facts that `start` once kept in the state directory (DSNs, port) can be
    read by any process of the same user. Start it from the main thread: the server's life hangs on the
    thread that started it (see `host.lifeline`).
    """

    def __init__(
        self,
        state_dir: Path,
        binaries: Binaries,
        say: Callable[[str], None],
        *,
        options: Mapping[str, str] | None = None,
    ) -> None:
        """Name the parts.

        Args:
            state_dir: the fleet's state directory.
            binaries: what `find_binaries` gave.
            say: takes a line about each thing that is done.
            options: settings of postgresql.conf over the fleet's own, such as `fsync: off` in a test.
        """
        self._binaries = binaries
        self._say = say
        self._options = dict(options or {})
        self._account = Account.for_this_process()
        self._places = Places(state_dir, self._account)
        self._lock: IO[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        """The server's first process, the postmaster; None before start and after stop."""
        return self._process

    @property
    def pid(self) -> int | None:
        """The postmaster's pid; None before start and after stop."""
        return self._process.pid if self._process else None

    @property
    def data(self) -> Path:
        """The cluster's data directory."""
        return self._places.data

    @property
    def log(self) -> Path:
        """The server's log."""
        return self._places.log

    @property
    def port(self) -> int:
        """The port, on loopback and in the socket's name, of this or the last start."""
        return int((self._places.keep / "port").read_text())

    @property
    def migrator_dsn(self) -> str:
        """The fleet's database as the role that owns it."""
        return self.dsn(cluster.MIGRATOR, cluster.DATABASE)

    @property
    def superuser_dsn(self) -> str:
        """The maintenance database as the superuser."""
        return self.dsn(cluster.SUPERUSER, "postgres")

    def dsn(self, role: str, database: str) -> str:
        """A database's URL over the unix socket, as a role whose password is kept here.

        Raises:
            FileNotFoundError: nothing was started in this state directory yet.
        """
        password = (self._places.keep / f"{role}.password").read_text().strip()
        where = urlencode({"host": self._places.run, "port": self.port}, safe="/", quote_via=quote)
        return f"postgresql://{role}:{password}@/{quote(database, safe='')}?{where}"

    def poll(self) -> int | None:
        """The postmaster's exit code when it ended by itself; None while it runs or before start."""
        return self._process.poll() if self._process else None

    def start(self) -> None:
        """Start the server and return when it accepts connections; does nothing while it runs.

        The first start makes the cluster. Every start first ends what a killed one left.

        Raises:
            PostgresError: one of the tree in `host.postgres_errors`; nothing runs then.
        """
        if self._process and self._process.poll() is None:
            return
        self._process = None
        try:
            self._process = self._start()
        except PostgresDiskFull as error:
            raise disk_full(self._places.home) from error  # a program names only itself
        except OSError as error:
            raise from_os_error(error, self._places.state_dir) from error
        finally:
            if self._process is None:
                self._release()

    def stop(self, timeout_s: float = 10.0, *, immediate: bool = False) -> None:
        """Stop the server; does nothing when it doesn't run.

        Args:
            timeout_s: how long a fast shutdown (clients are cut off, data is written) may take before an
                immediate one (the next start recovers).
            immediate: leave out the fast one.
        """
        process, self._process = self._process, None
        if process:
            steps = [(signal.SIGQUIT, IMMEDIATE_TIMEOUT_S), (signal.SIGKILL, IMMEDIATE_TIMEOUT_S)]
            for signum, patience_s in [*([] if immediate else [(signal.SIGINT, timeout_s)]), *steps]:
                process.send_signal(signum)
                if _ends_within(process, patience_s):
                    break
        self._release()

    def _start(self) -> subprocess.Popen[bytes]:
        places = self._places
        places.make_keep()
        self._lock = self._lock or places.lock()
        places.make(self._say)
        cluster.free(places.data, places.run, self._say)
        binaries = self._binaries.usable_by(self._account, places.home)
        if not places.data.exists():
            self._say(f"making a PostgreSQL {binaries.version} cluster in {places.data}")
            passwords = {role: self._password(role) for role in (cluster.SUPERUSER, cluster.MIGRATOR)}
            sync = self._options.get("fsync") != "off"
            cluster.initialise(places.data, binaries, self._account, passwords, sync=sync)
        cluster.check(places.data, binaries, self._account)
        self._check_passwords()
        self._say(f"starting PostgreSQL {binaries.version} ({binaries.source})")
        for _ in range(PORT_ATTEMPTS):
            settings.write(places, self._choose_port(), self._options)
            if process := self._launch(binaries):
                return process
        raise PostgresFailed(f"{PORT_ATTEMPTS} ports in a row were taken by other programs. Try again.")

    def _password(self, role: str) -> str:
        return self._places.kept(f"{role}.password", lambda: secrets.token_urlsafe(PASSWORD_BYTES))

    def _check_passwords(self) -> None:
        for role in (cluster.SUPERUSER, cluster.MIGRATOR):
            file = self._places.keep / f"{role}.password"
            if not file.is_file():
                raise PasswordLost(
                    f"{file} is missing, and {self._places.data} can't be used without it. Restore it, or "
                    "move the cluster away to begin with an empty one."
                )

    def _choose_port(self) -> int:
        """The kept port while it is free, else a new one."""
        kept = int(self._places.kept("port", lambda: str(settings.free_port())))
        if settings.is_free(kept):
            return kept
        port = settings.free_port()
        self._say(f"port {kept} is taken by another program: PostgreSQL listens on {port} now")
        self._places.put("port", str(port))
        return port

    def _launch(self, binaries: Binaries) -> subprocess.Popen[bytes] | None:
        """Start the postmaster and wait for its word; None when its port was taken meanwhile."""
        places = self._places
        with places.open_log() as log:
            said_from = log.tell()
            process = self._account.spawn(
                [
                    binaries.program("postgres"),
                    "-D",
                    str(places.data),
                    "-c",
                    f"config_file={places.home / 'postgresql.conf'}",
                ],
                on_orphaned=signal.SIGINT,  # a fast shutdown, not a crash
                stdin=subprocess.DEVNULL,
                stdout=log,
            )
        try:
            return process if self._becomes_ready(process, said_from) else None
        except BaseException:
            self._process = process
            self.stop(immediate=True)
            raise

    def _becomes_ready(self, process: subprocess.Popen[bytes], said_from: int) -> bool:
        """Wait for the server's word; False when it ended because its port is taken."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not cluster.is_ready(self.data, process.pid):
            if _ends_within(process, POLL_S):
                if not settings.is_free(self.port):
                    return False
                raise failure(f"PostgreSQL did not start (log: {self.log})", self._said(said_from))
            if time.monotonic() > deadline:
                raise PostgresFailed(
                    f"PostgreSQL was not ready after {START_TIMEOUT_S:g} s. See {self.log}, then try again."
                )
        return True

    def _said(self, offset: int) -> str:
        """What the server logged since `offset`."""
        with self._places.log.open("rb") as log:
            log.seek(offset)
            return log.read().decode(errors="replace")

    def _release(self) -> None:
        if self._lock:
            self._lock.close()
            self._lock = None


def erase(state_dir: Path) -> None:
    """Remove a state directory's cluster, passwords and binaries, wherever they are; keep the log.

    Raises:
        PostgresBusy: a living process runs it.
    """
    places = Places(state_dir, Account.for_this_process())
    if places.keep.is_dir():
        with places.lock():
            places.erase()


def _ends_within(process: subprocess.Popen[bytes], patience_s: float) -> bool:
    """Wait for a process's end, but not longer than `patience_s`."""
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        return False
    return True
