"""A session: the work connection together with the life on whose behalf it speaks."""

from contextlib import suppress
from typing import Any, LiteralString
from uuid import UUID

from coordination.database import Database
from coordination.errors import FleetError
from coordination.sleeping import Sleep


def wake(database: Database, name: str) -> None:
    """Wake whoever listens for a name: one round trip, outside the business transaction.

    Never raises: what went before is done, and a lost wake-up costs a poll.
    """
    with suppress(FleetError):
        database.call("wake", worker=name)


class Session:
    """What every primitive is given: calls that carry the incarnation's id as their first argument.

    Attributes:
        sleep: how the life's work thread waits for its turn; None where it has no connection to be woken on.
    """

    def __init__(self, database: Database, incarnation: UUID, sleep: Sleep | None = None) -> None:
        self.database = database
        self.incarnation = incarnation
        self.sleep = sleep

    def call(self, function: LiteralString, *, acknowledged: bool = False, **arguments: object) -> Any:
        """Call `fleet.<function>(incarnation, ...)`; one round trip."""
        return self.database.call(
            function, acknowledged=acknowledged, incarnation=self.incarnation, **arguments
        )

    def wake(self, sleeper: str | None) -> None:
        """Wake the life that an answer names, if any: one round trip, outside the business transaction."""
        if sleeper is not None:
            with suppress(FleetError):  # what went before is done, and a lost wake-up costs a poll
                self.database.call("wake_incarnation", sleeper=sleeper)
