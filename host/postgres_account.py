"""The account that PostgreSQL's programs run as: oneself, or the unprivileged one when started as root."""

import os
import pwd
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from host.lifeline import bound_to_parent
from host.postgres_errors import (
    NO_SPACE,
    OWN_SERVER,
    PostgresError,
    PostgresFailed,
    PostgresForbidden,
    disk_full,
)

UNPRIVILEGED = 65534  # `nobody` on Linux
TAIL_LINES = 6

# Nothing of the caller's: PG* and LC_* variables would change what the programs do.
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LC_ALL": "C.UTF-8",
    "HOME": "/",
    # glibc gives the heap's end back to the kernel from 128 kB on, and the next call of a function faults it
    # in again: up to 40 us of a call that takes 100 (docs/adr/0051).
    "MALLOC_TRIM_THRESHOLD_": "1048576",
}


@dataclass(frozen=True, kw_only=True)
class Account:
    """Who runs PostgreSQL.

    Attributes:
        uid: the user and group id to change to; None to stay oneself.
    """

    uid: int | None

    @classmethod
    def for_this_process(cls) -> "Account":
        """Oneself, or the unprivileged account for root, as which PostgreSQL refuses to run."""
        return cls(uid=UNPRIVILEGED if os.geteuid() == 0 else None)

    @property
    def owner(self) -> int:
        """The uid that the account's files belong to."""
        return os.geteuid() if self.uid is None else self.uid

    def check_name(self) -> None:
        """Refuse a uid without a name: PostgreSQL's initdb looks it up and has no way around it.

        Raises:
            PostgresForbidden: as in a container that runs under a bare uid.
        """
        try:
            pwd.getpwuid(self.owner)
        except KeyError:
            raise PostgresForbidden(
                f"uid {self.owner}, which PostgreSQL would run as, has no name here, and initdb wants one. "
                f"Add a line such as 'fleet:x:{self.owner}:{self.owner}::/:/bin/false' to /etc/passwd, "
                f"{OWN_SERVER}."
            ) from None

    def give(self, path: Path) -> None:
        """Make a new file or directory the account's."""
        if self.uid is not None:
            os.chown(path, self.uid, self.uid, follow_symlinks=False)

    def can_enter(self, directory: Path) -> bool:
        """Whether the account can enter the directory; asked of the kernel, not reckoned from modes."""
        if self.uid is None:
            return os.access(directory, os.X_OK)
        try:
            self.run(["/bin/sh", "-c", 'cd -- "$1"', "sh", str(directory)], timeout_s=10)
        except PostgresFailed:
            return False
        return True

    def spawn(
        self, argv: Sequence[str], *, on_orphaned: int, stdin: int, stdout: int | IO[bytes]
    ) -> subprocess.Popen[bytes]:
        """Start a program as the account, in its own session, with both outputs in one place.

        Args:
            argv: the program and its arguments; no secrets, every user can read them.
            on_orphaned: the signal that it receives when this process dies.
            stdin: a descriptor or one of subprocess's constants.
            stdout: the same, or a file.
        """
        return subprocess.Popen(  # noqa: S603  argv is ours, without a shell
            argv,
            cwd="/",  # the caller's directory may be closed to the account
            env=ENVIRONMENT,
            user=self.uid,
            group=self.uid,
            extra_groups=None if self.uid is None else [],
            start_new_session=True,  # a terminal's Ctrl-C is for the fleet, which then stops this in order
            preexec_fn=bound_to_parent(on_orphaned),  # noqa: PLW1509  it does two system calls
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.STDOUT,
        )

    def run(self, argv: Sequence[str], *, stdin: str = "", timeout_s: float) -> str:
        """Run a program to its end and give what it printed.

        Raises:
            PostgresFailed: it ended with an error or took longer than `timeout_s`; with its last lines.
            PostgresDiskFull: its last lines say so.
        """
        process = self.spawn(argv, on_orphaned=signal.SIGKILL, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        with process:
            try:
                output = process.communicate(stdin.encode(), timeout_s)[0].decode(errors="replace")
            except subprocess.TimeoutExpired:
                process.kill()
                raise PostgresFailed(f"{argv[0]} took longer than {timeout_s:g} s. Try again.") from None
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            raise failure(f"{argv[0]} ended with {process.returncode}", output)
        return output


def failure(what: str, output: str) -> PostgresError:
    """The error for a program that failed, by its last lines."""
    if NO_SPACE in output:
        return disk_full(what)
    tail = "\n".join(f"    {line}" for line in output.strip().splitlines()[-TAIL_LINES:])
    return PostgresFailed(f"{what}. It said:\n{tail}" if tail else f"{what}.")
