"""Progress: what the work loop has done; it tells the pipe at once, the heartbeat reads it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Lock
from time import monotonic
from typing import Any, Final

from coordination.heartbeats import State
from workers.progress_pipe import ProgressPipe, Word

Changed = Callable[[], None]
TICK_S: Final = 0.2
"""Ticks alone are told no oftener than this."""
HELD_S: Final = 8.0
"""What a step holds is its own as long as its beats are asked, and answered, no further apart than this."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The loop's position; `ticks` rises with every sign of life."""

    state: State = "STARTING"
    reason: str = ""
    step: str | None = None
    ticks: int = 0
    items: int = 0
    item_errors: int = 0
    healthy: bool = True
    health: dict[str, object] | None = None
    incarnation: str | None = None
    stall_after_s: float = 120.0
    waits_for_database: bool = False
    answered_at_s: float | None = None

    def word(self) -> Word:
        """What the manager is told of it."""
        return Word(
            ticks=self.ticks,
            state=self.state,
            reason=self.reason,
            step=self.step,
            stall_after_s=self.stall_after_s,
            incarnation=self.incarnation,
            healthy=self.healthy,
            acting=self.state == "BUSY" and self.incarnation is not None,
            waits_for_database=self.waits_for_database,
            answered_at_s=self.answered_at_s,
        )


class Progress:
    """Written by the loop, read by the heartbeat's thread; outlives a life.

    Only what the loop does raises `ticks`: a thread that repeats the position vouches for nothing.

    Attributes:
        changed: called after a change of state, in the loop's thread; must not wait.
        ticked: called after a tick, in the loop's thread; what it raises goes to who ticked.
    """

    def __init__(self, pipe: ProgressPipe | None = None) -> None:
        self.changed: Changed | None = None
        self.ticked: Changed | None = None
        self._pipe = pipe
        self._lock = Lock()  # held for a write that never waits: words leave in the order of what they say
        self._snapshot = Snapshot()
        self._told_at = float("-inf")

    @property
    def snapshot(self) -> Snapshot:
        """The position now."""
        return self._snapshot

    def tick(self) -> None:
        """Show that the loop moves."""
        self._count(items=0, item_errors=0)
        if self.ticked is not None:
            self.ticked()

    def item_done(self) -> None:
        """Count an item."""
        self._count(items=1, item_errors=0)

    def item_failed(self) -> None:
        """Count an item that failed."""
        self._count(items=1, item_errors=1)

    def enter(self, state: State, *, reason: str = "", step: str | None = None) -> None:
        """Change the state; counts of items begin anew with a step."""
        with self._lock:
            counts = {"items": 0, "item_errors": 0} if step else {}
            ticks = self._snapshot.ticks + 1
            self._become(state=state, reason=reason, step=step, ticks=ticks, **counts)
        if self.changed is not None:
            self.changed()

    def begin_life(self, incarnation: str) -> None:
        """Keep the present life, in which nothing was done yet."""
        with self._lock:
            ticks = self._snapshot.ticks + 1
            self._become(incarnation=incarnation, reason="", ticks=ticks, waits_for_database=False)

    def lose_life(self, reason: str) -> None:
        """Say that there is none at present: nothing is done until the database answers."""
        with self._lock:
            self._become(
                state="STARTING",
                reason=reason,
                step=None,
                incarnation=None,
                ticks=self._snapshot.ticks + 1,
                waits_for_database=True,
                answered_at_s=None,
            )

    def allow(self, stall_after_s: float) -> None:
        """Keep the longest time without a tick that is no stall."""
        if stall_after_s != self._snapshot.stall_after_s:
            with self._lock:
                self._become(stall_after_s=stall_after_s)

    def checked(self, *, healthy: bool, reason: str, health: dict[str, object]) -> None:
        """Keep what a health check found; its reason shows where the state has none of its own."""
        with self._lock:
            details = {**health, "reason": reason} if reason else health
            self._become(healthy=healthy, health=details)

    def wait_for_database(self, *, waits: bool) -> None:
        """Keep whether the database answers. Tells nothing of the loop, so that any thread may."""
        if waits != self._snapshot.waits_for_database:
            with self._lock:
                self._become(waits_for_database=waits)

    def answered(self, asked_at_s: float) -> None:
        """Tell that the database answered a beat that was asked then, by CLOCK_BOOTTIME. Any thread may.

        Not within a step that was without an answer for too long: one that comes after all, such as to a
        process that was stopped and goes on, doesn't bring back what others were free to take meanwhile.
        """
        with self._lock:
            before = self._snapshot.answered_at_s
            is_held = before is not None and asked_at_s - before <= HELD_S
            is_kept = is_held or self._snapshot.state != "BUSY"
            self._become(answered_at_s=round(asked_at_s, 2) if is_kept else None)

    def repeat(self) -> None:
        """Tell the position once more: a word may have found the pipe full. Any thread may."""
        with self._lock:
            self._tell()

    def _become(self, **changes: Any) -> None:
        self._snapshot = replace(self._snapshot, **changes)
        self._tell()

    def _count(self, *, items: int, item_errors: int) -> None:
        with self._lock:
            before = self._snapshot
            self._snapshot = replace(
                before,
                items=before.items + items,
                item_errors=before.item_errors + item_errors,
                ticks=before.ticks + 1,
            )
            if monotonic() - self._told_at >= TICK_S:
                self._tell()

    def _tell(self) -> None:
        if self._pipe is not None:
            self._told_at = monotonic()
            self._pipe.tell(self._snapshot.word())
