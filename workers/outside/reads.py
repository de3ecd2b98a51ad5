"""Reads: one call to the platform that writes nothing, under a breaker and a grant that are both settled."""

from collections.abc import Callable
from typing import Final, TypeVar

from coordination import Fleet
from coordination.breakers import Call
from coordination.engagement import Priority
from coordination.errors import BreakerOpenError
from workers.errors import CutOffError, NoGrantError
from workers.platforms.x import Read, XError, XRefused

READING: Final = "reading"
"""The breaker of an account's reads: a platform that takes no posts may still answer them."""
Value = TypeVar("Value")


def read(
    fleet: Fleet,
    endpoint: str,
    call: Callable[[], Read[Value]],
    *,
    account: str,
    worker_id: str,
    priority: Priority = "medium",
) -> Read[Value]:
    """Ask the breaker, take a grant, call, and settle both with what came of it.

    Three round trips and the call; one more where it fails, or worked again.

    Raises:
        NoGrantError: the limit, or the breaker of the account's reads, says wait; nothing was asked.
        XError: the platform gave no answer, or refused.
    """
    try:
        with fleet.breakers.guard(account, READING) as attempt:
            return _read(
                fleet, endpoint, call, attempt, account=account, worker_id=worker_id, priority=priority
            )
    except BreakerOpenError as refusal:
        raise CutOffError(str(refusal), retry_after_s=refusal.retry_after_s) from None


def _read(
    fleet: Fleet,
    endpoint: str,
    call: Callable[[], Read[Value]],
    attempt: Call,
    *,
    account: str,
    worker_id: str,
    priority: Priority,
) -> Read[Value]:
    grant = fleet.rate_limits.can_make_request(endpoint, worker_id, priority, account)
    if grant.grant_id is None:
        attempt.untried()
        raise NoGrantError(
            grant.reason or f"no grant for {endpoint}", retry_after_s=grant.retry_after_seconds
        )
    try:
        answer = call()
    except XError as error:
        status = error.status if isinstance(error, XRefused) else None
        fleet.rate_limits.record_usage(grant.grant_id, False, error.headers, status=status)
        raise
    except BaseException:
        fleet.rate_limits.record_usage(grant.grant_id, False)
        raise
    fleet.rate_limits.record_usage(grant.grant_id, True, answer.headers, status=200)
    return answer
