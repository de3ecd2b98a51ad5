"""Status: each slot as the page, the CLI and the metrics show it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from coordination.database import Database

BEAT_LATE_S = 20.0
"""Four missed beats: from then on a slot is not healthy, whatever it last said."""


@dataclass(frozen=True, kw_only=True)
class SlotStatus:
    """One slot of one worker.

    Attributes:
        host: where it runs, or still drains; None where no host has it.
        assigned: whether a host has it.
        state: STARTING READY BUSY PAUSED DRAINING BACKOFF STALLED CRASH_LOOP STOPPED LOST.
        reason: why it is in this state; of one that nobody runs, why no host admits it.
        healthy: it runs, beats, and its own health check says so; a stopped one that should be is healthy.
        failures: how often it failed lately; cleared after a stable time.
        cpu_percent: of one CPU.
        last_run_at: end of the last step, real time.
        error_rate: share of failed steps among the last 100, 0 to 1.
    """

    name: str
    slot: int
    host: str | None
    assigned: bool
    description: str
    enabled: bool
    healthy: bool
    state: str
    reason: str
    since: datetime | None
    pid: int | None
    restart_count: int
    failures: int
    step: str | None
    memory_bytes: int | None
    cpu_percent: float | None
    beat_age_s: float | None
    last_run_at: datetime | None
    last_outcome: str | None
    error_rate: float
    items_per_minute: float | None
    last_error: str | None
    health: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """The item of `GET /api/workers/status` and `socialfleet status --json`."""
        return {
            "name": self.name,
            "healthy": self.healthy,
            "enabled": self.enabled,
            "lastRun": self.last_run_at.isoformat() if self.last_run_at else None,
            "errorRate": round(self.error_rate, 4),
            "restartCount": self.restart_count,
            "slot": self.slot,
            "host": self.host,
            "assigned": self.assigned,
            "pid": self.pid,
            "state": self.state,
            "reason": self.reason,
            "since": self.since.isoformat() if self.since else None,
            "step": self.step,
            "beatAgeSeconds": None if self.beat_age_s is None else round(self.beat_age_s, 1),
            "memoryBytes": self.memory_bytes,
            "cpuPercent": None if self.cpu_percent is None else round(self.cpu_percent, 1),
            "failures": self.failures,
            "itemsPerMinute": self.items_per_minute,
            "lastOutcome": self.last_outcome,
            "lastError": self.last_error,
            "health": self.health,
            "description": self.description,
        }


def list_slots(database: Database) -> list[SlotStatus]:
    """Every slot that runs or should, by name. One round trip; needs a role that reads tables."""
    return [_slot(row) for row in database.rows("list_worker_status")]


def _slot(row: dict[str, Any]) -> SlotStatus:
    runs = row["state"] in {"READY", "BUSY", "PAUSED"}
    beats = row["beat_age_s"] is not None and row["beat_age_s"] < BEAT_LATE_S
    stopped_on_purpose = row["state"] == "STOPPED" and not row["enabled"]
    known = {name: row[name] for name in SlotStatus.__dataclass_fields__ if name in row}
    known["healthy"] = stopped_on_purpose or bool(runs and beats and row["heartbeat_healthy"])
    known["reason"] = row["reason"] or ""
    known["health"] = row["health"] or {}
    return SlotStatus(**known)
