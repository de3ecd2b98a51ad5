"""Who comes first when there is not enough: weighted max-min, or priority with ageing."""

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordination import Fleet
from coordination.database import Database, Json
from coordination.engagement import Priority
from coordination.rate_limits import Grant
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.queueing import Asker, configure, most_granted, run
from tests.integration.coordination.tables import Owner, value
from tests.integration.coordination.told import day_headers, headers, spend

PRIORITIES: tuple[Priority, ...] = ("low", "medium", "high", "critical")
WIDE = (1_000_000, 900)


def each_priority(workers: int, late_s: Callable[[], float] = lambda: 0.0) -> list[Asker]:
    return [
        Asker(name=f"{priority}/{n}", priority=priority, begins_s=n * 0.01, late_s=late_s)
        for n in range(workers)
        for priority in PRIORITIES
    ]


def by_priority(made: Counter[str]) -> Counter[str]:
    found = Counter[str]()
    for name, number in made.items():
        found[name.partition("/")[0]] += number
    return found


def test_equal_workers_share_a_log_equally_and_leave_nothing_i9_i14(
    fleet: Fleet, console: Database, owner: Owner
) -> None:
    configure(console, "search_tweets", (90, 300))
    askers = [Asker(name=f"worker/{n}", begins_s=n * 0.01) for n in range(16)]
    day = run(fleet, owner, askers, endpoint="search_tweets", until_s=1500)
    made = day.between(0, 1500)
    assert most_granted(owner, 300) == 90
    assert day.used(90, 300) >= 0.98
    fair = sum(made.values()) / 16
    assert max(abs(made[asker.name] - fair) for asker in askers) <= max(0.05 * fair, 1.01)


def test_who_is_slower_than_the_others_has_its_share_all_the_same_i14(
    fleet: Fleet, console: Database, owner: Owner
) -> None:
    configure(console, "search_tweets", (180, 900))
    configure(console, "api_requests", WIDE)
    askers = each_priority(4)
    slow = askers[-1]
    slow.pause_s = 4
    day = run(fleet, owner, askers, endpoint="search_tweets", until_s=4500)
    assert day.used(180, 900) >= 0.98
    made = day.between(900, 4500)
    share = sum(made.values()) * 4 / 40
    assert abs(made[slow.name] - share) <= 0.05 * share, made


@pytest.mark.parametrize(("latest_s", "seed"), [(0.0, 0), (0.05, 3), (0.5, 6), (3.0, 0)])
def test_shares_are_weighted_by_priority_and_nobody_starves_i14(
    fleet: Fleet, console: Database, owner: Owner, latest_s: float, seed: int
) -> None:
    configure(console, "search_tweets", (90, 300))
    chance = random.Random(seed)
    askers = each_priority(4, lambda: latest_s * chance.random() ** 3)  # most come almost at once
    day = run(fleet, owner, askers, endpoint="search_tweets", until_s=1500)
    made = day.between(0, 1500)
    total = sum(made.values())
    assert most_granted(owner, 300) == 90
    assert day.used(90, 300) >= 0.98
    for weight, priority in enumerate(PRIORITIES, 1):
        share = total * weight / 10 / 4
        for n in range(4):
            # One grant, and one of the window that is not over.
            assert abs(made[f"{priority}/{n}"] - share) <= max(0.05 * share, 1) + 1, made


def test_gcra_spreads_shares_and_never_exceeds_the_limit_i9_i14(
    fleet: Fleet, console: Database, owner: Owner
) -> None:
    console.call("set_setting", key="request_delay_s", value=Json(0.5), actor="me", reason="test")
    configure(console, "search_tweets", (640, 600))
    configure(console, "api_requests", WIDE)
    day = run(fleet, owner, each_priority(2), endpoint="search_tweets", until_s=720)
    assert value(owner, "SELECT burst[1] FROM fleet.rate_limits WHERE requests = 640") >= 10
    made = by_priority(day.between(120, 720))
    total = sum(made.values())
    assert 0.98 * 640 <= most_granted(owner, 600) <= 640
    assert total >= 0.98 * 640
    for weight, priority in enumerate(PRIORITIES, 1):
        assert made[priority] == pytest.approx(total * weight / 10, rel=0.08)


def test_small_shares_of_a_day_are_kept_by_the_light_and_the_heavy_i14(
    fleet: Fleet, console: Database, owner: Owner
) -> None:
    configure(console, "search_tweets", (50, 3600), (600, 86_400))  # a low one has 1.25 an hour
    configure(console, "api_requests", WIDE)
    day = run(fleet, owner, each_priority(2), endpoint="search_tweets", until_s=50 * 3600)
    made = day.between(2 * 3600, 50 * 3600)
    total = sum(made.values())
    for weight, priority in enumerate(PRIORITIES, 1):
        share = total * weight / 10 / 2
        for n in range(2):
            assert abs(made[f"{priority}/{n}"] - share) <= max(0.05 * share, 1), made


def test_by_priority_the_higher_go_first_and_waiting_lifts_the_lower_i12(
    fleet: Fleet, console: Database, owner: Owner
) -> None:
    configure(console, "post_tweet", (5, 100))
    configure(console, "api_tweets", WIDE)
    console.call("set_setting", key="rate_limit_ageing_s", value=Json(200), actor="me", reason="test")
    askers = each_priority(2)
    day = run(fleet, owner, askers, endpoint="post_tweet", until_s=1700)
    made = by_priority(day.between(100, 1700))
    assert made["critical"] > made["high"] >= made["medium"] >= made["low"] > 0
    assert sum(made.values()) >= 0.98 * 16 * 5
    # Three ranks of 200 s each, and the line before it.
    assert max(wait_s for asker in askers for wait_s in asker.waits_s) <= 3 * 200 + 2 * 100


def test_a_low_request_rises_past_the_part_that_is_kept_for_it_i12(
    fleet: Fleet, console: Database, owner: Owner
) -> None:
    configure(console, "post_tweet", (50, 500))
    configure(console, "api_tweets", WIDE)
    console.call("set_setting", key="rate_limit_ageing_s", value=Json(200), actor="me", reason="test")
    low = Asker(name="low", priority="low", begins_s=600)
    urgent = [Asker(name=f"critical/{number}", priority="critical") for number in range(4)]
    run(fleet, owner, [*urgent, low], endpoint="post_tweet", until_s=1600)
    assert low.waits_s
    assert max(low.waits_s) <= 3 * 200 + 500  # three ranks, and the window before the next unit


def ask(fleet: Fleet, worker: str, priority: Priority = "medium", endpoint: str = "post_tweet") -> Grant:
    return fleet.rate_limits.can_make_request(endpoint, worker, priority)


def settled(fleet: Fleet, grant: Grant) -> None:
    assert grant.grant_id is not None, grant
    fleet.rate_limits.record_usage(grant.grant_id, True)


def test_what_a_new_window_gives_at_once_goes_by_shares_too_i14(
    fleet: Fleet, console: Database, fleet_database: FleetDatabase
) -> None:
    configure(console, "search_tweets", (12, 100))
    configure(console, "api_requests", WIDE)
    priorities: dict[str, Priority] = {"light": "low", "heavy": "critical"}

    def granted(worker: str) -> bool:
        grant = ask(fleet, worker, priorities[worker], "search_tweets")
        if grant.grant_id is not None:
            fleet.rate_limits.record_usage(grant.grant_id, True)
        return grant.allowed

    assert granted("heavy")
    assert all(granted("light") for _ in range(5))  # while nobody knows that it is too little
    while granted("heavy"):
        pass
    fleet_database.advance(101)
    assert granted("heavy")
    assert not granted("light")
    assert sum(granted("heavy") for _ in range(10)) >= 6  # what the light one had more than its share


def test_once_all_is_there_again_nobody_waits_for_who_wants_no_more_i13(
    fleet: Fleet, console: Database, fleet_database: FleetDatabase
) -> None:
    configure(console, "search_tweets", (100, 600))
    configure(console, "api_requests", WIDE)

    def granted(worker: str) -> bool:
        grant = ask(fleet, worker, endpoint="search_tweets")
        if grant.grant_id is not None:
            fleet.rate_limits.record_usage(grant.grant_id, True)
        return grant.allowed

    def refusals(minutes: int) -> int:
        refused = 0
        for _ in range(minutes):
            fleet_database.advance(58)
            for worker in ("seldom", "often", "often"):
                refused += not granted(worker)
                fleet_database.advance(1)
        return refused

    refusals(20)
    while granted("often"):
        pass
    refusals(20)  # shares matter in the window after that, which gives both what they want
    assert refusals(20) == 0


def test_a_late_comer_passes_nobody_who_was_told_to_come_now_i12(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database
) -> None:
    configure(console, "post_tweet", (1, 60))
    settled(fleet, ask(fleet, "first"))
    told = [ask(fleet, worker).retry_after_seconds or 0 for worker in ("a", "b")]
    assert told[0] <= 60.1
    fleet_database.advance(told[0])
    late = ask(fleet, "late")
    assert not late.allowed
    assert late.reason == "2 wait for requests of post_tweet before"
    assert not ask(fleet, "b").allowed
    assert ask(fleet, "a").allowed


def test_who_stays_away_loses_the_place_and_nothing_stands_idle_i13(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database
) -> None:
    configure(console, "post_tweet", (1, 60))
    settled(fleet, ask(fleet, "first"))
    for worker in ("gone", "here"):
        assert not ask(fleet, worker).allowed
    fleet_database.advance(60)
    assert not ask(fleet, "here").allowed
    fleet_database.advance(3.5)
    assert ask(fleet, "here").allowed


def test_who_comes_at_intervals_of_its_own_is_not_passed_for_ever_i12(
    fleet: Fleet, console: Database, owner: Owner
) -> None:
    configure(console, "search_tweets", (50, 900))
    slow = Asker(name="slow", begins_s=20, every_s=60, pause_s=60)
    askers = [slow, *[Asker(name=f"here/{n}", begins_s=n * 0.01) for n in range(4)]]
    day = run(fleet, owner, askers, endpoint="search_tweets", until_s=1900)
    assert day.between(900, 1900)["slow"] >= 2
    assert max(slow.waits_s) <= 900 + 60
    assert day.used(50, 900) >= 0.98


def test_a_unit_is_held_as_long_as_who_comes_at_its_own_intervals_stayed_away_i13(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database
) -> None:
    configure(console, "post_tweet", (1, 900))
    settled(fleet, ask(fleet, "first"))
    assert not ask(fleet, "slow").allowed
    assert not ask(fleet, "here").allowed
    for seconds in (870, 20):  # told to come at 900 s both times
        fleet_database.advance(seconds)
        assert not ask(fleet, "slow").allowed
    fleet_database.advance(10 + 10)
    assert not ask(fleet, "here").allowed
    fleet_database.advance(4)
    assert ask(fleet, "here").allowed


def test_how_long_a_unit_is_held_for_who_should_come_is_set(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database
) -> None:
    console.call("set_setting", key="rate_limit_patience_s", value=Json(30), actor="me", reason="test")
    configure(console, "post_tweet", (1, 60))
    settled(fleet, ask(fleet, "first"))
    for worker in ("gone", "here"):
        assert not ask(fleet, worker).allowed
    fleet_database.advance(60 + 25)
    assert not ask(fleet, "here").allowed
    fleet_database.advance(6)
    assert ask(fleet, "here").allowed


def test_a_critical_request_goes_before_those_that_wait(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database
) -> None:
    configure(console, "post_tweet", (1, 60))
    settled(fleet, ask(fleet, "first"))
    assert not ask(fleet, "a", "high").allowed
    fleet_database.advance(60)
    assert ask(fleet, "urgent", "critical").allowed


def test_a_part_of_a_log_is_kept_for_critical_requests_once_there_are_any(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database
) -> None:
    configure(console, "post_tweet", (20, 60))
    settled(fleet, ask(fleet, "urgent", "critical"))
    fleet_database.advance(61)
    for _ in range(18):
        settled(fleet, ask(fleet, "a"))
    refused = ask(fleet, "a")
    assert refused.reason == "the last 2 requests of post_tweet are kept for other priorities"
    assert ask(fleet, "urgent", "critical").allowed
    assert ask(fleet, "urgent", "critical").allowed
    assert not ask(fleet, "urgent", "critical").allowed


def test_a_fiftieth_of_a_log_is_kept_for_low_requests_once_there_are_any(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database
) -> None:
    configure(console, "search_tweets", (100, 60))
    for priority in ("low", "critical"):
        settled(fleet, ask(fleet, priority, priority, "search_tweets"))
    fleet_database.advance(61)
    made = Counter[str]()
    for priority in ("medium", "low", "critical"):
        while (grant := ask(fleet, priority, priority, "search_tweets")).allowed:
            settled(fleet, grant)
            made[priority] += 1
    assert made == {"medium": 88, "low": 2, "critical": 10}


def test_with_fewer_than_ten_left_each_asker_comes_back_once_in_a_minute(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database
) -> None:
    configure(console, "post_tweet", (50, 900))
    for _ in range(41):
        settled(fleet, ask(fleet, "a"))
    refused = ask(fleet, "a")
    assert (
        refused.reason
        == "fewer than 10 requests of post_tweet are left: they go to who comes back in a minute"
    )
    assert refused.retry_after_seconds == pytest.approx(60, abs=0.1)
    fleet_database.advance(30)
    again = ask(fleet, "a").retry_after_seconds
    assert again is not None
    assert 28 <= again <= 30
    fleet_database.advance(again)
    for _ in range(8):
        settled(fleet, ask(fleet, "a"))
    assert ask(fleet, "urgent", "critical").allowed
    assert "50 of 50" in (ask(fleet, "a").reason or "")


def use(fleet: Fleet, number: int, endpoint: str = "post_tweet", **answer: Any) -> None:
    for _ in range(number):
        spend(fleet, endpoint, **answer)


@pytest.mark.parametrize("source", ["hour", "day", "pool", "pool of all", "headers", "headers of a day"])
def test_the_last_ten_of_any_count_are_asked_for_once_in_a_minute(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database, owner: Owner, source: str
) -> None:
    configure(console, "post_tweet", (100, 900))
    configure(console, "api_tweets", (100, 3600))
    if source == "hour":
        configure(console, "post_tweet", (100, 900), (50, 3600))
        use(fleet, 41)
    elif source == "day":
        configure(console, "post_tweet", (100, 900), (50, 86400))
        use(fleet, 41)
    elif source == "pool":
        configure(console, "api_tweets", (50, 3600))
        use(fleet, 41)
    elif source == "pool of all":
        configure(console, "api_requests", (50, 900))
        use(fleet, 20, "users_me")
        use(fleet, 21)
    elif source == "headers":
        use(fleet, 1, response_headers=headers(owner, 100, 9))
    else:
        use(fleet, 1, response_headers=day_headers(owner, "user", 1000, 9, 7200))
    refused = ask(fleet, "a")
    assert (refused.reason or "").startswith("fewer than 10 requests of post_tweet are left")
    assert refused.retry_after_seconds == pytest.approx(60, abs=0.1)
    fleet_database.advance(60)
    assert ask(fleet, "a").allowed
    fleet_database.advance(10)
    assert ask(fleet, "urgent", "critical").allowed


def test_a_workers_allocation_is_its_max_min_share_of_those_who_want(fleet: Fleet, console: Database) -> None:
    configure(console, "search_tweets", (40, 900), (100, 3600))
    for worker, number in (("small", 4), ("big", 36)):
        for _ in range(number):
            settled(fleet, ask(fleet, worker, endpoint="search_tweets"))
    for worker in ("big", "new"):
        assert not ask(fleet, worker, endpoint="search_tweets").allowed
    new = fleet.rate_limits.get_worker_allocation("search_tweets", "new")
    assert (new.allocated_per_15min, new.used_per_15min, new.remaining_allocation) == (18, 0, 18)
    assert (new.allocated_per_hour, new.used_per_hour) == (48, 0)
    big = fleet.rate_limits.get_worker_allocation("search_tweets", "big")
    assert (big.allocated_per_15min, big.used_per_15min, big.remaining_allocation) == (18, 36, 0)
    posts = fleet.rate_limits.get_worker_allocation("post_tweet", "new")
    assert (posts.allocated_per_15min, posts.allocated_per_hour) == (50, 200)


@given(
    capacity=st.integers(0, 100_000).map(lambda hundredths: hundredths / 100),
    claims=st.lists(st.tuples(st.integers(1, 4), st.integers(0, 500)), min_size=1, max_size=12),
)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_max_min_gives_all_that_is_wanted_or_all_there_is_and_raises_the_lowest(
    owner: Owner, capacity: float, claims: list[tuple[int, int]]
) -> None:
    weights, wants = [weight for weight, _ in claims], [want for _, want in claims]
    shares = value(
        owner, "SELECT fleet.max_min_shares(%s::float8, %s::float8[], %s::float8[])", capacity, weights, wants
    )
    assert sum(shares) == pytest.approx(min(capacity, sum(wants)))
    levels = [
        share / weight
        for share, weight, want in zip(shares, weights, wants, strict=True)
        if share < want - 1e-6
    ]
    for share, weight, want in zip(shares, weights, wants, strict=True):
        assert share <= want + 1e-6
        if levels:  # nobody has more by weight than one who wants more
            assert share / weight <= min(levels) + 1e-6
