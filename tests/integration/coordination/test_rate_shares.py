"""Who comes first when there is not enough: weighted max-min where shares are fair, priority with ageing elsewhere."""

from collections import Counter
from datetime import timedelta

import pytest

from coordination import Fleet
from coordination.database import Database, Json
from coordination.engagement import Priority
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.queueing import Asker, Day, most_granted, run
from tests.integration.coordination.tables import Owner, planted, value

PRIORITIES: tuple[Priority, ...] = ("low", "medium", "high", "critical")
WIDE = (1_000_000, 900)


def configure(
    console: Database, endpoint: str, *windows: tuple[int, int], fair_share: bool | None = None
) -> None:
    console.call(
        "configure_rate_windows",
        account="default",
        endpoint=endpoint,
        windows=Json([list(window) for window in windows]),
        fair_share=fair_share,
    )


def each_priority(workers: int) -> list[Asker]:
    return [
        Asker(name=f"{priority}/{n}", priority=priority, begins_s=n * 0.01)
        for n in range(workers)
        for priority in PRIORITIES
    ]


def by_priority(made: Counter[str]) -> Counter[str]:
    found = Counter[str]()
    for name, number in made.items():
        found[name.partition("/")[0]] += number
    return found


def test_equal_workers_share_a_log_equally_and_leave_nothing_i9_i14(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database, owner: Owner
) -> None:
    configure(console, "search_tweets", (90, 300))
    askers = [Asker(name=f"worker/{n}", begins_s=n * 0.01) for n in range(16)]
    day = run(fleet_database, fleet, askers, endpoint="search_tweets", until_s=1500)
    made = day.between(300, 1500)
    assert most_granted(owner, 300) == 90
    assert sum(made.values()) >= 0.98 * 4 * 90
    fair = sum(made.values()) / 16
    assert max(abs(made[asker.name] - fair) for asker in askers) <= max(0.05 * fair, 1.01)


def test_shares_are_weighted_by_priority_and_nobody_starves_i14(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database, owner: Owner
) -> None:
    configure(console, "search_tweets", (90, 300))
    day = run(fleet_database, fleet, each_priority(4), endpoint="search_tweets", until_s=1500)
    made = by_priority(day.between(300, 1500))
    total = sum(made.values())
    assert most_granted(owner, 300) == 90
    assert total >= 0.98 * 4 * 90
    for weight, priority in enumerate(PRIORITIES, 1):
        assert made[priority] == pytest.approx(total * weight / 10, rel=0.06)


def test_gcra_spreads_shares_and_never_exceeds_the_limit_i9_i14(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database, owner: Owner
) -> None:
    configure(console, "search_tweets", (900, 3600))
    configure(console, "api_requests", WIDE)
    askers = each_priority(3)
    day = run(fleet_database, fleet, askers, endpoint="search_tweets", until_s=4000)
    assert value(
        owner,
        "SELECT spacing_us[1] > 0 FROM fleet.rate_limits WHERE endpoint = 'search_tweets' AND account = 'default'",
    )
    made = by_priority(day.between(400, 4000))
    total = sum(made.values())
    assert 0.98 * 900 <= most_granted(owner, 3600) <= 900
    assert total >= 0.98 * 900
    for weight, priority in enumerate(PRIORITIES, 1):
        assert made[priority] == pytest.approx(total * weight / 10, rel=0.06)
