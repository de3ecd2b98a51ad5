"""Waiting in a line: a place in the database, polled, and looked at once more when somebody wakes it."""

from collections.abc import Callable
from contextlib import nullcontext, suppress
from threading import Event
from typing import Any, LiteralString

from coordination.errors import FleetError
from coordination.session import Session

POLL_S = 0.33
"""A waiter that is silent for a second is passed over: three polls are within it."""


def wait_for_turn(
    session: Session,
    ticket: str,
    *,
    poll: LiteralString,
    leave: LiteralString,
    wake: Callable[[dict[str, Any]], None],
    keep_waiting: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Poll a place in a line until it says that the wait is over; give that answer.

    Whatever ends it otherwise (an error, an interrupt) leaves the line.

    Args:
        session: whose life sleeps meanwhile.
        ticket: the place.
        poll: the SQL function that asks for it; its answer has `waits` while the wait goes on.
        leave: the one that gives the place up.
        wake: told each answer that may have others to wake.
        keep_waiting: asked before each poll; False gives the place up, and the answer's reason is `given_up`.
    """
    sleep = session.sleep
    answer: dict[str, Any] = {"granted": False, "waits": False, "reason": "given_up"}
    is_over = False
    try:
        with sleep.listening() if sleep else nullcontext():
            while keep_waiting is None or keep_waiting():
                found = dict(session.call(poll, ticket=ticket))
                is_over = found["granted"] or not found["waits"]
                if is_over:
                    answer = found
                    break
                sleep.wait(POLL_S) if sleep else Event().wait(POLL_S)
    finally:
        if not is_over:
            with suppress(FleetError):  # it is passed over from its next missed poll on, and swept
                wake(session.call(leave, ticket=ticket))
    wake(answer)
    return answer
