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
|- IncarnationLostError         this process is not known alive any more: stop acting, connect anew
|- HostTakenError               another living manager has this host's name: give this one its own
|- TransitionRefusedError       the ledger forbids this step in the intent's present state
|- NotAcknowledgedError         a commit was not confirmed without doubt: take it as not done
`- PoolerInBetweenError         a pooler hides the server's sessions: connect to PostgreSQL itself
"""


class FleetError(Exception):
    """The root: whatever coordination raises on purpose."""


class DatabaseError(FleetError):
    """PostgreSQL answered with an error that no rule of ours explains."""


class DatabaseUnavailableError(DatabaseError):
    """No connection. Nothing is known to have happened; wait and try again."""


class DatabaseBusyError(DatabaseError):
    """A lock wait timed out or a deadlock was cut. Nothing happened; try again."""


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


class ReservationLostError(LockLostError):
    """Units of a pool that are not one's own any more, or never were.

    Attributes:
        why: `released` or `used_up` (already), `expired` (its lease was over), `holder_died` (its process
            lost its session), `not_yours`, or `unknown`: never granted, or swept long ago.
    """

    def __init__(self, message: str, *, why: str) -> None:
        super().__init__(message)
        self.why = why


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


class NotAcknowledgedError(FleetError):
    """The commit came back with a warning: it may not have reached every copy. Take it as not done."""


class PoolerInBetweenError(FleetError):
    """Session locks don't survive a pooler: give the incarnation a direct connection to PostgreSQL."""
