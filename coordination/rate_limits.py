"""Rate limits: never above N requests in any rolling window, by the platform's own count."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from coordination.answers import with_moments
from coordination.database import Database, Json
from coordination.engagement import Priority
from coordination.errors import InvalidValueError
from coordination.plain import plain
from coordination.session import Session


@dataclass(frozen=True, kw_only=True)
class Grant:
    """The answer to a request for one request; when `allowed`, one unit is taken until it is settled."""

    allowed: bool
    grant_id: str | None = None
    retry_after_seconds: float | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """What is left of an endpoint's window; `resets_at` (fleet time) is when the next unit frees."""

    limit: int
    window_s: int
    used: int
    remaining: int
    resets_at: datetime


class RateLimits:
    """The fleet's limiter. Every method is one round trip and takes the endpoint's row while it decides."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def configure(self, endpoint: str, windows: Sequence[tuple[int, int]], account: str = "default") -> None:
        """Set an endpoint's limit as [(requests, window_s)]; this form of the limiter keeps one window.

        Raises:
            InvalidValueError: not one window, a number out of range, or a worker that loosens a limit.
        """
        if len(windows) != 1:
            raise InvalidValueError(
                f"windows is {list(windows)}: allowed is one (limit, window_s) pair",
                field="windows",
                value=str(list(windows)),
                allowed="one (limit, window_s) pair",
            )
        requests, window_s = windows[0]
        self._session.database.call(
            "configure_rate_limit", account=account, endpoint=endpoint, requests=requests, window_s=window_s
        )

    def can_make_request(
        self, endpoint: str, worker_id: str, priority: Priority = "medium", account: str = "default"
    ) -> Grant:
        """Ask for one request, and be granted it: a yes takes the unit. Settle it with `record_usage`."""
        answer = self._session.call(
            "can_make_request", endpoint=endpoint, worker_id=worker_id, priority=priority, account=account
        )
        return Grant(**answer)

    def record_usage(
        self,
        grant_id: str,
        success: bool,
        response_headers: Mapping[str, str] | None = None,
        *,
        status: int | None = None,
    ) -> None:
        """Settle a grant with what came of it; the answer's headers correct the fleet's own count.

        Args:
            grant_id: from the grant; settling it again changes nothing.
            success: whether the request did what it should.
            response_headers: as received, any case; without them one more use is assumed.
            status: the HTTP status; 429 closes the endpoint until its reset.
        """
        self._session.call(
            "record_usage",
            grant_id=int(grant_id),
            success=success,
            response_headers=Json(limit_headers(response_headers)),
            status=status,
        )

    def release(self, grant_id: str) -> bool:
        """Give back a grant whose request is not made.

        False where there was nothing to give back: settled, somebody else's, or in use by a send.
        """
        return bool(self._session.call("release_grant", grant_id=int(grant_id))["released"])

    def get_remaining_capacity(self, endpoint: str, account: str = "default") -> Capacity:
        """Say what is left of the endpoint's window and when the next unit frees."""
        answer = self._session.call("get_remaining_capacity", endpoint=endpoint, account=account)
        return Capacity(**with_moments(answer, "resets_at"))

    def get_system_status(self) -> list[dict[str, object]]:
        """Every endpoint in use: limit, used, utilization_percent, health, active_workers and more."""
        return list(self._session.call("get_system_status"))


def unblock_endpoint(
    database: Database, account: str, endpoint: str, *, actor: str, reason: str
) -> dict[str, object]:
    """A person lifts the block that refusals put on an endpoint; audited. Its window still counts.

    Returns:
        {"account", "endpoint", "was_blocked_until"}: the last is None where it was not blocked.

    Raises:
        InvalidValueError: the account uses no such endpoint.
    """
    return dict(
        database.call("unblock_endpoint", account=account, endpoint=endpoint, actor=actor, reason=reason)
    )


def limit_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Keep the headers that speak of limits, and the Date that they are relative to; names in lower case."""
    lowered = {name.lower(): value for name, value in (headers or {}).items()}
    return {
        name: plain(value[:200])
        for name, value in lowered.items()
        if name == "date" or name.startswith(("x-rate-limit-", "x-user-limit-", "x-app-limit-"))
    }
