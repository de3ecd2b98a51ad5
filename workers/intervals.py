"""When a worker's duties come round: every so often, by a cron line, or whenever there is a job.

`minutes(5)`, `cron("0 2 * * *", tz="Europe/Paris")` and `jobs("analyse")` are what `every` takes.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, TypeVar

from coordination.schedules import CronLine, Policy

Method = TypeVar("Method", bound=Callable[..., Any])

FIELDS: Final = re.compile(r"[0-9a-z*/,-]+( +[0-9a-z*/,-]+){4}", re.IGNORECASE)
"""What a cron line looks like; PostgreSQL reads it, and refuses what it doesn't mean."""
LONGEST_POLL_S: Final = 60.0
"""What became due in the database and woke nobody waits no longer than this for the next look."""
KIND: Final = re.compile(r"[a-z][a-z0-9_.-]{0,62}")

_ALSO = "__also_every__"


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A default interval; the live one is the worker's setting."""

    seconds: float


@dataclass(frozen=True, kw_only=True)
class Cron:
    """A cron line, and what becomes of slots for which nobody was there."""

    line: CronLine
    missed: Policy
    catch_up: int


@dataclass(frozen=True, kw_only=True)
class JobsOf:
    """Jobs of a kind, whenever there are some.

    Attributes:
        kind: the jobs' kind.
        at_once: how many are claimed in one round trip; a drain gives back those that are not begun.
        lease_s: real seconds for which a claim holds; renewed while the handler ticks.
        poll_s: real seconds between looks where no wake-up comes.
    """

    kind: str
    at_once: int
    lease_s: float
    poll_s: float


Every = Interval | Cron | JobsOf


def seconds(n: float) -> Interval:
    """An interval of `n` seconds."""
    return Interval(seconds=n)


def minutes(n: float) -> Interval:
    """An interval of `n` minutes."""
    return Interval(seconds=n * 60)


def hours(n: float) -> Interval:
    """An interval of `n` hours."""
    return Interval(seconds=n * 3600)


def cron(line: str, tz: str = "UTC", *, missed: Policy = "fire_once", catch_up: int = 24) -> Cron:
    """Slots by five fields (minute, hour, day of month, month, day of week) in an IANA zone.

    Of slots that nobody was there for the latest is made up (`missed`; see `coordination.schedules.Policy`).

    Raises:
        ValueError: that is no cron line. A field out of its range is refused when the worker starts.
    """
    if not FIELDS.fullmatch(line.strip()):
        raise ValueError(f"cron line is {line!r}: five fields are allowed, such as '0 2 * * mon-fri'")
    return Cron(line=CronLine(line=line.strip(), zone=tz), missed=missed, catch_up=catch_up)


def jobs(kind: str, *, at_once: int = 1, lease_s: float = 300.0, poll_s: float = 30.0) -> JobsOf:
    """Jobs of a kind: the worker's `handle(job)`, or the marked method, is called for each.

    Raises:
        ValueError: that is no kind of job, or the looks are too far apart.
    """
    if not 0 < poll_s <= LONGEST_POLL_S:
        raise ValueError(f"poll_s is {poll_s!r}: more than 0 and at most {LONGEST_POLL_S:g} s are allowed")
    if not KIND.fullmatch(kind):
        raise ValueError(f"kind is {kind!r}: 1 to 63 lower-case letters, digits, _, . or - are allowed")
    return JobsOf(kind=kind, at_once=at_once, lease_s=lease_s, poll_s=poll_s)


def also(every: Every) -> Callable[[Method], Method]:
    """Mark a method as a further duty with times of its own; one for jobs takes the job.

    The live setting of one with an interval is `<worker>_<method>_interval_s`.
    """

    def mark(method: Method) -> Method:
        setattr(method, _ALSO, every)
        return method

    return mark


@cache
def further_duties(kind: type) -> Mapping[str, Every]:
    """The methods of a worker that `also` marked, by name."""
    found: dict[str, Every] = {}
    for name in dir(kind):
        every = getattr(getattr(kind, name), _ALSO, None)
        if isinstance(every, Interval | Cron | JobsOf):
            found[name] = every
    return found
