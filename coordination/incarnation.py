"""Incarnations: one life of one process, held by a session advisory lock on a connection of its own."""

import os
import platform
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from coordination.database import Database
from coordination.errors import DatabaseUnavailableError, PoolerInBetweenError
from coordination.sleeping import Sleep

WAKE_CHANNEL = "fleet_wake"


@dataclass(frozen=True, kw_only=True)
class ProcessIdentity:
    """What tells one process from every other, also after its pid is used again.

    Attributes:
        host: the host's name.
        pid: process id in its own namespace.
        pid_started: the process's start time in ticks since boot (Linux), else in seconds since 1970.
        boot_id: changes with every boot; empty where unknown.
        pid_namespace: the namespace's inode; empty where unknown.
    """

    host: str
    pid: int
    pid_started: str
    boot_id: str
    pid_namespace: str

    @classmethod
    def of_this_process(cls, host: str | None = None) -> Self:
        """Read it from /proc, as far as there is one; `host` is the node's own name where it is not given."""
        stat = _read("/proc/self/stat")
        started = stat.rpartition(")")[2].split()[19] if stat else _creation_time()
        try:
            namespace = str(Path("/proc/self/ns/pid").stat().st_ino)
        except OSError:
            namespace = ""
        return cls(
            host=host or platform.node() or "localhost",
            pid=os.getpid(),
            pid_started=started,
            boot_id=_read("/proc/sys/kernel/random/boot_id"),
            pid_namespace=namespace,
        )


def _creation_time() -> str:
    import psutil  # noqa: PLC0415  only where there is no /proc, and it is not small

    return str(psutil.Process().create_time())


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8").strip()
    except OSError:
        return ""


class Incarnation:
    """A life: registered when opened, suspected the moment its connection is lost, never opened twice.

    Everything on this connection (beats, wake-ups) belongs to one thread. The id and the fact of being
    open may be read from any.
    """

    def __init__(
        self, dsn: str, *, worker: str, slot: int = 1, host: str | None = None, listens: bool = True
    ) -> None:
        self.id = uuid.uuid4()
        self.worker = worker
        self.slot = slot
        self.database = Database(dsn, name=f"{worker}/{slot} incarnation", reconnect=False)
        self.sleep = Sleep(self.database, self.id)
        self._host = host
        self._listens = listens

    def open(self) -> None:
        """Take the lock, then publish the id: the login and two calls, three where it listens, once a life.

        Raises:
            PoolerInBetweenError: the connection is not a session of its own.
            DatabaseUnavailableError: no connection.
        """
        self.database.open()
        told = self.database.told_pid()
        # Two transactions, of which the second is needed anyway: a busy pooler may pass the first.
        if self.database.seen_pid() != told:
            self.database.close()
            raise PoolerInBetweenError(PoolerInBetweenError.WHAT_TO_DO)
        who = ProcessIdentity.of_this_process(self._host)
        opened = self.database.call(
            "open_incarnation",
            incarnation=self.id,
            worker=self.worker,
            slot=self.slot,
            host=who.host,
            pid=who.pid,
            pid_started=who.pid_started,
            boot_id=who.boot_id,
            pid_namespace=who.pid_namespace,
        )
        if opened["backend_pid"] != told:
            self.close("a pooler is in between")
            raise PoolerInBetweenError(PoolerInBetweenError.WHAT_TO_DO)
        if self._listens:
            self.database.listen(WAKE_CHANNEL)

    def fileno(self) -> int:
        """The connection's socket: readable when somebody is woken, or this life is over."""
        return self.database.fileno()

    def wake_ups(self, timeout_s: float) -> Iterator[str]:
        """Give the names of workers woken within `timeout_s`; a lost wake-up costs a poll, nothing more."""
        return self.sleep.others(self.database.notifications(timeout_s))

    def close(self, reason: str) -> None:
        """End this life in good order; safe when the connection is gone already."""
        try:
            self.database.call("close_incarnation", incarnation=self.id, reason=reason)
        except DatabaseUnavailableError:
            pass  # the lock went with the connection: this life is over already
        finally:
            self.database.close()
