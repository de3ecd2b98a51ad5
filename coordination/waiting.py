"""Waiting in a line: a place in the database, polled, and looked at once more when somebody wakes it."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, LiteralString

from coordination.errors import FleetError
from coordination.session import Session

CHANNEL = "fleet_room"
"""Where waiters hear, by their ticket, that there may be room."""
POLL_S = 0.33
"""A waiter that is silent for a second is passed over: three polls are within it."""


def wait_for_turn(
    session: Session,
    ticket: str,
    *,
    poll: LiteralString,
    leave: LiteralString,
    wake: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """Poll a place in a line until it says that the wait is over; give that answer.

    Whatever ends it otherwise (an error, an interrupt) leaves the line.

    Args:
        session: its work connection listens meanwhile.
        ticket: the place.
        poll: the SQL function that asks for it; its answer has `waits` while the wait goes on.
        leave: the one that gives the place up.
        wake: told each answer that may have others to wake.
    """
    database = session.database
    database.listen(CHANNEL)
    try:
        while True:
            answer = dict(session.call(poll, ticket=int(ticket)))
            if answer["granted"] or not answer["waits"]:
                wake(answer)
                return answer
            for named in database.notifications(POLL_S):
                if named == ticket:
                    break
    except BaseException:
        _leave(session, ticket, leave, wake)
        raise
    finally:
        _stop_listening(session)


def _leave(
    session: Session, ticket: str, leave: LiteralString, wake: Callable[[dict[str, Any]], None]
) -> None:
    with suppress(FleetError):  # it is passed over from its next missed poll on, and swept at its deadline
        wake(session.call(leave, ticket=int(ticket)))


def _stop_listening(session: Session) -> None:
    with suppress(FleetError):  # a lost connection listens to nothing
        session.database.stop_listening(CHANNEL)
