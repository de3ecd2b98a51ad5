"""Schedules: slots on a grid of fleet time, each fired exactly once across all processes."""

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from coordination.answers import with_moments
from coordination.session import Session


@dataclass(frozen=True, kw_only=True)
class Slot:
    """What became of asking.

    Attributes:
        fired: whether the current slot is this caller's to run.
        slot_at: the current slot, fleet time.
        skipped: slots before it that nobody was there to fire.
        next_at: the next slot, fleet time.
        wait_s: real seconds until then.
    """

    fired: bool
    slot_at: datetime
    skipped: int
    next_at: datetime
    wait_s: float


class Schedules:
    """The fleet's schedules. A new schedule fires at once; missed slots are counted, not made up."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def fire(self, name: str, interval_s: float) -> Slot:
        """Claim the current slot of `name`, if nobody has. One round trip; locks the schedule's row.

        Raises:
            InvalidValueError: an interval below 1 second or above 366 days.
        """
        answer = self._session.call(
            "fire_slot", name=name, interval_s=float(interval_s), stagger_s=stagger_s(name, interval_s)
        )
        return Slot(**with_moments(answer, "slot_at", "next_at"))


def stagger_s(name: str, interval_s: float) -> float:
    """Spread schedules of one interval over it, so that they don't all start at the full minute.

    The same on every host: up to a quarter of the interval, from the name's hash.
    """
    share = int.from_bytes(sha256(name.encode()).digest()[:4], "big") / 2**32
    return round(share * interval_s / 4, 3)
