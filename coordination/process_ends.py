"""Process ends: the proof that a process is dead, recorded by the one that reaped it."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from coordination.database import Database, Json
from coordination.errors import FleetError
from coordination.plain import plain


@dataclass(frozen=True, kw_only=True)
class EndedProcess:
    """One process's end, as its host tells it.

    Attributes:
        worker: None for a process that is no worker's.
        exit_code: negative for a signal; None where nobody reaped it.
        how: in words, such as "killed by SIGKILL" or "gone when the manager came back".
        ago_s: how long ago.
    """

    worker: str | None
    slot: int | None
    pid: int
    pid_started: str
    boot_id: str
    pid_namespace: str
    exit_code: int | None
    how: str
    ago_s: float


def record_process_ends(database: Database, host: str, ends: Sequence[EndedProcess]) -> int:
    """Keep them, and close the lives that they prove dead; give how many of these. Flushed."""
    told = Json(plain([asdict(end) for end in ends]))
    return int(database.call("record_process_ends", host=host, ends=told) or 0)


def wake_heirs(database: Database) -> None:
    """Wake who takes jobs of the kinds that the dead still hold: one round trip, once their ends are kept.

    Never raises: the ends are kept, and a lost wake-up costs a poll.
    """
    with suppress(FleetError):
        database.call("wake_heirs")


def list_process_ends(database: Database, *, worker: str | None = None, n: int = 50) -> list[dict[str, Any]]:
    """Give the newest ends."""
    return database.rows("list_process_ends", worker=worker, n=n)
