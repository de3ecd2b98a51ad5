"""Many workers that ask in fleet time: each comes back exactly when it was told to, time jumps between."""

import heapq
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from coordination import Fleet
from coordination.database import Database, Json
from coordination.engagement import Priority
from tests.integration.conftest import FleetDatabase
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
    """A worker that wants a request every `pause_s` after the last, from `begins_s` on."""

    name: str
    priority: Priority = "medium"
    pause_s: float = 0.0
    begins_s: float = 0.0
    waits_s: list[float] = field(default_factory=list[float])


@dataclass(kw_only=True)
class Day:
    """What a run gave: when each worker made a request (fleet seconds from its start)."""

    made: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])
    asked: int = 0

    def between(self, begin_s: float, end_s: float) -> Counter[str]:
        """Requests of each worker in a span."""
        return Counter(name for at, name in self.made if begin_s <= at < end_s)


def most_granted(owner: Owner, window_s: int) -> int:
    """The fullest rolling window, by the time of the grants themselves."""
    return value(
        owner,
        "SELECT max(n) FROM (SELECT count(*) OVER (ORDER BY granted_at "
        "RANGE BETWEEN %s PRECEDING AND CURRENT ROW) AS n FROM fleet.rate_grants) w",
        timedelta(seconds=window_s) - timedelta(microseconds=1),
    )


def run(
    database: FleetDatabase,
    fleet: Fleet,
    askers: list[Asker],
    *,
    endpoint: str,
    until_s: float,
    latency_s: float = 0.2,
) -> Day:
    """Let them ask until then; each request is settled `latency_s` after its grant."""
    day = Day()
    began = datetime.now(tz=UTC)
    moved_s = 0.0
    events: list[tuple[float, int, int, str | None]] = []
    wanted_since: dict[int, float] = {}
    for number, asker in enumerate(askers):
        heapq.heappush(events, (asker.begins_s, number, number, None))
    order = len(askers)
    with database.owner() as owner:
        while events and events[0][0] < until_s:
            at_s, _, number, grant_id = heapq.heappop(events)
            elapsed_s = (datetime.now(tz=UTC) - began).total_seconds() + moved_s
            if at_s > elapsed_s:
                owner.execute("SELECT fleet.move_clock(make_interval(secs => %s))", (at_s - elapsed_s,))
                moved_s += at_s - elapsed_s
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
                heapq.heappush(events, (at_s + answer.retry_after_seconds, order, number, None))
                continue
            day.made.append((at_s, asker.name))
            asker.waits_s.append(at_s - wanted_since.pop(number))
            heapq.heappush(events, (at_s + latency_s, order, number, answer.grant_id))
    return day
