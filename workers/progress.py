"""Progress: what the work loop has done, kept by the loop and read by the heartbeat."""

from dataclasses import dataclass, replace
from threading import Lock

from coordination.heartbeats import State


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


class Progress:
    """Written by the loop, read by the heartbeat's thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._snapshot = Snapshot()

    @property
    def snapshot(self) -> Snapshot:
        """The position now."""
        return self._snapshot

    def tick(self) -> None:
        """Show that the loop moves."""
        with self._lock:
            self._snapshot = replace(self._snapshot, ticks=self._snapshot.ticks + 1)

    def enter(self, state: State, *, reason: str = "", step: str | None = None) -> None:
        """Change the state; counts of items begin anew with a step."""
        with self._lock:
            counts = {"items": 0, "item_errors": 0} if step else {}
            self._snapshot = replace(
                self._snapshot,
                state=state,
                reason=reason,
                step=step,
                ticks=self._snapshot.ticks + 1,
                **counts,
            )

    def checked(self, *, healthy: bool, reason: str, health: dict[str, object]) -> None:
        """Keep what a health check found; its reason shows where the state has none of its own."""
        with self._lock:
            details = {**health, "reason": reason} if reason else health
            self._snapshot = replace(self._snapshot, healthy=healthy, health=details)

    def item_done(self) -> None:
        """Count an item."""
        self._count(items=1, item_errors=0)

    def item_failed(self) -> None:
        """Count an item that failed."""
        self._count(items=1, item_errors=1)

    def _count(self, *, items: int, item_errors: int) -> None:
        with self._lock:
            self._snapshot = replace(
                self._snapshot,
                items=self._snapshot.items + items,
                item_errors=self._snapshot.item_errors + item_errors,
                ticks=self._snapshot.ticks + 1,
            )
