"""Limits that change while they are used, and what is told and drawn of them then."""

import pytest

from coordination import Fleet
from coordination.database import Database
from coordination.engagement import Priority
from coordination.resources import Refused, Reservation
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.queueing import configure
from tests.integration.coordination.tables import Owner, rows, value
from tests.integration.coordination.told import ask, day_headers, granted, headers, spend

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


def draw(fleet: Fleet, quota: Reservation) -> float:
    """Make a request of a quota; how long it has to wait: 0 where it was made."""
    grant = fleet.reservations.use_api_quota(quota)
    if grant.grant_id is not None:
        fleet.rate_limits.record_usage(grant.grant_id, True)
    return grant.retry_after_seconds or 0.0


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
        assert draw(fleet, quota) == 0
    wait_s = draw(fleet, quota)
    assert wait_s == pytest.approx(800, abs=5)
    fleet_database.advance(wait_s)
    for _ in range(3):
        assert draw(fleet, quota) == 0


def test_of_a_spread_limit_that_is_lowered_no_more_is_drawn_than_it_allows_now(
    fleet: Fleet, console: Database
) -> None:
    configure(console, "api_requests", WIDE)
    configure(console, "search_tweets", (10_000, 900), (17_280, 86_400))
    quota = reserve(fleet, 200, "search_tweets")
    configure(console, "search_tweets", (10_000, 900), (2_000, 86_400))  # 30 at once at most
    assert draw(fleet, quota) > 0


def test_nothing_is_drawn_of_what_the_platform_says_is_used_up(
    fleet: Fleet, console: Database, owner: Owner, fleet_database: FleetDatabase
) -> None:
    configure(console, "search_tweets", (20, 900), fair_share=False)
    early = granted(fleet)
    quota = reserve(fleet, 10, "search_tweets")
    assert draw(fleet, quota) == 0
    fleet.rate_limits.record_usage(early, True, headers(owner, 20, 0, 600), status=200)  # others used it
    wait_s = draw(fleet, quota)
    assert wait_s == pytest.approx(600, abs=5)
    fleet_database.advance(wait_s)
    assert draw(fleet, quota) == 0


def test_who_finds_only_what_a_pool_keeps_is_told_when_there_is_more(
    fleet: Fleet, console: Database, fleet_database: FleetDatabase
) -> None:
    configure(console, "like_tweet", (100, 900), fair_share=False)
    configure(console, "api_requests", (20, 900))
    assert use(fleet, "c", "like_tweet", "critical")  # ten are kept from now on
    fleet_database.advance(1000)
    for _ in range(14):
        assert use(fleet, "b", "users_me")
    refused = fleet.rate_limits.can_make_request("like_tweet", "a")
    assert refused.retry_after_seconds is not None
    assert refused.retry_after_seconds > 800, refused
    fleet_database.advance(refused.retry_after_seconds)
    assert use(fleet, "a", "like_tweet")


def test_who_finds_only_what_is_kept_beside_what_is_set_aside_is_not_told_to_ask_at_once(
    fleet: Fleet, console: Database, fleet_database: FleetDatabase
) -> None:
    configure(console, "like_tweet", (40, 900), fair_share=False)
    assert use(fleet, "c", "like_tweet", "critical")  # four are kept from now on
    fleet_database.advance(1000)
    assert isinstance(fleet.reservations.request_api_quota("b", "like_tweet", 36), Reservation)
    refused = fleet.rate_limits.can_make_request("like_tweet", "a")
    assert refused.retry_after_seconds == pytest.approx(15, abs=0.1), refused


def test_who_waits_behind_more_than_is_used_is_told_when_those_before_leave_the_window(
    fleet: Fleet, console: Database
) -> None:
    configure(console, "like_tweet", (10, 900), fair_share=False)
    for _ in range(3):
        assert use(fleet, "a", "like_tweet")
    for worker in ("b", "c"):
        refused = fleet.reservations.request_api_quota(worker, "like_tweet", 8)
        assert isinstance(refused, Refused)
        assert refused.retry_after_seconds == pytest.approx(900, abs=10), worker


def test_who_waits_for_a_pool_is_told_a_time_behind_those_before(
    fleet: Fleet, console: Database, fleet_database: FleetDatabase
) -> None:
    configure(console, "like_tweet", (100, 900), fair_share=False)
    configure(console, "api_requests", (3, 900))
    for _ in range(3):
        assert use(fleet, "b", "users_me")
        fleet_database.advance(100)
    told = [fleet.rate_limits.can_make_request("like_tweet", name).retry_after_seconds for name in "xyz"]
    assert told == [pytest.approx(seconds, abs=10) for seconds in (600, 700, 800)]


def test_a_booking_keeps_what_is_kept_for_others(
    fleet: Fleet, console: Database, fleet_database: FleetDatabase
) -> None:
    configure(console, "post_tweet", (40, 900))
    configure(console, "api_tweets", WIDE)
    assert use(fleet, "c", "post_tweet", "critical")  # four are kept from now on
    fleet_database.advance(1000)
    while use(fleet, "a", "post_tweet"):
        fleet_database.advance(1)
    fleet_database.advance(60)
    booking = fleet.rate_limits.schedule_request("post_tweet", "booker")
    fleet_database.advance(booking.estimated_delay_seconds + 0.1)
    grant = fleet.rate_limits.can_make_request("post_tweet", "booker")
    assert grant.allowed, (booking.estimated_delay_seconds, grant)


def test_what_the_platform_counts_of_a_day_is_told_when_it_crosses(
    fleet: Fleet, console: Database, owner: Owner
) -> None:
    configure(console, "search_tweets", (100, 900), (1000, 86_400))
    spend(fleet, response_headers=day_headers(owner, "user", 1000, 40, 3600), status=200)
    spend(fleet)
    assert rows(
        owner, "SELECT data->>'percent', data->>'window_s' FROM fleet.events WHERE kind = 'rate_limit'"
    ) == [("95", "86400")]


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


def test_a_booking_keeps_what_will_be_kept_when_it_is_due(
    fleet: Fleet, console: Database, fleet_database: FleetDatabase
) -> None:
    configure(console, "post_tweet", (40, 900))
    configure(console, "api_tweets", WIDE)
    for _ in range(4):  # the kept part: it is kept again once these have left
        assert use(fleet, "c", "post_tweet", "critical")
        fleet_database.advance(10)
    while use(fleet, "a", "post_tweet"):
        fleet_database.advance(1)
    booking = fleet.rate_limits.schedule_request("post_tweet", "booker")
    fleet_database.advance(booking.estimated_delay_seconds + 0.1)
    grant = fleet.rate_limits.can_make_request("post_tweet", "booker")
    assert grant.allowed, (booking.estimated_delay_seconds, grant)


def test_a_quota_that_nobody_holds_of_a_limit_with_a_spread_window_is_told_to_be_free(
    fleet: Fleet, owner: Owner, fleet_database: FleetDatabase
) -> None:
    reserve(fleet, 36, "post_tweet")
    fleet_database.advance(2000)
    owner.execute("UPDATE fleet.reservations SET lease_expires_at = clock_timestamp()")
    told = fleet.reservations.check_availability(
        "api_quota", "tweet", priority="critical", worker_id="w", units=20
    )
    got = fleet.reservations.request_api_quota("w", "tweet", 20, priority="critical")
    assert (told.available, isinstance(got, Reservation)) == (True, True)


def test_ones_own_single_request_takes_the_place_of_ones_quota_from_nobody(
    fleet: Fleet, console: Database, owner: Owner
) -> None:
    configure(console, "like_tweet", (10, 900), fair_share=False)
    for _ in range(7):
        assert use(fleet, "b", "like_tweet")
    assert isinstance(fleet.reservations.request_api_quota("q", "like_tweet", 5), Refused)
    assert use(fleet, "q", "like_tweet")
    assert (
        value(
            owner, "SELECT count(*) FROM fleet.rate_demands WHERE worker_id = 'q' AND waiting AND units = 5"
        )
        == 1
    )


def test_status_tells_what_the_platform_counts_where_a_tighter_window_makes_another_needless(
    fleet: Fleet, console: Database, owner: Owner
) -> None:
    configure(console, "search_tweets", (40, 3600))
    spend(fleet, response_headers=headers(owner, 40, 0, 600), status=200)
    assert not ask(fleet).allowed
    assert fleet.rate_limits.get_remaining_capacity("search_tweets").remaining == 0
    status = next(one for one in fleet.rate_limits.get_system_status() if one["endpoint"] == "search_tweets")
    assert status["remaining"] == 0
