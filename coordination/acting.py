"""Acting: the lock on a content and the quota for a request, taken together and given back on every way out.

For acts outside the ledger, such as an analysis. What changes something on a platform is proposed to the
ledger instead, whose sender takes lock and grant of its own.
"""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Literal

from coordination.engagement import Lease, LockType, Priority, Refusal, Scope
from coordination.errors import ContentRefusedError, FleetError, QuotaRefusedError

if TYPE_CHECKING:
    from coordination.fleet import Fleet

OnConflict = Literal["raise", "escalate"]
OnQuota = Literal["raise", "schedule"]


class Act:
    """What one has while one acts: the lock, and the grant for one request where an endpoint was named.

    Attributes:
        lease: the lock, as last renewed.
        grant_id: the open grant; None without an endpoint, and once it is settled or given back.
        success: whether the analysis succeeded, which is its history; None: it did unless the body fails.
    """

    def __init__(self, fleet: "Fleet", lease: Lease, lock_type: LockType, duration_minutes: float) -> None:
        self.lease = lease
        self.grant_id: str | None = None
        self.success: bool | None = None
        self._fleet = fleet
        self._lock_type = lock_type
        self._duration_minutes = duration_minutes

    def renew(self, duration_minutes: float | None = None) -> Lease:
        """Prolong the lock from now on, by its own duration or another. Call it in time: no thread does.

        Raises:
            LockLostError: it is lost: stop, and write nothing.
        """
        self.lease = self._fleet.engagement.renew_lock(
            self.lease, self._duration_minutes if duration_minutes is None else duration_minutes
        )
        return self.lease

    def record_usage(
        self, success: bool, response_headers: Mapping[str, str] | None = None, *, status: int | None = None
    ) -> None:
        """Settle the grant with what came of the request; see `RateLimits.record_usage`."""
        grant_id, self.grant_id = self.grant_id, None
        if grant_id is not None:
            self._fleet.rate_limits.record_usage(grant_id, success, response_headers, status=status)

    def give_back_quota(self) -> None:
        """Give the grant back: no request was made, and none will be."""
        grant_id, self.grant_id = self.grant_id, None
        if grant_id is not None:
            self._fleet.rate_limits.release(grant_id)

    def take_quota(self, endpoint: str, worker_id: str, priority: Priority, account: str) -> None:
        """Take the grant for one request; raise `QuotaRefusedError` where there is none."""
        grant = self._fleet.rate_limits.can_make_request(endpoint, worker_id, priority, account)
        if grant.grant_id is None:
            raise QuotaRefusedError(
                f"no grant for {endpoint}: {grant.reason}",
                endpoint=endpoint,
                retry_after_s=grant.retry_after_seconds,
            )
        self.grant_id = grant.grant_id

    def end(self, *, success: bool | None) -> None:
        """Give all back: a grant that nobody settled counts as used, an analysis leaves its history.

        Raises:
            LockLostError: the lock was lost before.
        """
        try:
            self.record_usage(success is not False)
        finally:
            self._fleet.engagement.release_lock(
                self.lease, success if self._lock_type == "analysis" else None
            )


@contextmanager
def acting_on(
    fleet: "Fleet",
    content: str,
    lock_type: LockType = "analysis",
    *,
    endpoint: str | None = None,
    account: str | None = None,
    duration_minutes: float = 15,
    priority: Priority = "medium",
    wait_s: float = 0,
    scope: Scope = "fleet",
    score: float | None = None,
    on_conflict: OnConflict = "raise",
    on_quota: OnQuota = "raise",
    keep_waiting: Callable[[], bool] | None = None,
) -> Generator[Act]:
    """Hold the lock on a content, and a grant for one request, while the body runs.

    Both are given back on every way out: at the body's end, at an exception, when the lock was lost, when the
    quota is refused. A process that dies loses both by itself. A grant that the body neither settles nor
    gives back counts as used, since a request too many is worse than one too few.

    Args:
        fleet: who acts.
        content: what on.
        lock_type: an analysis leaves its history.
        endpoint: whose quota one request takes; None takes none.
        account: on whose behalf; "default" pays for the request where it is None.
        duration_minutes: how long the lock lasts without `renew`.
        priority: in the line for the content, and for the quota.
        wait_s: real seconds to wait for a content that somebody has.
        scope: see `Engagement.ask`.
        score: see `Engagement.ask`.
        on_conflict: `escalate` also asks the coordinator for a settlement where others contend for it.
        on_quota: `schedule` also books a time for the request where the limit has no room now.
        keep_waiting: asked while waiting; False gives up.

    Raises:
        ContentRefusedError: somebody else has the content, or it was engaged with.
        QuotaRefusedError: the limit has no room; it says when.
        LockLostError: the lock was lost while the body ran: what it did may be somebody else's work too.
        DatabaseUnavailableError, DatabaseBusyError: nobody knows whether the lock was given back at the end;
            that is tried again, at once and before the next request.
    """
    worker_id = f"{fleet.incarnation.worker}/{fleet.incarnation.slot}"
    answer = fleet.engagement.ask(
        content,
        worker_id,
        lock_type,
        duration_minutes,
        priority=priority,
        wait_s=wait_s,
        scope=scope,
        account=account,
        score=score,
        keep_waiting=keep_waiting,
    )
    if isinstance(answer, Refusal):
        raise _refused(fleet, content, answer, priority, escalates=on_conflict == "escalate")
    act = Act(fleet, answer, lock_type, duration_minutes)
    pays = account or "default"
    try:
        if endpoint is not None:
            act.take_quota(endpoint, worker_id, priority, pays)
    except QuotaRefusedError as error:
        act.end(success=None)  # nothing was begun
        if on_quota == "schedule":
            raise _booked(fleet, error, worker_id, priority, pays) from None
        raise
    except BaseException:
        with suppress(FleetError):
            act.end(success=None)
        raise
    try:
        yield act
    except BaseException:
        with suppress(FleetError):  # the body's own error is the one to be told
            act.end(success=act.success or False)
        raise
    act.end(success=act.success is not False)


def _refused(
    fleet: "Fleet", content: str, refusal: Refusal, priority: Priority, *, escalates: bool
) -> ContentRefusedError:
    contends = refusal.reason in {"held", "line", "timed_out"}
    return ContentRefusedError(
        f"{content} can't be had: {refusal.reason}" + (f" ({refusal.holder})" if refusal.holder else ""),
        reason=refusal.reason,
        holder=refusal.holder,
        retry_after_s=refusal.retry_after_s,
        escalated=escalates and contends and fleet.engagement.escalate(content, priority),
    )


def _booked(
    fleet: "Fleet", refused: QuotaRefusedError, worker_id: str, priority: Priority, account: str
) -> QuotaRefusedError:
    """Book a time for the request."""
    booking = fleet.rate_limits.schedule_request(refused.endpoint, worker_id, priority, account)
    return QuotaRefusedError(
        f"{refused}; booked for {booking.execute_at.isoformat()}",
        endpoint=refused.endpoint,
        retry_after_s=refused.retry_after_s,
        execute_at=booking.execute_at,
        booking_id=booking.booking_id,
    )
