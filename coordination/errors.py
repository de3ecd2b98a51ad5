"""What can go wrong in the fleet's coordination.

FleetError
|- DatabaseError                something that PostgreSQL said and nobody expected
|  |- DatabaseUnavailableError  no connection, or it was lost: wait, then try again
|  |- DatabaseBusyError         a lock wait timed out, a deadlock was cut: try again
|  `- SchemaMismatchError       the program and the schema don't fit: run `socialfleet migrate`
|- InvalidValueError            a value that can't be used: names field, value, what is allowed
|- PermissionRefusedError       the login may not do this: use another role
|- LockLostError                the lock or lease is not one's own any more: stop that work
|  `- ReservationLostError     the same of units of a pool: says why
|- ContentRefusedError          somebody else has the content, or it was engaged with: pass it over, or wait
|- QuotaRefusedError            the limit has no room: it says when to ask again
|- IncarnationLostError         this process is not known alive any more: stop acting, connect anew
|- HostTakenError               another living manager has this host's name: give this one its own
|- TransitionRefusedError       the ledger forbids this step in the intent's present state
|- BreakerOpenError             the service failed too often: ask again after the time it names
|- NotAcknowledgedError         a commit was not confirmed without doubt: take it as not done
`- PoolerInBetweenError         a pooler hides the server's sessions: connect to PostgreSQL itself
"""

from datetime import datetime


class FleetError(Exception):
    """The root: whatever coordination raises on purpose."""


class DatabaseError(FleetError):
    """PostgreSQL answered with an error that no rule of ours explains."""


class DatabaseUnavailableError(DatabaseError):
    """No connection. Nothing is known to have happened; wait and try again."""


class DatabaseBusyError(DatabaseError):
    """A lock wait timed out, a deadlock was cut, or the lock table was full. Nothing happened; try again."""


class SchemaMismatchError(DatabaseError):
    """A function or table is missing: run `socialfleet migrate` with this program."""


class InvalidValueError(FleetError):
    """A value that can't be used.

    Attributes:
        field: the parameter's or column's name.
        value: what was given, shortened.
        allowed: what is allowed, in words.
    """

    def __init__(self, message: str, *, field: str = "", value: str | None = None, allowed: str = "") -> None:
        super().__init__(message)
        self.field = field
        self.value = value
        self.allowed = allowed


class PermissionRefusedError(FleetError):
    """The login role may not do this. Workers call functions; they touch no table."""


class LockLostError(FleetError):
    """The lock, or the lease on a job, belongs to somebody else by now. Stop that work, write nothing."""


LockLost = LockLostError
"""Its name in the contract."""


class ReservationLostError(LockLostError):
    """Units of a pool that are not one's own any more, or never were.

    Attributes:
        why: `released` or `used_up` (already), `expired` (its lease was over), `holder_died` (its process
            lost its session), `not_yours`, or `unknown`: never granted, or swept long ago.
    """

    def __init__(self, message: str, *, why: str) -> None:
        super().__init__(message)
        self.why = why


class ContentRefusedError(FleetError):
    """The lock on a content was not granted.

    Attributes:
        reason: `held`, `line`, `interval`, `recent_engagement` or `timed_out`.
        holder: who has it, or who is ahead, where that is known.
        retry_after_s: real seconds after which it may be had, where that is known.
        escalated: whether the coordinator was asked for a settlement.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str,
        holder: str | None = None,
        retry_after_s: float | None = None,
        escalated: bool = False,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.holder = holder
        self.retry_after_s = retry_after_s
        self.escalated = escalated


class QuotaRefusedError(FleetError):
    """The limiter granted no request.

    Attributes:
        endpoint: whose limit is full.
        retry_after_s: seconds after which to ask again, where that is known.
        execute_at: fleet time that is booked for the request; None where none was booked.
        booking_id: that booking.
    """

    def __init__(
        self,
        message: str,
        *,
        endpoint: str,
        retry_after_s: float | None = None,
        execute_at: datetime | None = None,
        booking_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.endpoint = endpoint
        self.retry_after_s = retry_after_s
        self.execute_at = execute_at
        self.booking_id = booking_id


class IncarnationLostError(FleetError):
    """This life has ended in the database's eyes. Stop acting at once; connect as a new incarnation."""


class HostTakenError(FleetError):
    """Another living manager has this host's name: set SOCIALFLEET_HOST to a name of its own."""


class TransitionRefusedError(FleetError):
    """The intent's present state doesn't allow this step.

    Attributes:
        state: the state that the intent is in, where it is known.
    """

    def __init__(self, message: str, *, state: str = "") -> None:
        super().__init__(message)
        self.state = state


class BreakerOpenError(FleetError):
    """The breaker of a service is open: nothing was tried.

    Attributes:
        retry_after_s: seconds of fleet time after which to ask again.
    """

    def __init__(self, reason: str, *, retry_after_s: float) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class NotAcknowledgedError(FleetError):
    """The commit came back with a warning: it may not have reached every copy. Take it as not done."""


class PoolerInBetweenError(FleetError):
    """Session locks don't survive a pooler: give the incarnation a direct connection to PostgreSQL."""

    WHAT_TO_DO = (
        "a pooler is between this process and PostgreSQL: session locks need a direct connection; let "
        "DATABASE_URL name the server itself, or SOCIALFLEET_DIRECT_DATABASE_URL the way around the pooler"
    )
