"""Reads: one call to the platform that writes nothing, under a grant that is settled whatever comes of it."""

from collections.abc import Callable
from typing import TypeVar

from coordination import Fleet
from coordination.engagement import Priority
from workers.errors import NoGrantError
from workers.platforms.x import Read, XError, XRefused

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
    """Take a grant, call, and settle the grant with what came of it. Two round trips and the call.

    Raises:
        NoGrantError: the limit says wait; nothing was asked.
        XError: the platform gave no answer, or refused.
    """
    grant = fleet.rate_limits.can_make_request(endpoint, worker_id, priority, account)
    if grant.grant_id is None:
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
