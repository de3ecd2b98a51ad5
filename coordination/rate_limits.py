"""Rate limits: never above N requests in any rolling window, by the platform's own count."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

from coordination.answers import with_moments
from coordination.database import Database, Json
from coordination.engagement import Priority
from coordination.errors import DatabaseUnavailableError
from coordination.ids import number_of
from coordination.owed import Owed
from coordination.rate_grants import Grant, limit_headers
from coordination.rate_leases import Tokens
from coordination.session import Session


@dataclass(frozen=True, kw_only=True)
class Window:
    """One window of a limit; `resets_at` (fleet time) is when the next unit frees."""

    limit: int
    window_s: int
    used: int
    remaining: int
    resets_at: datetime


@dataclass(frozen=True, kw_only=True)
class Remaining:
    """What is left of a window, and when its next unit frees (fleet time)."""

    remaining: int
    resets_at: datetime


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """What is left of an endpoint; beside it its shortest window, the usual spans by name, and all windows.

    Attributes:
        limit: the shortest window's, as `window_s` and `used`.
        remaining: by all windows, by the pools that it draws on, and by what the platform told.
        resets_at: fleet time at which more than that is free.
        blocked_until: fleet time until which the platform's refusals close the endpoint; None: they don't.
        per_15min: None where the endpoint has no such window; `per_hour` and `per_day` likewise.
        windows: all of them, the shortest first.
    """

    limit: int
    window_s: int
    used: int
    remaining: int
    resets_at: datetime
    blocked_until: datetime | None
    per_15min: Remaining | None
    per_hour: Remaining | None
    per_day: Remaining | None
    windows: tuple[Window, ...]


@dataclass(frozen=True, kw_only=True)
class Booking:
    """A later time for one request; ask for it with the same names between these two times.

    Attributes:
        execute_at: fleet time from which on the request may be asked for, before newer ones of its rank.
        expires_at: fleet time at which the place is given up.
        estimated_delay_seconds: fleet seconds from now to `execute_at`.
    """

    booking_id: str
    execute_at: datetime
    expires_at: datetime
    estimated_delay_seconds: float


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """A worker's part of an endpoint: weighted max-min over those that ask for it now."""

    allocated_per_15min: int
    allocated_per_hour: int
    used_per_15min: int
    used_per_hour: int
    remaining_allocation: int


class RateLimits:
    """The fleet's limiter. Every method is one round trip.

    Those that decide take the endpoint's row and the rows of its pools, in the order of their names. A call
    that the database was too busy for, or whose answer was lost, raises, and its grant is settled or given
    back before the next request is asked for: one round trip more for each.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._owed = Owed(session)

    def configure(
        self,
        endpoint: str,
        windows: Sequence[tuple[int, int]],
        account: str = "default",
        *,
        fair_share: bool | None = None,
    ) -> None:
        """Set the windows of an endpoint, or of a pool, as [(requests, window_s), ...].

        A worker's windows are added to those that hold; a person's replace them.

        Args:
            endpoint: or a pool's name.
            windows: one to eight, each span once; with those that a worker's are added to, eight at most.
            account: whose; "*", a person's alone, for the defaults of accounts to come.
            fair_share: shares by worker, or by priority alone; None leaves it.

        Raises:
            InvalidValueError: a number out of range, no window, or a worker that loosens a limit.
        """
        self._session.database.call(
            "configure_rate_windows",
            account=account,
            endpoint=endpoint,
            windows=Json([[_number(number) for number in window] for window in windows]),
            fair_share=fair_share,
        )

    def can_make_request(
        self, endpoint: str, worker_id: str, priority: Priority = "medium", account: str = "default"
    ) -> Grant:
        """Ask for one request, and be granted it: a yes takes the unit. Settle it with `record_usage`.

        A no is a place in line. `retry_after_seconds` is the time, in fleet seconds, at which this worker can
        expect its unit, which is held for it a few seconds longer; for a worker that comes at intervals of
        its own, until its next, a minute at most.
        """
        self._owed.pay()
        ticket = uuid4()
        try:
            answer = self._session.call(
                "can_make_request",
                endpoint=endpoint,
                worker_id=worker_id,
                priority=priority,
                account=account,
                ticket=ticket,
            )
        except DatabaseUnavailableError:
            self._owed.add("return_lost_grant", endpoint=endpoint, account=account, ticket=ticket)
            self._owed.pay()
            raise
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
            status: the HTTP status; 429 closes the endpoint until its reset, longer when repeated.
        """
        self._owed.call(
            "record_usage",
            grant_id=number_of(grant_id, "grant_id"),
            success=success,
            response_headers=Json(limit_headers(response_headers)),
            status=status,
        )

    def release(self, grant_id: str) -> bool:
        """Give back a grant whose request is not made.

        False where there was nothing to give back: settled, somebody else's, or in use by a send.
        """
        return bool(self._owed.call("release_grant", grant_id=number_of(grant_id, "grant_id"))["released"])

    def leasing(
        self,
        endpoint: str,
        worker_id: str,
        most: int,
        priority: Priority = "medium",
        account: str = "default",
    ) -> Tokens:
        """Open a lease for who makes many requests a second: a round trip for up to `most` of them.

        Tokens that are leased count as used. There are as many as asked for where there is much room, at most
        a hundredth of the smallest limit; else one at a time.
        """
        return Tokens(
            self._session,
            self._owed,
            most,
            endpoint=endpoint,
            worker_id=worker_id,
            priority=priority,
            account=account,
        )

    def schedule_request(
        self, endpoint: str, worker_id: str, priority: Priority = "medium", account: str = "default"
    ) -> Booking:
        """Book the earliest time with room in every window, behind all who wait and have booked.

        Ask with `can_make_request` when it is due, as the same worker with the same priority.
        """
        answer = self._session.call(
            "schedule_request", endpoint=endpoint, worker_id=worker_id, priority=priority, account=account
        )
        return Booking(**with_moments(answer, "execute_at", "expires_at"))

    def cancel_booking(self, booking_id: str) -> bool:
        """Give a booking back; False where it is used, over or another worker's."""
        return bool(
            self._session.call("cancel_booking", booking_id=number_of(booking_id, "booking_id"))["cancelled"]
        )

    def get_remaining_capacity(self, endpoint: str, account: str = "default") -> Capacity:
        """Say what is left of the endpoint, by whatever bounds it, and when more is free."""
        answer = self._session.call("get_remaining_capacity", endpoint=endpoint, account=account)
        fields: dict[str, Any] = with_moments(answer, "resets_at", "blocked_until")
        for name in ("per_15min", "per_hour", "per_day"):
            if fields[name] is not None:
                fields[name] = Remaining(**with_moments(fields[name], "resets_at"))
        fields["windows"] = tuple(Window(**with_moments(window, "resets_at")) for window in fields["windows"])
        return Capacity(**fields)

    def get_worker_allocation(self, endpoint: str, worker_id: str, account: str = "default") -> Allocation:
        """A worker's part of the endpoint in 15 minutes and in the hour, and what it used of it."""
        return Allocation(
            **self._session.call(
                "get_worker_allocation", endpoint=endpoint, worker_id=worker_id, account=account
            )
        )

    def get_system_status(self) -> list[dict[str, object]]:
        """Every endpoint in use: limit, used, utilization_percent, health, requests_queued and more."""
        return list(self._session.call("get_system_status"))

    def get_measures(self) -> list[dict[str, object]]:
        """How well each limit is used: efficiency, waits, refusals, errors (429s), throughput."""
        return list(self._session.call("get_rate_measures"))


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


def _number(given: object) -> object:
    """What JSON has no number for (NaN) goes as a text, and is refused by name as any other."""
    return str(given) if isinstance(given, float) else given
