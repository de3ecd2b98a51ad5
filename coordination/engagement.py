"""Engagement locks: one worker at a time on one piece of content, with a fencing token for each grant."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Self

from coordination.errors import InvalidValueError
from coordination.session import Session

LockType = Literal["quote", "reply", "like", "analysis", "post", "follow"]
Priority = Literal["low", "medium", "high", "critical"]


@dataclass(frozen=True, kw_only=True)
class Lease:
    """A lock that was granted.

    Attributes:
        content: what is locked.
        fencing_token: rises with every grant of any content; a write under the lock names it.
        lease_expires_at: real time.
    """

    content: str
    fencing_token: int
    lease_expires_at: datetime

    @classmethod
    def from_answer(cls, answer: dict[str, str]) -> Self:
        """Read what the SQL functions return."""
        return cls(
            content=answer["content"],
            fencing_token=int(answer["fencing_token"]),
            lease_expires_at=datetime.fromisoformat(answer["lease_expires_at"]),
        )


@dataclass(frozen=True, kw_only=True)
class EngagementStats:
    """Counts over a window; `success_rate` is 0 to 1, None without engagements."""

    total_engagements: int
    successful_engagements: int
    quote_tweets: int
    replies: int
    likes: int
    posts: int
    success_rate: float | None


class Engagement:
    """The fleet's engagement locks and history. Every method is one round trip."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def request_lock(
        self,
        tweet_id: str,
        worker_id: str,
        lock_type: LockType,
        duration_minutes: float = 15,
        *,
        priority: Priority = "medium",
        wait_s: float = 0,
        scope: str = "fleet",
    ) -> Lease | None:
        """Ask for the content; give a lease, or None when it is held or was engaged within the window.

        Raises:
            InvalidValueError: names the parameter and what is allowed. Waiting (`wait_s`) and account scope
                are not there yet: `wait_s` is 0, `scope` is "fleet".
            IncarnationLostError: stop acting.
        """
        if wait_s != 0:
            raise InvalidValueError(
                f"wait_s is {wait_s}: allowed is 0", field="wait_s", value=str(wait_s), allowed="0"
            )
        if scope != "fleet":
            raise InvalidValueError(
                f"scope is {scope!r}: allowed is 'fleet'", field="scope", value=scope, allowed="fleet"
            )
        answer = self._session.call(
            "request_lock",
            tweet_id=tweet_id,
            worker_id=worker_id,
            lock_type=lock_type,
            duration_minutes=float(duration_minutes),
            priority=priority,
        )
        return Lease.from_answer(answer) if answer["granted"] else None

    def renew_lock(self, lease: Lease, duration_minutes: float = 15) -> Lease:
        """Prolong a lease from now on; raise `LockLostError` when it is lost or over."""
        answer = self._session.call(
            "renew_lock",
            content=lease.content,
            token=lease.fencing_token,
            duration_minutes=float(duration_minutes),
        )
        return Lease.from_answer(answer)

    def release_lock(self, lease: Lease, success: bool | None = None) -> None:
        """Give the content back; `success` is for analysis only, acts get their history from the ledger.

        Raises:
            LockLostError: it was lost before; whoever has it now keeps it.
        """
        self._session.call("release_lock", content=lease.content, token=lease.fencing_token, success=success)

    def has_recent_engagement(self, tweet_id: str, hours: float = 24) -> bool:
        """Whether the content was engaged within `hours`, or an act on it is under way or undecided."""
        return bool(self._session.call("has_recent_engagement", tweet_id=tweet_id, hours=float(hours)))

    def get_engagement_stats(self, hours: float = 24) -> EngagementStats:
        """Count the fleet's engagements of the last `hours` of fleet time."""
        return EngagementStats(**self._session.call("get_engagement_stats", hours=float(hours)))
