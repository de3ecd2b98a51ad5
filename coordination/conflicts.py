"""Conflicts: where workers got in each other's way, counted for the coordinator."""

from dataclasses import dataclass
from datetime import datetime

from coordination.answers import with_moments
from coordination.session import Session


@dataclass(frozen=True, kw_only=True)
class Contention:
    """What is contended at `at` (fleet time), and what happened since the time that was asked for.

    Attributes:
        at: fleet time of the count: the next one's `since`.
        real_at: the same moment in real time.
        engaged_before: sends that were refused since somebody had engaged the content.
        late_reports: senders that reported when their act was somebody else's already.
        redelivered: messages that are delivered again since their holder ended.
        locks_held: engagement locks held now.
    """

    at: datetime
    real_at: datetime
    engaged_before: int
    late_reports: int
    redelivered: int
    locks_held: int


class Conflicts:
    """The coordinator's counts. One round trip; locks nothing."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def count(self, since: datetime | None = None) -> Contention:
        """Count what happened since then, by default in the last hour of fleet time."""
        return Contention(**with_moments(self._session.call("count_conflicts", since=since), "at", "real_at"))
