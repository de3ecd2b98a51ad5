"""A session: the work connection together with the life on whose behalf it speaks."""

from typing import Any, LiteralString
from uuid import UUID

from coordination.database import Database


class Session:
    """What every primitive is given: calls that carry the incarnation's id as their first argument."""

    def __init__(self, database: Database, incarnation: UUID) -> None:
        self.database = database
        self.incarnation = incarnation

    def call(self, function: LiteralString, *, acknowledged: bool = False, **arguments: object) -> Any:
        """Call `fleet.<function>(incarnation, ...)`; one round trip."""
        return self.database.call(
            function, acknowledged=acknowledged, incarnation=self.incarnation, **arguments
        )
