"""The state directory: where one fleet on this host keeps its connection strings, tokens, logs and lock.

StateError                 the directory can't serve; the text says what to do
|- StateUnusableError      it can't be made or written
|- FleetRunsError          a fleet runs on it already
`- NoFleetError            no fleet was started here yet
"""

import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Literal

from host.postgres_places import write_whole

Role = Literal["owner", "migrator", "worker", "console", "reader", "maintainer"]
ROLES: tuple[Role, ...] = ("owner", "migrator", "worker", "console", "reader", "maintainer")
TOKEN_BYTES = 32
MANAGER_SOCKET = "manager.sock"
SNAPSHOT = "status.json"
LOCAL_ORDERS = "local-orders.json"
# All that a fleet makes there; `erase` removes these and nothing else.
PARTS = (
    "dsn",
    "logs",
    "sandbox",
    "console.token",
    "sandbox.token",
    "account",
    "machine",
    "fence",
    MANAGER_SOCKET,
    SNAPSHOT,
    LOCAL_ORDERS,
    "black-boxes",
    "lock",
)


class StateError(Exception):
    """The state directory can't serve."""


class StateUnusableError(StateError):
    """It can't be made or written."""


class FleetRunsError(StateError):
    """A fleet runs on this state directory."""


class NoFleetError(StateError):
    """What a started fleet would have left here is not there."""


class StateDirectory:
    """One state directory; nothing is made before `make`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.logs = path / "logs"
        self.sandbox = path / "sandbox"

    def make(self) -> None:
        """Make it, and see that it can be written.

        Raises:
            StateUnusableError: names the variable and what to do.
        """
        try:
            if not self.path.is_dir():
                self.path.mkdir(parents=True)
                # Nobody else lists it; root's PostgreSQL runs as a user that must come through.
                self.path.chmod(0o711 if os.geteuid() == 0 else 0o700)
            with tempfile.TemporaryFile(dir=self.path):
                pass
            self._make_private(self.path / "dsn")
            self._make_private(self.logs)
            self._make_private(self.sandbox)
        except OSError as error:
            raise StateUnusableError(
                f"SOCIALFLEET_STATE_DIR is '{self.path}': it can't be written ({error.strerror}). Set "
                "SOCIALFLEET_STATE_DIR to a directory of your own."
            ) from None

    @contextmanager
    def locked(self) -> Generator[bool]:
        """Be the one fleet on this directory; says whether the last one ended without cleaning up.

        Raises:
            FleetRunsError: another process is.
        """
        file = (self.path / "lock").open("a+")
        with file:
            self._take(file)
            file.seek(0)
            crashed = bool(file.read().strip())
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield crashed
            file.truncate(0)

    @property
    def is_running(self) -> bool:
        """Whether a fleet runs on this directory now."""
        try:
            with (self.path / "lock").open("r+") as file:
                self._take(file)
        except FileNotFoundError:
            return False
        except FleetRunsError:
            return True
        return False

    def dsn_file(self, role: Role) -> Path:
        """Where a role's connection string is."""
        return self.path / "dsn" / role

    def dsn(self, role: Role) -> str:
        """A role's connection string.

        Raises:
            NoFleetError: none was written here, or it can't be read.
        """
        return self._read(self.dsn_file(role))

    @property
    def account(self) -> str:
        """The name of the account that this fleet acts for.

        Raises:
            NoFleetError: the fleet never came that far.
        """
        return self._read(self.path / "account")

    def put(self, name: str, value: str) -> None:
        """Keep a value in a file of the directory, whole or not at all, for this user only."""
        write_whole(self.path / name, f"{value}\n", mode=0o600)

    def ensure_token(self, name: Literal["console", "sandbox"]) -> None:
        """Make a bearer token unless it is there: 32 random bytes, URL-safe."""
        file = self.path / f"{name}.token"
        if not file.exists():
            self.put(file.name, secrets.token_urlsafe(TOKEN_BYTES))

    def erase(self) -> list[str]:
        """Remove what a fleet made here; give the names of what is left.

        Raises:
            FleetRunsError: a fleet runs there.
        """
        if not self.path.is_dir():
            return []
        if self.is_running:
            raise FleetRunsError(f"a fleet runs on {self.path}: stop it first (Ctrl-C where it runs)")
        for name in PARTS:
            part = self.path / name
            if part.is_dir() and not part.is_symlink():
                shutil.rmtree(part)
            else:
                part.unlink(missing_ok=True)
        with suppress(OSError):
            self.path.rmdir()
        return sorted(entry.name for entry in self.path.iterdir()) if self.path.is_dir() else []

    @staticmethod
    def _make_private(directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        directory.chmod(0o700)

    def _take(self, file: IO[str]) -> None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise FleetRunsError(
                f"a fleet runs on {self.path} already (process {holder}): stop that one, or give this one "
                "another SOCIALFLEET_STATE_DIR."
            ) from None

    def _read(self, file: Path) -> str:
        try:
            return file.read_text("utf-8").strip()
        except FileNotFoundError:
            raise NoFleetError(
                f"no fleet here yet ({file} is missing): run make up, or name another one's directory in "
                "SOCIALFLEET_STATE_DIR"
            ) from None
        except OSError as error:
            raise NoFleetError(
                f"{file} can't be read ({error.strerror}): be the user that started the fleet"
            ) from None
