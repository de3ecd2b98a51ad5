"""Reads: one call to the platform that writes nothing, under a breaker and a grant that are both settled."""

import time
from collections.abc import Callable
from typing import Final, TypeVar

from coordination import Fleet
from coordination.breakers import Call
from coordination.engagement import Priority
from coordination.errors import BreakerOpenError, FleetError
from workers.errors import CutOffError, NoGrantError
from workers.platforms.x import Read, XError, XRefused, XUnavailable

READING: Final = "reading"
"""The breaker of an account's reads: a platform that takes no posts may still answer them."""
GRANT_LASTS_S = 10.0
"""From asking for a grant to its request, by a clock that runs on while the process is stopped: far below the
quiet time, after which the unit of a holder that is thought dead counts as used."""
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
        NoGrantError: the limit, or the breaker of the account's reads, says wait, or this process stood still
            for too long after its grant; nothing was asked.
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
    asked_at = _boot_time_s()
    grant = fleet.rate_limits.can_make_request(endpoint, worker_id, priority, account)
    if grant.grant_id is None:
        attempt.untried()
        raise NoGrantError(
            grant.reason or f"no grant for {endpoint}", retry_after_s=grant.retry_after_seconds
        )
    if _boot_time_s() - asked_at > GRANT_LASTS_S:
        attempt.untried()
        fleet.rate_limits.release(grant.grant_id)
        raise NoGrantError(f"the grant for {endpoint} came too late to be used", retry_after_s=0)
    try:
        answer = call()
    except BaseException as error:
        _settle_failed(fleet, grant.grant_id, error)
        raise
    fleet.rate_limits.record_usage(grant.grant_id, True, answer.headers, status=200)
    return answer


def _settle_failed(fleet: Fleet, grant_id: str, error: BaseException) -> None:
    """Settle the grant of a call that raised; what goes wrong in that is a note on `error`."""
    headers = error.headers if isinstance(error, XError) else None
    status = error.status if isinstance(error, XRefused | XUnavailable) else None
    try:
        fleet.rate_limits.record_usage(grant_id, False, headers, status=status)
    except FleetError as other:
        error.add_note(f"its grant {grant_id} is not settled: {type(other).__name__}: {other}")


def _boot_time_s() -> float:
    """Seconds that also pass while the process is stopped or the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
