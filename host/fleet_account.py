"""The account in the fleet's database: made if need be, at a rehearsal's pace in the fleet's own sandbox.

TimeMovedError      a real account, and a database whose fleet time a rehearsal moved
"""

from coordination import accounts
from coordination.database import Database
from host import rehearsal_clock, rehearsal_pace, x_account
from host.x_account import XAccount


class TimeMovedError(Exception):
    """A rehearsal moved this database's time: no real account works by it."""

    exit_code = 2


def ensure(database: Database, x: XAccount, *, own_sandbox: bool) -> bool:
    """Make the account unless it is there; say whether a rehearsal's short intervals were taken back.

    Args:
        database: as the maintainer.
        x: the account, and where its X is.
        own_sandbox: whether that X is the sandbox that the fleet runs itself.

    Raises:
        TimeMovedError: says what to do.
        DatabaseError: the database is away, or refuses.
    """
    accounts.ensure_account(
        database,
        x.name,
        platform="x",
        api_url=x.api_url,
        sandbox=x.sandbox,
        topics=x_account.TOPICS,
        tier=x.tier,
    )
    if not x.sandbox and rehearsal_clock.is_moved(database):
        raise TimeMovedError(
            "a rehearsal moved this database's fleet time: a real account needs another database"
        )
    if own_sandbox:
        rehearsal_pace.seed(database)
    return not x.sandbox and rehearsal_pace.take_back(database)
