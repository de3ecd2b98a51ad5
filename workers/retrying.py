"""Retrying: what must be told to the database is told again where it was busy for a moment."""

import random
from collections.abc import Callable
from threading import Event
from typing import Final, TypeVar

from coordination.errors import DatabaseBusyError
from workers.logs import Log

TRIES: Final = 3
LONGEST_S: Final = 30.0

Told = TypeVar("Told")

log = Log("retrying")


def busy_wait_s(times: int) -> float:
    """Real seconds until the next try after the database was busy `times` times: from 1 to 2, then longer."""
    return min(LONGEST_S, 2.0 ** min(times - 1, 5) * random.uniform(1, 2))  # noqa: S311  it guards nothing


def tell(report: Callable[[], Told], *, draining: Event) -> Told:
    """Make a report; where the database is busy, again after a wait, which a drain ends early.

    Raises:
        DatabaseBusyError: it was busy each of three times.
    """
    for times in range(1, TRIES):
        try:
            return report()
        except DatabaseBusyError as error:
            log.warning("the database is busy: told again", reason=str(error))
            draining.wait(busy_wait_s(times))
    return report()
