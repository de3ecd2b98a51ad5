"""Fleet: one process's place in the fleet, with one attribute a primitive."""

from typing import Self

from coordination.accounts import Accounts
from coordination.alerts import Alerts
from coordination.audits import Audits
from coordination.candidates import Candidates
from coordination.conflicts import Conflicts
from coordination.database import Database
from coordination.engagement import Engagement
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
from coordination.retention import Retention
from coordination.runs import Runs
from coordination.schedules import Schedules
from coordination.session import Session
from coordination.settings import Settings


class Fleet:
    """One incarnation and its primitives, on two connections: its own (liveness, beats) and the work's.

    The work connection belongs to one thread; `heartbeats` and `incarnation` to one other at most.
    """

    def __init__(self, dsn: str, incarnation: Incarnation) -> None:
        self.incarnation = incarnation
        self.database = Database(dsn, name=f"{incarnation.worker}/{incarnation.slot}")
        session = Session(self.database, incarnation.id)
        self.engagement = Engagement(session)
        self.rate_limits = RateLimits(session)
        self.messages = Messages(session)
        self.conflicts = Conflicts(session)
        self.jobs = Jobs(session)
        self.schedules = Schedules(session)
        self.ledger = Ledger(session)
        self.settings = Settings(session)
        self.flags = Flags(session)
        self.audit = Audits(session)
        self.accounts = Accounts(session)
        self.policy = Policy(session)
        self.opt_outs = OptOuts(session)
        self.readings = Readings(session)
        self.candidates = Candidates(session)
        self.interactions = Interactions(session)
        self.runs = Runs(session)
        self.failed_items = FailedItems(session)
        self.health = HealthReports(session)
        self.alerts = Alerts(session)
        self.retention = Retention(session)
        self.heartbeats = Heartbeats(incarnation)

    def close(self, reason: str = "closed") -> None:
        """End the incarnation in good order; leases that it held are free for others at once."""
        self.database.close()
        self.incarnation.close(reason)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def connect(dsn: str, name: str, *, slot: int = 1, host: str | None = None, listens: bool = True) -> Fleet:
    """Join the fleet as a new incarnation of worker `name`.

    Args:
        dsn: the worker role's connection string.
        name: the worker's name.
        slot: which replica it is.
        host: the host's name in the fleet; None: the node's own.
        listens: whether it hears wake-ups itself; a worker that its manager wakes need not.

    Raises:
        DatabaseUnavailableError: no connection to PostgreSQL.
        PoolerInBetweenError: a pooler is in between; session locks need a direct connection.
        InvalidValueError: a name that is not 1 to 63 lower-case letters, digits, _ or -.
    """
    incarnation = Incarnation(dsn, worker=name, slot=slot, host=host, listens=listens)
    try:
        incarnation.open()
    except BaseException:
        incarnation.database.close()
        raise
    return Fleet(dsn, incarnation)
