"""Where an embedded PostgreSQL keeps its things, and which of them whose account may enter.

STATE/logs/postgresql.log   the server's log
STATE/postgres/             passwords, port, lock: this process's own
HOME/                       what PostgreSQL's account must reach; usually STATE/postgres itself
    data/                   the cluster
    run/                    the unix socket (under /tmp where this path is too long for one)
    postgresql.conf, pg_hba.conf, binaries-*/
"""

import fcntl
import hashlib
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

from host.postgres_account import Account
from host.postgres_errors import OWN_SERVER, BadStateDir, PostgresBusy, PostgresForbidden

ELSEWHERE = Path("/var/lib/socialfleet")
HOME_NAME = re.compile(r"[0-9a-f]{12}")
SOCKET_ROOT = Path("/tmp")  # noqa: S108  a private directory in it; $TMPDIR may be as long as what it replaces
SOCKET_PATH_BYTES = 107  # sun_path of unix(7) without its final NUL
LONGEST_SOCKET_NAME = ".s.PGSQL.65535"
READ_BY_SHELLS = '"$`\\\n'  # initdb gives paths in double quotes to a shell
LOG_BYTES = 20 * 1024 * 1024


class Places:
    """The directories of one state directory's PostgreSQL; nothing is made before it is needed."""

    def __init__(self, state_dir: Path, account: Account) -> None:
        self.state_dir = state_dir.absolute()
        self.keep = self.state_dir / "postgres"
        self._account = account

    @property
    def home(self) -> Path:
        """What PostgreSQL's account must reach: STATE/postgres, or the place chosen for it elsewhere."""
        name = self.keep / "home"
        if not name.is_file():
            return self.keep
        # Root removes what this names, so it may only name what was made here.
        if not HOME_NAME.fullmatch(token := name.read_text().strip()):
            raise PostgresForbidden(f"{name} is '{token}': it must be 12 hexadecimal digits. Remove it.")
        return ELSEWHERE / token

    @property
    def data(self) -> Path:
        """The cluster's data directory."""
        return self.home / "data"

    @property
    def run(self) -> Path:
        """The socket's directory, short enough for every port's socket name."""
        run = self.home / "run"
        fits = len(os.fsencode(run / LONGEST_SOCKET_NAME)) <= SOCKET_PATH_BYTES
        if fits and "," not in str(run):  # clients take a comma for the beginning of another host
            return run
        return SOCKET_ROOT / f"socialfleet-{hashlib.sha256(os.fsencode(run)).hexdigest()[:12]}"

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.state_dir / "logs" / "postgresql.log"

    def make_keep(self) -> None:
        """Make the state directory's own parts; its parents' modes stay as they are.

        Raises:
            BadStateDir: its path has a character that a shell would read.
        """
        if any(character in str(self.state_dir) for character in READ_BY_SHELLS):
            raise BadStateDir(
                f"SOCIALFLEET_STATE_DIR is '{self.state_dir}': PostgreSQL's programs can't handle a path "
                'with ", $, `, \\ or a line break in it. Choose another one.'
            )
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if not self.keep.is_dir():
            self.keep.mkdir()
            self.keep.chmod(0o711 if self._account.uid else 0o700)

    def make(self, say: Callable[[str], None]) -> None:
        """Make what PostgreSQL's account needs, and choose HOME where PostgreSQL's account can't enter STATE.

        No existing directory's mode is changed.

        Raises:
            PostgresForbidden: the cluster is in a directory that its account can't enter any more, or the
                socket's directory is someone else's.
        """
        if not self._account.can_enter(self.home):
            if self.data.exists():
                raise PostgresForbidden(
                    f"{self.data} holds the cluster, but uid {self._account.owner} can't enter {self.home}. "
                    "Start the fleet as the user that made it, or let others enter its parent directories "
                    f"again (chmod o+x), {OWN_SERVER}."
                )
            self._choose_elsewhere(say)
        self._make_run()

    def kept(self, name: str, make: Callable[[], str]) -> str:
        """Read a kept fact, or make and keep it, readable by this process's user only."""
        with suppress(FileNotFoundError):
            return (self.keep / name).read_text().strip()
        value = make()
        self.put(name, value)
        return value

    def put(self, name: str, value: str) -> None:
        """Keep a fact, whole or not at all, readable by this process's user only."""
        write_whole(self.keep / name, value, mode=0o600)

    def lock(self) -> IO[str]:
        """Hold this PostgreSQL for this process, until the file is closed or the process ends.

        A record lock (fcntl), because a forked worker must not inherit it and outlive the manager with it.

        Raises:
            PostgresBusy: another living process holds it.
        """
        file = (self.keep / "lock").open("a+")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            holder = file.read().strip() or "unknown"
            file.close()
            raise PostgresBusy(
                f"Process {holder} already runs the PostgreSQL of {self.state_dir}. Stop that fleet first, "
                "or give this one another SOCIALFLEET_STATE_DIR."
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        return file

    def open_log(self) -> IO[bytes]:
        """Open the log for appending; a long one is kept aside as postgresql.log.1 first."""
        with suppress(FileNotFoundError):
            if self.log.stat().st_size > LOG_BYTES:
                self.log.replace(self.log.with_name("postgresql.log.1"))
        return self.log.open("ab")

    def erase(self) -> None:
        """Remove everything of this PostgreSQL but its log."""
        for directory in (self.run, self.home, self.keep):
            with suppress(FileNotFoundError):
                shutil.rmtree(directory)
        with suppress(OSError):  # not there, or other fleets' homes are in it
            ELSEWHERE.rmdir()

    def _choose_elsewhere(self, say: Callable[[str], None]) -> None:
        """Let HOME be a fresh directory that everyone may pass through, and remember it."""
        # Random, not the path's hash: a new state directory at an old path must not meet the old cluster.
        home = ELSEWHERE / secrets.token_hex(6)
        for directory in (ELSEWHERE, home):
            if not directory.is_dir():
                directory.mkdir(parents=True)
                directory.chmod(0o711)
        if not self._account.can_enter(home):
            raise PostgresForbidden(
                f"uid {self._account.uid}, which PostgreSQL runs as, enters neither {self.keep} nor {home}. "
                f"Set SOCIALFLEET_STATE_DIR to a directory that everyone may enter, {OWN_SERVER}."
            )
        self.put("home", home.name)
        say(f"uid {self._account.uid} can't enter {self.keep}: PostgreSQL's data is in {home}")

    def _make_run(self) -> None:
        """Make the socket's directory; an existing one must be private to PostgreSQL's account."""
        run = self.run
        with suppress(FileExistsError):
            run.mkdir(mode=0o700)
        if run.lstat().st_uid == os.geteuid():  # new, or one whose maker was killed just here
            self._account.give(run)
        found = run.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != self._account.owner or found.st_mode & 0o077:
            raise PostgresForbidden(
                f"{run}, for PostgreSQL's socket, must be a directory with mode 0700 of uid "
                f"{self._account.owner}; remove what is there."
            )


def write_whole(path: Path, text: str, *, mode: int) -> None:
    """Write a file that appears whole or not at all."""
    descriptor, partial = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
