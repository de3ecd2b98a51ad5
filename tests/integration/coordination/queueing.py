"""Many workers that ask in fleet time: each comes back when it was told to, time jumps between."""

import heapq
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import fmean

from coordination import Fleet
from coordination.database import Database, Json
from coordination.engagement import Priority
from tests.integration.coordination.tables import Owner, value


def configure(
    console: Database, endpoint: str, *windows: tuple[int, int], fair_share: bool | None = None
) -> None:
    """Set an endpoint's windows as a person does."""
    console.call(
        "configure_rate_windows",
        account="default",
        endpoint=endpoint,
        windows=Json([list(window) for window in windows]),
        fair_share=fair_share,
    )


@dataclass(kw_only=True)
class Asker:
    """A worker that wants a request every `pause_s` after the last, from `begins_s` on.

    `late_s` says how much later than it was told it comes; with `every_s` it comes at its own intervals,
    whatever it is told.
    """

    name: str
    priority: Priority = "medium"
    pause_s: float = 0.0
    begins_s: float = 0.0
    late_s: Callable[[], float] = lambda: 0.0
    every_s: float | None = None
    waits_s: list[float] = field(default_factory=list[float])


@dataclass(kw_only=True)
class Day:
    """What a run gave: when each worker made a request (fleet seconds from its start)."""

    made: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])
    asked: int = 0

    def between(self, begin_s: float, end_s: float) -> Counter[str]:
        """Requests of each worker in a span."""
        return Counter(name for at, name in self.made if begin_s <= at < end_s)

    def used(self, limit: int, window_s: float) -> float:
        """How much of the limit was used: the window over the mean time from a request to the N-th after."""
        times = [at for at, _ in self.made]
        return window_s / fmean(end - begin for begin, end in zip(times, times[limit:], strict=False))


def most_granted(owner: Owner, window_s: int) -> int:
    """The fullest rolling window, by the time of the grants themselves."""
    return value(
        owner,
        "SELECT max(n) FROM (SELECT count(*) OVER (ORDER BY granted_at "
        "RANGE BETWEEN %s PRECEDING AND CURRENT ROW) AS n FROM fleet.rate_grants) w",
        timedelta(seconds=window_s) - timedelta(microseconds=1),
    )


STILL = 2e-5
"""The clock's rate in a run: what a step takes on this machine is less than a microsecond of fleet time."""


def run(
    fleet: Fleet,
    owner: Owner,
    askers: list[Asker],
    *,
    endpoint: str,
    until_s: float,
    latency_s: float = 0.2,
) -> Day:
    """Let them ask until then; each request is settled `latency_s` after its grant.

    Time moves between the steps only, so that a run is the same on any machine.
    """
    day = Day()
    began = _stand_still(owner)
    events: list[tuple[float, int, int, str | None]] = []
    wanted_since: dict[int, float] = {}
    for number, asker in enumerate(askers):
        heapq.heappush(events, (asker.begins_s, number, number, None))
    order = len(askers)
    while events and events[0][0] < until_s:
        at_s, _, number, grant_id = heapq.heappop(events)
        owner.execute(
            "UPDATE fleet.clock SET real0 = clock_timestamp(), fleet0 = %s",
            (began + timedelta(seconds=at_s),),
        )
        asker = askers[number]
        order += 1
        if grant_id is not None:
            fleet.rate_limits.record_usage(grant_id, True)
            heapq.heappush(events, (at_s + asker.pause_s, order, number, None))
            continue
        wanted_since.setdefault(number, at_s)
        day.asked += 1
        answer = fleet.rate_limits.can_make_request(endpoint, asker.name, asker.priority)
        if answer.grant_id is None:
            assert answer.retry_after_seconds is not None
            pause_s = asker.every_s or answer.retry_after_seconds + asker.late_s()
            heapq.heappush(events, (at_s + pause_s, order, number, None))
            continue
        day.made.append((at_s, asker.name))
        asker.waits_s.append(at_s - wanted_since.pop(number))
        heapq.heappush(events, (at_s + latency_s, order, number, answer.grant_id))
    return day


def _stand_still(owner: Owner) -> datetime:
    """Stop the clock, and let the limiter reckon as if it ran as ever: its seconds are real ones."""
    for key, seconds in (("request_delay_s", 15), ("rate_limit_patience_s", 3)):
        owner.execute(
            "INSERT INTO fleet.settings (key, value, version, changed_by, reason, changed_at) "
            "VALUES (%(key)s, to_jsonb(%(seconds)s / %(rate)s::float8), 1, 'test', 'test', now()) "
            "ON CONFLICT (key) DO UPDATE SET value = to_jsonb(settings.value::float8 / %(rate)s)",
            {"key": key, "seconds": seconds, "rate": STILL},
        )
    return value(owner, "SELECT fleet.move_clock(interval '0', %s)", STILL)
