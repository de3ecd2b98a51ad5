"""Workers: what persons want of each: whether it runs, in how many slots, where, within which limits."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from coordination.database import Database


@dataclass(frozen=True, kw_only=True)
class DesiredWorker:
    """One worker as it should be.

    Attributes:
        enabled: whether a person lets it run; single slots of it may be stopped beside that.
        flag_enabled: whether its flag does; True where it has none.
        replicas: how many slots it has.
        placement: {} for any host, {"host": its name} or {"labels": {name: value}}.
        memory_limit_mb: of a process with its descendants; None for no limit.
        cpu_limit_percent: of one CPU over a minute; None for no limit.
        nice: the scheduling priority, 0 to 19.
        singleton: there may be one slot of it at most.
        changed_by: who changed any of it last, and `reason` why, `changed_at` when in fleet time.
    """

    name: str
    description: str
    enabled: bool
    flag_enabled: bool
    stopped_reason: str | None
    paused: bool
    paused_reason: str | None
    replicas: int
    placement: dict[str, Any]
    memory_limit_mb: int | None
    cpu_limit_percent: int | None
    nice: int
    singleton: bool
    roles: list[str]
    changed_by: str
    reason: str
    changed_at: datetime


def list_workers(database: Database) -> list[DesiredWorker]:
    """Every worker that the fleet knows, by name. One round trip; needs a role that reads tables."""
    return [DesiredWorker(**row) for row in database.rows("list_workers")]
