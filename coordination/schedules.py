"""Schedules: slots of fleet time, by an interval or a cron line, each fired by one process, or skipped.

All processes go by one line, the one registered last. A process registers its own with its first call in a
life, and again when it changes; from then on it only asks. One that was started with an older line is told
when the newer one's slots are: none is lost, none fires twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Literal

from coordination.answers import with_moments
from coordination.database import Database
from coordination.session import Session

Policy = Literal["skip", "fire_once", "fire_all"]
"""What becomes of slots for which nobody was there.

skip        they are counted; an interval's present slot fires all the same, a cron line's within 2 minutes
fire_once   the latest fires, the others are counted
fire_all    each fires, one after the other, at most the `catch_up` latest; the others are counted
"""


@dataclass(frozen=True, kw_only=True)
class CronLine:
    """Five fields (minute, hour, day of month, month, day of week) in an IANA zone.

    Lists, ranges, steps and English names are allowed. A slot in a daylight-saving gap is at the first
    instant after it, one in an overlap at the first of the two. Where day of month and of week are both
    restricted, either will do. PostgreSQL's own zones decide.
    """

    line: str
    zone: str = "UTC"


@dataclass(frozen=True, kw_only=True)
class Slot:
    """What became of asking.

    Attributes:
        fired: whether `slot_at` is this caller's to run.
        slot_at: the slot fired, else the last one that was decided, or the first to come; fleet time.
        skipped: slots that were found missed, and are not made up.
        next_at: the next slot that is not decided, fleet time.
        wait_s: real seconds until then.
        late_s: fleet seconds by which it fired late.
        paused: a person paused the schedule.
    """

    fired: bool
    slot_at: datetime
    skipped: int
    next_at: datetime
    wait_s: float
    late_s: float = 0.0
    paused: bool = False


class Schedules:
    """The fleet's schedules. An interval's first slot fires at once, a cron line's when it comes."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._registered: dict[str, tuple[object, ...]] = {}

    def fire(
        self, name: str, every: float | CronLine, *, policy: Policy = "skip", catch_up: int = 24
    ) -> Slot:
        """Claim a due slot of `name`, if there is one that nobody has. One round trip; locks its row.

        Args:
            name: the schedule's name.
            every: seconds of fleet time between slots, or a cron line.
            policy: what becomes of missed slots.
            catch_up: how many of them `fire_all` makes up at most.

        Raises:
            InvalidValueError: an interval below 1 second or above 366 days, a line or zone that is none.
        """
        line = _line(name, every)
        wanted = (*line.values(), policy, catch_up)
        answer = self._session.call(
            "fire_slot",
            name=name,
            interval_s=line["interval_s"],
            stagger_s=line["stagger_s"],
            cron=line["cron"],
            zone=line["zone"],
            policy=policy,
            catch_up=catch_up,
            registers=self._registered.get(name) != wanted,
        )
        self._registered[name] = wanted
        return Slot(**with_moments(answer, "slot_at", "next_at"))

    def check(self) -> int:
        """Raise an alert for each schedule that stands still; give how many are new. One round trip."""
        return int(self._session.call("check_schedules"))


def get_schedule_status(database: Database) -> list[dict[str, Any]]:
    """Give every schedule: its line, next slot, and how well it keeps its slots. One round trip.

    `fired`, `skipped` and `late_s` (fleet seconds) count since ever; `quality` is fired / (fired + skipped).
    """
    return list(database.call("get_schedule_status"))


def pause_schedule(database: Database, name: str, *, paused: bool, actor: str, reason: str) -> dict[str, Any]:
    """A person pauses a schedule or lets it go on; its slots meanwhile are none. Audited.

    Raises:
        InvalidValueError: there is no such schedule.
    """
    return dict(database.call("pause_schedule", name=name, paused=paused, actor=actor, reason=reason))


def stagger_s(name: str, interval_s: float) -> float:
    """Spread schedules of one interval over it, so that they don't all start at the full minute.

    The same on every host: up to a quarter of the interval, from the name's hash.
    """
    share = int.from_bytes(sha256(name.encode()).digest()[:4], "big") / 2**32
    return round(share * interval_s / 4, 3)


def _line(name: str, every: float | CronLine) -> Mapping[str, object]:
    if isinstance(every, CronLine):
        return {"interval_s": None, "stagger_s": 0.0, "cron": every.line, "zone": every.zone}
    return {"interval_s": float(every), "stagger_s": stagger_s(name, every), "cron": None, "zone": None}
