"""Retention: deleting what is over, a batch a call."""

from coordination.session import Session

KINDS = (
    "alerts",
    "black_boxes",
    "budget_holds",
    "budget_periods",
    "cache",
    "candidates",
    "command_parts",
    "commands",
    "conflicts",
    "engagements",
    "events",
    "failed_items",
    "health_snapshots",
    "heartbeats",
    "hosts",
    "incarnations",
    "interactions",
    "jobs",
    "lock_measures",
    "messages",
    "process_ends",
    "rate_grants",
    "reservations",
    "runs",
)
"""What maintenance sweeps; the coordinator sweeps locks and who waited for them.

Intents, attempts, transitions, readings and the audit are kept.
"""


class Retention:
    """The fleet's sweeping. One round trip a call; not flushed, since a forgotten deletion is made again."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def sweep(self, kind: str, *, keep_s: float, n: int = 1000) -> int:
        """Delete up to `n` rows of a kind that were over `keep_s` seconds ago; give how many.

        Raises:
            InvalidValueError: names the kinds there are.
        """
        return int(self._session.call("sweep", kind=kind, keep_s=float(keep_s), n=n))

    def close_silent(self, *, keep_s: float, n: int = 100) -> int:
        """Close the rows of lives that ended without a word `keep_s` real seconds ago; give how many."""
        return int(self._session.call("close_silent_incarnations", keep_s=float(keep_s), n=n))
