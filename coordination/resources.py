"""Resources: things with a capacity, and what whoever wants units of one is answered."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Self

from coordination.engagement import Priority

ResourceType = Literal["content", "api_quota", "db_connection", "memory", "cpu", "storage", "conversation"]
Refusal = Literal[
    "no_room", "others_wait", "above_capacity", "overflow", "time_out", "not_waiting", "given_up", "no_quota"
]
Operation = Literal["tweet", "search", "fetch"]


@dataclass(frozen=True, kw_only=True)
class Reservation:
    """Units that were granted.

    Attributes:
        reservation_id: names it, to renew and to release it.
        fencing_token: the same as a number: higher than that of every grant before.
        units: how many units of the resource.
        reserved_at: real time.
        lease_expires_at: real time; then the units are others'.
        waited_s: real seconds in the queue.
    """

    reservation_id: str
    fencing_token: int
    resource_type: str
    resource_id: str
    worker_id: str
    priority: Priority
    units: int
    reserved_at: datetime
    lease_expires_at: datetime
    waited_s: float

    @classmethod
    def from_answer(cls, answer: dict[str, Any]) -> Self:
        """Read what the SQL functions return."""
        return cls(
            reservation_id=answer["reservation_id"],
            fencing_token=int(answer["reservation_id"]),
            resource_type=answer["resource_type"],
            resource_id=answer["resource_id"],
            worker_id=answer["worker_id"],
            priority=answer["priority"],
            units=answer["units"],
            reserved_at=datetime.fromisoformat(answer["reserved_at"]),
            lease_expires_at=datetime.fromisoformat(answer["lease_expires_at"]),
            waited_s=float(answer["waited_s"]),
        )


@dataclass(frozen=True, kw_only=True)
class Refused:
    """Why there is no reservation.

    Attributes:
        reason: `no_room`; `others_wait` before this one; `above_capacity`, more than the pool has now;
            `overflow`, the queue is full; `time_out`, it waited in vain; `not_waiting`, somebody removed it
            from the queue; `given_up` by `keep_waiting`; `no_quota` of the platform's requests.
        queue_position: the place that it would have had, where it is known.
        estimated_wait_minutes: what it would have waited, as far as the present holders let expect.
        retry_after_seconds: fleet seconds until a quota may be had.
    """

    reason: Refusal
    queue_position: int | None = None
    estimated_wait_minutes: float | None = None
    retry_after_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Availability:
    """Whether units could be had now; else the place in the queue, from 1, and the likely wait, if known.

    Attributes:
        resource_id: the pool that this is about, the soonest one where none was named.
    """

    available: bool
    resource_id: str | None = None
    queue_position: int | None = None
    estimated_wait_minutes: float | None = None


@dataclass(frozen=True, kw_only=True)
class Tidied:
    """What a look after the pools did: holders that outstayed or died, waiters out of time or raised."""

    quotas: int
    expired: int
    recovered: int
    time_outs: int
    escalated: int
    dropped: int
