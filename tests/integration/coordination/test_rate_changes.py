"""Limits that change while they are used, and what is told and drawn of them then."""

import pytest

from coordination import Fleet
from coordination.database import Database
from coordination.engagement import Priority
from coordination.resources import Reservation
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.queueing import configure
from tests.integration.coordination.tables import Owner
from tests.integration.coordination.told import ask, granted, headers, spend

WIDE = (1_000_000, 900)


def use(fleet: Fleet, worker: str, endpoint: str, priority: Priority = "medium") -> bool:
    """Ask for one request and make it, if it may be."""
    grant = fleet.rate_limits.can_make_request(endpoint, worker, priority)
    if grant.grant_id is not None:
        fleet.rate_limits.record_usage(grant.grant_id, True)
    return grant.allowed


def reserve(fleet: Fleet, n: int, endpoint: str, worker: str = "holder") -> Reservation:
    quota = fleet.reservations.request_api_quota(worker, endpoint, n, priority="critical")
    assert isinstance(quota, Reservation), quota
    return quota


def draw(fleet: Fleet, quota: Reservation) -> float | None:
    """Make a request of a quota; how long it has to wait, if it has."""
    grant = fleet.reservations.use_api_quota(quota)
    if grant.grant_id is not None:
        fleet.rate_limits.record_usage(grant.grant_id, True)
    return grant.retry_after_seconds


def test_a_spread_limit_that_is_lowered_below_its_use_is_closed_no_longer_than_that_use_stays(
    fleet: Fleet, console: Database, owner: Owner, fleet_database: FleetDatabase
) -> None:
    configure(console, "api_requests", WIDE)
    configure(console, "search_tweets", (17_280, 86_400))
    spend(fleet)
    owner.execute(
        "INSERT INTO fleet.rate_grants (account, endpoint, incarnation, worker_id, priority, granted_at, "
        "granted_real_at, settled_at, success, frees_at, units) "
        "SELECT account, endpoint, incarnation, worker_id, priority, at, at, at, true, "
        "at + interval '1 day', 1000 FROM fleet.rate_grants, "
        "LATERAL (SELECT fleet.now() - h * interval '1 hour' AS at FROM generate_series(1, 12) h) t"
    )
    configure(console, "search_tweets", (5000, 86_400))
    refused = ask(fleet)
    assert refused.retry_after_seconds is not None
    # Of 12,001 the eight oldest thousands must have left: the last of them was used five hours ago.
    assert refused.retry_after_seconds / 3600 == pytest.approx(19, abs=0.1)
    fleet_database.advance(refused.retry_after_seconds + 1)
    assert ask(fleet).allowed


def test_of_a_limit_that_is_lowered_no_more_is_drawn_than_it_allows_now_i9(
    fleet: Fleet, console: Database, fleet_database: FleetDatabase
) -> None:
    configure(console, "like_tweet", (20, 900), fair_share=False)
    for _ in range(5):
        assert use(fleet, "a", "like_tweet")
    fleet_database.advance(100)
    quota = reserve(fleet, 10, "like_tweet")
    configure(console, "like_tweet", (12, 900), fair_share=False)
    for _ in range(7):
        assert draw(fleet, quota) is None
    wait_s = draw(fleet, quota)
    assert wait_s == pytest.approx(800, abs=5)
    fleet_database.advance(wait_s)
    for _ in range(3):
        assert draw(fleet, quota) is None


def test_of_a_spread_limit_that_is_lowered_no_more_is_drawn_than_it_allows_now(
    fleet: Fleet, console: Database
) -> None:
    configure(console, "api_requests", WIDE)
    configure(console, "search_tweets", (10_000, 900), (17_280, 86_400))
    quota = reserve(fleet, 200, "search_tweets")
    configure(console, "search_tweets", (10_000, 900), (2_000, 86_400))  # 30 at once at most
    assert draw(fleet, quota) is not None


def test_nothing_is_drawn_of_what_the_platform_says_is_used_up(
    fleet: Fleet, console: Database, owner: Owner, fleet_database: FleetDatabase
) -> None:
    configure(console, "search_tweets", (20, 900), fair_share=False)
    early = granted(fleet)
    quota = reserve(fleet, 10, "search_tweets")
    assert draw(fleet, quota) is None
    fleet.rate_limits.record_usage(early, True, headers(owner, 20, 0, 600), status=200)  # others used it
    wait_s = draw(fleet, quota)
    assert wait_s == pytest.approx(600, abs=5)
    fleet_database.advance(wait_s)
    assert draw(fleet, quota) is None


def test_what_is_set_aside_of_a_spread_limit_closes_it_to_nobody_while_a_request_hangs(
    fleet: Fleet, console: Database, fleet_database: FleetDatabase
) -> None:
    configure(console, "api_requests", WIDE)
    configure(console, "search_tweets", (17_280, 86_400))
    reserve(fleet, 200, "search_tweets")
    granted(fleet)  # hangs
    fleet_database.advance(2000)
    assert isinstance(
        fleet.reservations.request_api_quota("other", "search_tweets", 200, priority="critical"), Reservation
    )
