"""What can go wrong with the embedded PostgreSQL; every text ends in what to do next.

PostgresError
├── PostgresNotFound        no usable binaries anywhere
│   └── BadPgBin            SOCIALFLEET_PG_BIN names a directory that can't be used
├── BadStateDir             a path that PostgreSQL's programs can't handle
├── PostgresBusy            another process runs this state directory's PostgreSQL
├── PostgresForbidden       a directory or a change of user is not permitted
├── PostgresDiskFull        no space (or quota) left
├── WrongMajorVersion       the data directory is of another major version than the binaries
├── PasswordLost            a cluster without the password file that belongs to it
└── PostgresFailed          a PostgreSQL program ended with an error, or never became ready
"""

import errno
from pathlib import Path

OWN_SERVER = "or set DATABASE_URL to a PostgreSQL server of your own (docs/howto/use-your-own-postgresql.md)"
NO_SPACE = "No space left on device"
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


class PostgresError(Exception):
    """The embedded PostgreSQL can't be used; the text says what to do."""


class PostgresNotFound(PostgresError):  # noqa: N818  it names a state
    """No PostgreSQL binaries that run on this machine."""


class BadPgBin(PostgresNotFound):
    """SOCIALFLEET_PG_BIN names a directory that can't be used."""


class BadStateDir(PostgresError):  # noqa: N818  it names a state
    """The state directory's path has characters that PostgreSQL's programs can't handle."""


class PostgresBusy(PostgresError):  # noqa: N818  it names a state
    """Another living process holds this state directory's PostgreSQL."""


class PostgresForbidden(PostgresError):  # noqa: N818  it names a state
    """The operating system doesn't permit what is needed."""


class PostgresDiskFull(PostgresError):  # noqa: N818  it names a state
    """The file system of the state directory is full."""


class WrongMajorVersion(PostgresError):  # noqa: N818  it names a state
    """The data directory was made by another major version."""


class PasswordLost(PostgresError):  # noqa: N818  it names a state
    """The cluster is there, a password file of it isn't."""


class PostgresFailed(PostgresError):  # noqa: N818  it names a state
    """A PostgreSQL program ended with an error or never became ready."""


def from_os_error(error: OSError, state_dir: Path) -> PostgresError:
    """Turn what the operating system refused into the error that says what to do about it."""
    where = error.filename or state_dir
    if error.errno in NO_ROOM:
        return disk_full(where)
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return PostgresForbidden(
            f"{where}: {error.strerror}. The state directory must be writable, on a file system that allows "
            "running programs; use one of your own (SOCIALFLEET_STATE_DIR), start the fleet as the user that "
            f"made it, {OWN_SERVER}."
        )
    return PostgresFailed(
        f"{where}: {error.strerror or error}. Check the state directory {state_dir}, {OWN_SERVER}."
    )


def disk_full(where: object) -> PostgresDiskFull:
    """Say where there is no room, and what to do."""
    return PostgresDiskFull(
        f"no space left on {where}: free some (PostgreSQL and a fresh cluster take 100 MB), or set "
        "SOCIALFLEET_STATE_DIR to a directory on another file system."
    )
