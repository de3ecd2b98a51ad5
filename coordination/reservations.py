"""Reservations: units of things with a capacity, held until given back, out of time, or their holder dies."""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID, uuid4

from coordination.engagement import Priority
from coordination.errors import DatabaseUnavailableError, FleetError, ReservationLostError
from coordination.ids import number_of
from coordination.rate_limits import Grant
from coordination.resources import Availability, Operation, Refused, Reservation, ResourceType, Tidied
from coordination.session import Session
from coordination.waiting import wait_for_turn


class Reservations:
    """The fleet's pools. Every method is one round trip; one that wakes waiters is one more.

    A wait is one round trip a poll, three a second at most, and is ended by a wake-up in milliseconds.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def reserve_resource(
        self,
        resource_type: ResourceType,
        resource_id: str,
        worker_id: str,
        priority: Priority = "medium",
        duration_minutes: float = 30,
        *,
        units: int = 1,
        wait_s: float = 0,
        kind: str | None = None,
        need: float = 1,
        ticket: UUID | None = None,
        keep_waiting: Callable[[], bool] | None = None,
    ) -> Reservation | None:
        """Reserve units of a resource, for others to find no room; None where there is none in time.

        Args:
            resource_type: what it is.
            resource_id: which; one that nobody configured is made, with its kind's capacity, or for one.
            worker_id: who asks; shares are counted by it.
            priority: who is earlier in the queue; it rises with waiting.
            duration_minutes: after so long, in real time, the units are others'.
            units: how many.
            wait_s: real seconds to wait for room; 0 never queues.
            kind: what it is for, one of the type's kinds: a thread, a discussion...
            need: the weight of this worker where the pool shares in proportion.
            ticket: the request's own name: made again under it, it is the same request while it waits or what
                it was granted is held.
            keep_waiting: asked at each poll while it waits; False ends the wait, for a worker that drains.

        Raises:
            InvalidValueError: names the parameter and what is allowed.
            IncarnationLostError: stop acting.
            DatabaseUnavailableError: the answer was lost; what was granted is given back, if the server can
                be reached again.
        """
        found = self.request_resource(
            resource_type,
            resource_id,
            worker_id,
            priority,
            duration_minutes,
            units=units,
            wait_s=wait_s,
            kind=kind,
            need=need,
            ticket=ticket,
            keep_waiting=keep_waiting,
        )
        return found if isinstance(found, Reservation) else None

    def request_resource(
        self,
        resource_type: ResourceType,
        resource_id: str,
        worker_id: str,
        priority: Priority = "medium",
        duration_minutes: float = 30,
        *,
        units: int = 1,
        wait_s: float = 0,
        kind: str | None = None,
        need: float = 1,
        ticket: UUID | None = None,
        keep_waiting: Callable[[], bool] | None = None,
    ) -> Reservation | Refused:
        """Do the same, and say why where there is none."""
        answer = self._ask(
            "reserve_resource",
            ticket or uuid4(),
            resource_type=resource_type,
            resource_id=resource_id,
            worker_id=worker_id,
            priority=priority,
            duration_minutes=float(duration_minutes),
            units=units,
            wait_s=float(wait_s),
            kind=kind,
            need=float(need),
        )
        self._wake(answer)
        if answer.get("waits"):
            answer = wait_for_turn(
                self._session,
                answer["ticket"],
                poll="poll_reservation",
                leave="leave_queue",
                wake=self._wake,
                keep_waiting=keep_waiting,
            )
        return _found(answer)

    def reserve_api_quota(
        self,
        worker_id: str,
        operation_type: Operation | str,
        estimated_requests: int = 1,
        *,
        priority: Priority = "medium",
        account: str = "default",
        duration_minutes: float = 30,
    ) -> Reservation | None:
        """Set requests to the platform aside, all or none; they are the rate limiter's own units.

        Make each with `use_api_quota`, and give the rest back with `release_resource`.

        Args:
            worker_id: who asks.
            operation_type: tweet, search or fetch, or an endpoint of the limiter.
            estimated_requests: how many.
            priority: as for a single request.
            account: whose requests.
            duration_minutes: after so long, in real time, those that were not made are others'.

        Raises:
            InvalidValueError: names the parameter and what is allowed.
            DatabaseUnavailableError: the answer was lost; what was granted is given back, if the server can
                be reached again.
        """
        found = self.request_api_quota(
            worker_id,
            operation_type,
            estimated_requests,
            priority=priority,
            account=account,
            duration_minutes=duration_minutes,
        )
        return found if isinstance(found, Reservation) else None

    def request_api_quota(
        self,
        worker_id: str,
        operation_type: Operation | str,
        estimated_requests: int = 1,
        *,
        priority: Priority = "medium",
        account: str = "default",
        duration_minutes: float = 30,
    ) -> Reservation | Refused:
        """Do the same, and say when to ask again where there is none."""
        answer = self._ask(
            "reserve_api_quota",
            uuid4(),
            worker_id=worker_id,
            operation_type=operation_type,
            estimated_requests=estimated_requests,
            priority=priority,
            account=account,
            duration_minutes=float(duration_minutes),
        )
        return _found(answer)

    def use_api_quota(self, quota: Reservation | str) -> Grant:
        """Take one request out of a quota; settle it with `rate_limits.record_usage`, as any grant.

        It is before all who wait. Where its limit was lowered since or is used up by the platform's count, or
        a spread window is not open yet, the answer says when to come again; the quota stays.

        Raises:
            ReservationLostError: it is used up, over or somebody else's; its `why` says which.
        """
        answer = self._session.call("use_api_quota", reservation_id=_number(quota))
        _require_kept(quota, answer)
        return Grant(**{name: value for name, value in answer.items() if name != "lost"})

    def renew(self, reservation: Reservation | str, duration_minutes: float = 30) -> datetime:
        """Prolong a reservation from now on; give the real time of its new end.

        Raises:
            ReservationLostError: it is over or somebody else's; its `why` says which.
        """
        answer = self._session.call(
            "renew_reservation", reservation_id=_number(reservation), duration_minutes=float(duration_minutes)
        )
        _require_kept(reservation, answer)
        return datetime.fromisoformat(answer["lease_expires_at"])

    def release_resource(self, reservation: Reservation | str) -> None:
        """Give a reservation back.

        Raises:
            ReservationLostError: it was lost before, or is somebody else's; its `why` says which.
        """
        answer = self._session.call("release_resource", reservation_id=_number(reservation))
        self._wake(answer)
        _require_kept(reservation, answer)

    def check_availability(
        self,
        resource_type: ResourceType,
        resource_id: str | None = None,
        *,
        priority: Priority = "medium",
        units: int = 1,
        kind: str | None = None,
        worker_id: str = "-",
        need: float = 1,
    ) -> Availability:
        """Say whether a request would be granted now; a promise it is not: the request itself decides.

        A pool that nobody made is as its first use would make it.

        Args:
            resource_type: what it is.
            resource_id: which; without one, whichever of the type is soonest.
            priority: the request's.
            units: how many.
            kind: what it would be for.
            worker_id: who would ask: shares, and claims of a moment ago, are told apart by it.
            need: the weight of this worker where the pool shares in proportion.

        Raises:
            InvalidValueError: more units than the pool can ever have, or another kind than it is of.
        """
        answer = self._session.call(
            "check_availability",
            resource_type=resource_type,
            resource_id=resource_id,
            priority=priority,
            units=units,
            kind=kind,
            worker_id=worker_id,
            need=float(need),
        )
        return Availability(**answer)

    def adjust_capacity(self, resource_type: ResourceType, resource_id: str, load: float) -> int:
        """Tell a pool's load, 0 idle to 1 full; give the capacity that follows, within its bounds."""
        answer = self._session.call(
            "adjust_capacity", resource_type=resource_type, resource_id=resource_id, load=float(load)
        )
        self._wake(answer)
        return int(answer["capacity"])

    def tidy(self, n: int = 20) -> Tidied:
        """Look after the pools: free what outstayed, end waits out of time, raise who waits long.

        Every `n` pools that need it are one transaction and one round trip: nobody waits for more than these.
        """
        done: Counter[str] = Counter()
        last: tuple[str | None, str | None] | None = (None, None)
        while last is not None:
            answer = self._session.call("tidy_pools", n=n, after_type=last[0], after_id=last[1])
            self._wake(answer)
            done.update({name: int(answer[name]) for name in Tidied.__dataclass_fields__})
            last = answer["last"]
        return Tidied(**done)

    def get_pool_status(
        self,
        resource_type: ResourceType | None = None,
        resource_id: str | None = None,
        *,
        standing: bool = False,
    ) -> list[dict[str, Any]]:
        """Give each pool's capacity, use, queue, waits and conflicts; see `docs/reference/sql-api.md`.

        With `standing`, without those that were made at first use.
        """
        return list(
            self._session.call(
                "get_pool_status", resource_type=resource_type, resource_id=resource_id, standing=standing
            )
        )

    def _ask(self, function: LiteralString, ticket: UUID, **arguments: Any) -> dict[str, Any]:
        """Ask under a ticket; where the answer is lost, give back what it may have granted."""
        try:
            return dict(self._session.call(function, ticket=ticket, **arguments))
        except DatabaseUnavailableError:
            with suppress(FleetError):  # it is free after its lease, or when this life ends
                self._wake(self._session.call("leave_queue", ticket=ticket))
            raise

    def _wake(self, answer: dict[str, Any]) -> None:
        # Outside the reservation's own transaction: NOTIFY inside would serialise every commit.
        for sleeper in {waiting["incarnation"] for waiting in answer.get("wake") or ()}:
            self._session.wake(sleeper)


def _found(answer: dict[str, Any]) -> Reservation | Refused:
    if answer["granted"]:
        return Reservation.from_answer(answer)
    return Refused(
        reason=answer["reason"],
        queue_position=answer.get("queue_position"),
        estimated_wait_minutes=answer.get("estimated_wait_minutes"),
        retry_after_seconds=answer.get("retry_after_seconds"),
    )


def _number(reservation: Reservation | str) -> int:
    given = reservation.reservation_id if isinstance(reservation, Reservation) else reservation
    return number_of(given, "reservation_id")


def _require_kept(reservation: Reservation | str, answer: dict[str, Any]) -> None:
    if answer["lost"]:
        raise ReservationLostError(
            f"reservation {_number(reservation)} is lost ({answer['why']}): stop using what it stood for; "
            "reserve it again",
            why=answer["why"],
        )
