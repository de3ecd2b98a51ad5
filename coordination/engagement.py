"""Engagement locks: one worker at a time on one piece of content, with a fencing token for each grant."""

from collections import deque
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime
from threading import Event
from time import monotonic
from typing import Any, Final, Literal, LiteralString, Self
from uuid import uuid4

from coordination.errors import DatabaseBusyError, DatabaseUnavailableError, FleetError
from coordination.ids import number_of
from coordination.session import Session

LockType = Literal["quote", "reply", "like", "analysis", "post", "follow"]
Priority = Literal["low", "medium", "high", "critical"]
Scope = Literal["fleet", "account", "act"]
Reason = Literal["held", "line", "interval", "recent_engagement", "timed_out", "gone"]

COORDINATOR: Final = "coordination"
"""The worker that is told of long waits and of conflicts."""
POLL_S: Final = 0.25
"""The pause between two polls: who gives a lock back wakes the next one, and a waiter that is silent for a
second is passed over."""
MOST_OWED: Final = 100
"""What is still to be given back; what is older ends by itself."""


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
    def from_answer(cls, answer: dict[str, Any]) -> Self:
        """Read what the SQL functions return."""
        return cls(
            content=answer["content"],
            fencing_token=int(answer["fencing_token"]),
            lease_expires_at=datetime.fromisoformat(answer["lease_expires_at"]),
        )


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A lock that was not granted.

    Attributes:
        reason: `held` by `holder`; others stand before one in the `line`; the account's `interval` is not
            over; `recent_engagement` (or an act on it is under way); `timed_out` while waiting.
        holder: who has it, or who is ahead, where that is known.
        lease_expires_at: until when it is held, real time.
        retry_after_s: real seconds after which the interval is over.
    """

    reason: Reason
    holder: str | None = None
    lease_expires_at: datetime | None = None
    retry_after_s: float | None = None

    @classmethod
    def from_answer(cls, answer: dict[str, Any]) -> Self:
        """Read what the SQL functions return."""
        until = answer.get("lease_expires_at")
        return cls(
            reason=answer["reason"],
            holder=answer.get("holder") or answer.get("ahead"),
            lease_expires_at=datetime.fromisoformat(until) if until else None,
            retry_after_s=answer.get("retry_after_s"),
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


@dataclass(frozen=True, kw_only=True)
class Successes:
    """One group of engagements: how many, how many of them succeeded; `success_rate` is 0 to 1."""

    total: int
    successful: int
    success_rate: float


@dataclass(frozen=True, kw_only=True)
class EngagementPatterns:
    """When and how engagements succeed, over a window.

    Attributes:
        by_action: `quote`, `reply`, `like`, `post`.
        by_hour: hours of the day in UTC, 0 to 23; hours without an engagement are not there.
        by_account: accounts by name.
    """

    by_action: dict[str, Successes]
    by_hour: dict[int, Successes]
    by_account: dict[str, Successes]


class Engagement:
    """The fleet's engagement locks and history.

    Every method is one round trip, but for waiting (a poll each quarter of a second at most, two statements
    on the incarnation's connection) and for giving back what somebody waits for (one more, which wakes it).
    A lease that could not be given back, the database being away or busy, and what was granted without an
    answer, is given back at once over a new connection, or else before the next request: one round trip more.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._owed: deque[tuple[LiteralString, dict[str, Any]]] = deque(maxlen=MOST_OWED)

    def request_lock(
        self,
        tweet_id: str,
        worker_id: str,
        lock_type: LockType,
        duration_minutes: float = 15,
        *,
        priority: Priority = "medium",
        wait_s: float = 0,
        scope: Scope = "fleet",
        account: str | None = None,
        score: float | None = None,
        intent: str | None = None,
        keep_waiting: Callable[[], bool] | None = None,
    ) -> Lease | None:
        """Ask for the content; give a lease, or None: see `ask`, which says why."""
        answer = self.ask(
            tweet_id,
            worker_id,
            lock_type,
            duration_minutes,
            priority=priority,
            wait_s=wait_s,
            scope=scope,
            account=account,
            score=score,
            intent=intent,
            keep_waiting=keep_waiting,
        )
        return answer if isinstance(answer, Lease) else None

    def ask(
        self,
        tweet_id: str,
        worker_id: str,
        lock_type: LockType,
        duration_minutes: float = 15,
        *,
        priority: Priority = "medium",
        wait_s: float = 0,
        scope: Scope = "fleet",
        account: str | None = None,
        score: float | None = None,
        intent: str | None = None,
        keep_waiting: Callable[[], bool] | None = None,
    ) -> Lease | Refusal:
        """Ask for the content; give a lease, or why there is none.

        Args:
            tweet_id: the content.
            worker_id: the label of who asks.
            lock_type: all but `analysis` are refused while the content counts as engaged.
            duration_minutes: how long the lease lasts, in real minutes.
            priority: with ageing and the score it makes the order of the line.
            wait_s: real seconds to stand in line for what is held, or whose turn has not come.
            scope: `fleet` keeps everybody from the content, `account` those who act for the same account,
                "default" where none is named. `act` is for deciding about an act of the account: as the
                ledger will lock it, and without the interval, which the send keeps.
            account: on whose behalf: its interval between engagements is kept.
            score: what the content is worth, from 0 to 100: the best is worth a step of priority.
            intent: the act that asks: its own history and state don't count.
            keep_waiting: asked at every poll; False ends the wait.

        Raises:
            InvalidValueError: names the parameter and what is allowed.
            IncarnationLostError: stop acting.
        """
        self._give_back_owed()
        until = monotonic() + wait_s
        left_s = wait_s
        while True:  # a place that a crash forgot is asked for again
            ticket = uuid4()
            try:
                answer = self._session.call(
                    "request_lock",
                    tweet_id=tweet_id,
                    worker_id=worker_id,
                    lock_type=lock_type,
                    duration_minutes=float(duration_minutes),
                    priority=priority,
                    wait_s=left_s,
                    scope=scope,
                    account=account,
                    score=score,
                    besides=None if intent is None else number_of(intent, "intent"),
                    ticket=ticket,
                )
            except DatabaseUnavailableError:
                self._owed.append(("return_lost_lock", {"content": tweet_id, "ticket": ticket}))
                self._give_back_owed()
                raise
            if "waiter" in answer:
                answer = self._await_turn(int(answer["waiter"]), answer, keep_waiting, until)
            if answer["granted"]:
                return Lease.from_answer(answer)
            if answer["reason"] != "gone":
                return Refusal.from_answer(answer)
            left_s = max(0.0, until - monotonic())

    def _await_turn(
        self, waiter: int, answer: dict[str, Any], keep_waiting: Callable[[], bool] | None, until: float
    ) -> dict[str, Any]:
        """Poll, woken or a quarter of a second later, until the wait is over; leave the line in any case."""
        sleep = self._session.sleep
        refused = answer
        is_over = False
        try:
            with sleep.listening() if sleep else nullcontext():
                while not is_over and (keep_waiting is None or keep_waiting()):
                    answer = self._session.call("poll_lock", waiter=waiter)
                    is_over = answer["over"]
                    if is_over:
                        break
                    refused = answer
                    if answer["escalated"]:
                        with suppress(FleetError):  # its next step finds the message
                            self._session.database.call("wake", worker=COORDINATOR)
                    nap_s = min(POLL_S, max(0.0, answer["wait_s"]))
                    sleep.wait(nap_s) if sleep else Event().wait(nap_s)
        finally:
            if not is_over:  # a poll whose answer was lost may have been granted
                self._owed.append(("leave_line", {"waiter": waiter}))
                self._give_back_owed()
        is_late = monotonic() >= until  # then its place may have been swept already
        if not answer["granted"] and (
            answer["reason"] == "timed_out" or (is_late and answer["reason"] == "gone")
        ):
            return refused | {"reason": "timed_out", "granted": False}
        return answer

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
            DatabaseUnavailableError, DatabaseBusyError: nobody knows whether it was. It is tried again,
                at once and before the next request; this is raised all the same.
        """
        lent: dict[str, Any] = {"content": lease.content, "token": lease.fencing_token, "success": success}
        try:
            self._give_back("release_lock", lent)
        except (DatabaseUnavailableError, DatabaseBusyError):
            self._owed.append(("release_lock", lent))
            self._give_back_owed()
            raise

    def _give_back(self, function: LiteralString, lent: dict[str, Any]) -> None:
        self._session.wake(self._session.call(function, **lent)["wake"])

    def _give_back_owed(self) -> None:
        """Give back what could not be; what is lost, or was given back by the first call, is forgotten."""
        while self._owed:
            try:
                self._give_back(*self._owed[0])
            except (DatabaseUnavailableError, DatabaseBusyError):
                return
            except FleetError:
                pass
            self._owed.popleft()

    def escalate(self, tweet_id: str, priority: Priority = "medium") -> bool:
        """Ask the coordinator to settle who may have the content; False where no other worker contends.

        One message for each worker and lease, however often it is asked; each contender hears the decision.
        """
        answer = self._session.call("escalate_conflict", tweet_id=tweet_id, priority=priority)
        if answer["escalated"]:
            with suppress(FleetError):
                self._session.database.call("wake", worker=COORDINATOR)
        return bool(answer["escalated"])

    def has_recent_engagement(
        self, tweet_id: str, hours: float = 24, *, account: str | None = None, intent: str | None = None
    ) -> bool:
        """Whether the content was engaged within `hours`, or an act on it is under way or undecided.

        Args:
            tweet_id: the content.
            hours: of fleet time.
            account: only what this account did.
            intent: the act that asks: its own history and state don't count.
        """
        return bool(
            self._session.call(
                "has_recent_engagement",
                tweet_id=tweet_id,
                hours=float(hours),
                account=account,
                besides=None if intent is None else number_of(intent, "intent"),
            )
        )

    def get_engagement_stats(
        self, hours: float = 24, *, until: datetime | None = None, account: str | None = None
    ) -> EngagementStats:
        """Count the engagements of `hours` of fleet time that end at `until` (now), of one account or all."""
        return EngagementStats(
            **self._session.call("get_engagement_stats", hours=float(hours), until=until, account=account)
        )

    def get_engagement_patterns(
        self, hours: float = 24, *, until: datetime | None = None, account: str | None = None
    ) -> EngagementPatterns:
        """Say by action, hour of the day and account how many engagements there were and which succeeded."""
        answer = self._session.call(
            "get_engagement_patterns", hours=float(hours), until=until, account=account
        )
        return EngagementPatterns(
            by_action={name: Successes(**counts) for name, counts in answer["by_action"].items()},
            by_hour={int(hour): Successes(**counts) for hour, counts in sorted(answer["by_hour"].items())},
            by_account={name: Successes(**counts) for name, counts in answer["by_account"].items()},
        )

    def get_lock_status(self, tweet_id: str | None = None, n: int = 100) -> dict[str, Any]:
        """Say what is `held` now and who is `waiting`, at most `n` of each, of one content or of all."""
        return dict(self._session.call("get_lock_status", tweet_id=tweet_id, n=n))

    def get_lock_measures(self, hours: float = 24) -> dict[str, Any]:
        """Give the named measures over `hours` of fleet time, in steps of five minutes. Seconds are real.

        Among them `acquisition_s` (mean time to a lock), `conflict_resolution_s` (mean time of a wait,
        however it ended), `conflict_frequency` (refusals a request), `queue_depth`, `misses` (late
        renewals and releases) and `late_words` (calls of lives that had ended), both since the beginning. A
        mean without a case is None.
        """
        return dict(self._session.call("get_lock_measures", hours=float(hours)))
