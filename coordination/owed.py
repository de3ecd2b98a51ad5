"""Owed calls: what the database must be told and could not be. Made again before the next request."""

from collections import deque
from typing import Any, Final, LiteralString

from coordination.errors import DatabaseBusyError, DatabaseUnavailableError, FleetError
from coordination.session import Session

MOST: Final = 100
"""Calls that are kept; the database settles by itself what is older."""


class Owed:
    """The owed calls of one life, in their order. Each can be made twice: the second time changes nothing."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._calls: deque[tuple[LiteralString, dict[str, Any]]] = deque(maxlen=MOST)

    def add(self, function: LiteralString, **arguments: Any) -> None:
        """Owe a call."""
        self._calls.append((function, arguments))

    def call(self, function: LiteralString, **arguments: Any) -> Any:
        """Make a call; owe it where the database is away or busy. One round trip."""
        try:
            return self._session.call(function, **arguments)
        except (DatabaseUnavailableError, DatabaseBusyError):
            self.add(function, **arguments)
            raise

    def pay(self) -> None:
        """Make what is owed, as far as the database answers; what it refuses for good is forgotten."""
        while self._calls:
            function, arguments = self._calls[0]
            try:
                self._session.call(function, **arguments)
            except (DatabaseUnavailableError, DatabaseBusyError):
                return
            except FleetError:  # this life is over: the next one's beginning settles for it
                pass
            self._calls.popleft()
