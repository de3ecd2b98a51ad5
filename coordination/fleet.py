"""Fleet: one process's place in the fleet, with one attribute a primitive."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Generic, Self, TypeVar

from coordination.accounts import Accounts
from coordination.acting import Act, OnConflict, OnQuota, acting_on
from coordination.alerts import Alerts
from coordination.audits import Audits
from coordination.breakers import Breakers
from coordination.budgets import Budgets
from coordination.cache import Cache
from coordination.candidates import Candidates
from coordination.conflicts import Conflicts
from coordination.database import Database
from coordination.engagement import Engagement, LockType, Priority, Scope
from coordination.failed_items import FailedItems
from coordination.flags import Flags
from coordination.health import HealthReports
from coordination.heartbeats import Heartbeats
from coordination.incarnation import Incarnation
from coordination.interactions import Interactions
from coordination.jobs import Jobs
from coordination.ledger import Ledger
from coordination.messages import Messages
from coordination.opt_outs import OptOuts
from coordination.policy import Policy
from coordination.rate_limits import RateLimits
from coordination.readings import Readings
from coordination.reservations import Reservations
from coordination.retention import Retention
from coordination.runs import Runs
from coordination.schedules import Schedules
from coordination.session import Session
from coordination.settings import Settings
from coordination.state import State

Kind = TypeVar("Kind")


class _Primitive(Generic[Kind]):
    """A primitive that is made when it is first asked for: no worker uses them all."""

    def __init__(self, kind: Callable[[Session], Kind]) -> None:
        self._kind = kind

    def __set_name__(self, _owner: type, name: str) -> None:
        self._name = name

    def __get__(self, fleet: "Fleet", _owner: type) -> Kind:
        made = self._kind(fleet.session)
        fleet.__dict__[self._name] = made  # found there before this from now on
        return made


class Fleet:
    """One incarnation and its primitives, on two connections: its own (liveness, beats) and the work's.

    The work connection belongs to one thread; `heartbeats` and `incarnation` to one other at most.
    """

    engagement = _Primitive(Engagement)
    rate_limits = _Primitive(RateLimits)
    reservations = _Primitive(Reservations)
    messages = _Primitive(Messages)
    conflicts = _Primitive(Conflicts)
    jobs = _Primitive(Jobs)
    schedules = _Primitive(Schedules)
    ledger = _Primitive(Ledger)
    settings = _Primitive(Settings)
    flags = _Primitive(Flags)
    state = _Primitive(State)
    cache = _Primitive(Cache)
    breakers = _Primitive(Breakers)
    budgets = _Primitive(Budgets)
    audit = _Primitive(Audits)
    accounts = _Primitive(Accounts)
    policy = _Primitive(Policy)
    opt_outs = _Primitive(OptOuts)
    readings = _Primitive(Readings)
    candidates = _Primitive(Candidates)
    interactions = _Primitive(Interactions)
    runs = _Primitive(Runs)
    failed_items = _Primitive(FailedItems)
    health = _Primitive(HealthReports)
    alerts = _Primitive(Alerts)
    retention = _Primitive(Retention)

    def __init__(self, dsn: str, incarnation: Incarnation, *, pooled: bool = False) -> None:
        self.incarnation = incarnation
        self.database = Database(dsn, name=f"{incarnation.worker}/{incarnation.slot}", pooled=pooled)
        self.session = Session(self.database, incarnation.id, incarnation.sleep)
        self.heartbeats = Heartbeats(incarnation)

    def acting_on(
        self,
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
    ) -> AbstractContextManager[Act]:
        """Hold the lock on a content, and a grant for one request, meanwhile: see `coordination.acting`.

        Raises:
            ContentRefusedError, QuotaRefusedError, LockLostError: as said there.
        """
        return acting_on(
            self,
            content,
            lock_type,
            endpoint=endpoint,
            account=account,
            duration_minutes=duration_minutes,
            priority=priority,
            wait_s=wait_s,
            scope=scope,
            score=score,
            on_conflict=on_conflict,
            on_quota=on_quota,
            keep_waiting=keep_waiting,
        )

    def close(self, reason: str = "closed") -> None:
        """End the incarnation in good order; leases that it held are free for others at once."""
        self.database.close()
        self.incarnation.close(reason)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def connect(
    dsn: str,
    name: str,
    *,
    slot: int = 1,
    host: str | None = None,
    listens: bool = True,
    direct_dsn: str | None = None,
) -> Fleet:
    """Join the fleet as a new incarnation of worker `name`.

    Args:
        dsn: the worker role's connection string.
        name: the worker's name.
        slot: which replica it is.
        host: the host's name in the fleet; None: the node's own.
        listens: whether it hears wake-ups itself; a worker that its manager wakes need not.
        direct_dsn: the way around a pooler, for the incarnation's session lock and for wake-ups; where it is
            given, `dsn` may lead through a pooler, also one that lends a session for a transaction only.

    Raises:
        DatabaseUnavailableError: no connection to PostgreSQL.
        PoolerInBetweenError: a pooler is in between; session locks need a direct connection.
        InvalidValueError: a name that is not 1 to 63 lower-case letters, digits, _ or -.
    """
    incarnation = Incarnation(direct_dsn or dsn, worker=name, slot=slot, host=host, listens=listens)
    try:
        incarnation.open()
    except BaseException:
        incarnation.database.close()
        raise
    return Fleet(dsn, incarnation, pooled=direct_dsn is not None)
