"""The snapshot: how the slots of this host are, in a file, for when the database can't be asked.

It is also what a manager process that follows a killed one goes on from: counts, and what should run.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from coordination.desired import Limits, WantedSlot
from host.orders import SlotState
from host.postgres_places import write_whole
from host.slots.process import AT_WORK, WorkerProcess
from host.slots.slot import Slot
from host.state_directory import SNAPSHOT

EVERY_S = 5.0
WITHIN_S = 0.5
"""A change is written so soon; many changes together are one writing."""


class Snapshot:
    """The file; times are on the slots' clock, in monotonic seconds, and wall time in the file."""

    def __init__(self, state: Path) -> None:
        self._file = state / SNAPSHOT
        self._written_at = float("-inf")
        self._written = -1

    def write_if_due(
        self, slots: Iterable[Slot], *, changes: int, now: float, stale_since: datetime | None
    ) -> None:
        """Write it when something changed, and every 5 s. A disk that refuses it loses only this."""
        age_s = now - self._written_at
        if age_s < (EVERY_S if changes == self._written else WITHIN_S):
            return
        self._written, self._written_at = changes, now
        text = json.dumps(as_json(slots, now=now, stale_since=stale_since), ensure_ascii=False)
        try:
            write_whole(self._file, text, mode=0o600)
        except OSError:
            return

    def resume(self, make: Callable[[str, int], Slot], now: float) -> None:
        """Give each slot of the last snapshot back through `make(worker, slot)`; nothing without one."""
        for item in self._items():
            with suppress(KeyError, TypeError, ValueError):  # of another version: that slot begins anew
                kept: dict[str, Any] = dict(item["carried"])
                limits, is_loop = Limits(**kept.pop("limits")), bool(kept.pop("is_loop"))
                leaving = kept.pop("leaving", None)
                age_s = (datetime.now(UTC) - datetime.fromisoformat(item["since"])).total_seconds()
                slot = make(str(item["name"]), int(item["slot"]))
                told = SlotState(
                    worker=slot.worker,
                    slot=slot.slot,
                    state=str(item["state"]),
                    reason=str(item["reason"]),
                    since=now - max(0.0, age_s),
                    pid=item["pid"],
                    restart_count=int(item["restartCount"]),
                    failures=int(item["failures"]),
                )
                wanted = WantedSlot(worker=slot.worker, slot=slot.slot, limits=limits, **kept)
                slot.resume(wanted, told, is_loop=is_loop, leaving=leaving)

    def _items(self) -> Iterable[dict[str, Any]]:
        try:
            return list(json.loads(self._file.read_text("utf-8"))["slots"])
        except (OSError, ValueError, KeyError, TypeError):
            return []


def as_json(slots: Iterable[Slot], *, now: float, stale_since: datetime | None) -> dict[str, Any]:
    """The snapshot's text as JSON has it."""
    at = datetime.now(UTC)
    return {
        "at": at.isoformat(),
        "database": "up" if stale_since is None else "away",
        "stale_since": stale_since.isoformat() if stale_since else None,
        "slots": [item(slot, now=now, at=at) for slot in slots],
    }


def item(slot: Slot, *, now: float, at: datetime) -> Mapping[str, Any]:
    """One slot by this host's own sight, under the names of `SlotStatus.as_json`."""
    told, process = slot.snapshot(), slot.process
    word = process.word if process else None
    wanted = asdict(slot.wanted)
    return {
        "name": slot.worker,
        "slot": slot.slot,
        "state": told.state,
        "reason": told.reason,
        "since": (at - timedelta(seconds=max(0.0, now - told.since))).isoformat(),
        "pid": told.pid,
        "enabled": slot.wanted.runs,
        "healthy": slot.is_idle
        if not slot.wanted.runs
        else told.state in AT_WORK and bool(word and word.healthy),
        "restartCount": told.restart_count,
        "failures": told.failures,
        "step": told.step,
        "incarnation": told.incarnation,
        "memoryBytes": told.memory_bytes,
        "cpuPercent": told.cpu_percent,
        "beatAgeSeconds": round(now - process.heard_at, 1) if process else None,
        "carried": {key: wanted[key] for key in ("runs", "paused", "reason", "singleton", "limits")}
        | {"is_loop": slot.failures.is_loop, "leaving": _leaving(process)},
    }


def _leaving(process: WorkerProcess | None) -> str | None:
    """Why it was told to end; None where it wasn't, or where its end is a failure."""
    leaving = process.leaving if process else None
    return None if leaving is None or leaving.counts else leaving.reason
