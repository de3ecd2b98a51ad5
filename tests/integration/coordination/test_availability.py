"""`check_availability` says what the request gets: the same worker's, of the same priority."""

from typing import Any

import pytest

from coordination import Fleet, Reservation
from coordination.database import Database, Json
from coordination.errors import InvalidValueError
from coordination.pools import configure_pool
from coordination.resources import Availability, Refused
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.lines import let_pass
from tests.integration.coordination.tables import Owner, assert_refused

EXACT = {"api_tweets": [500, 3600], "api_requests": [900, 900], "post_tweet": [50, 900]}


@pytest.fixture
def limits(console: Database) -> None:
    for endpoint, window in EXACT.items():
        console.call("configure_rate_windows", account="default", endpoint=endpoint, windows=Json([window]))


def spend(fleet: Fleet, n: int, endpoint: str = "post_tweet") -> None:
    for _ in range(n):
        grant = fleet.rate_limits.can_make_request(endpoint, "spender", "critical")
        assert grant.grant_id is not None
        fleet.rate_limits.record_usage(grant.grant_id, success=True)


def both(
    fleet: Fleet, resource_id: str, worker_id: str = "w", **options: Any
) -> tuple[Availability, Reservation | Refused]:
    """What is told, and then what is got."""
    told = fleet.reservations.check_availability("api_quota", resource_id, worker_id=worker_id, **options)
    return told, fleet.reservations.request_resource("api_quota", resource_id, worker_id, **options)


def assert_same(told: Availability, got: Reservation | Refused) -> Refused:
    """Both are a no, until the same moment."""
    assert not told.available
    assert isinstance(got, Refused)
    assert told.estimated_wait_minutes is not None
    assert got.retry_after_seconds is not None
    assert told.estimated_wait_minutes * 60 == pytest.approx(got.retry_after_seconds, abs=1, rel=0.02)
    return got


@pytest.mark.usefixtures("limits")
def test_the_last_requests_are_told_to_be_there_for_who_would_get_them(fleet: Fleet) -> None:
    spend(fleet, 41)
    got = assert_same(*both(fleet, "tweet"))  # nine are left: who comes back in a minute has one
    assert got.retry_after_seconds == pytest.approx(60, abs=1)
    told, got = both(fleet, "tweet", priority="critical")
    assert told.available
    assert isinstance(got, Reservation)


@pytest.mark.usefixtures("limits")
def test_what_is_kept_for_others_is_not_told_to_be_free(fleet: Fleet, console: Database) -> None:
    console.call("configure_rate_limit", account="default", endpoint="post_tweet", requests=40, window_s=900)
    assert fleet.rate_limits.can_make_request("post_tweet", "w", "critical").allowed
    while fleet.rate_limits.can_make_request("post_tweet", "w", "high").allowed:
        pass
    assert fleet.rate_limits.get_remaining_capacity("post_tweet").remaining > 1
    told, got = both(fleet, "tweet", "another", priority="high")
    assert (told.available, told.queue_position) == (False, 2)
    assert isinstance(got, Refused)
    for priority in ("low", "medium"):
        told, got = both(fleet, "tweet", priority=priority)
        assert (told.available, isinstance(got, Refused)) == (False, True)
    told, got = both(fleet, "tweet", priority="critical")
    assert (told.available, isinstance(got, Reservation)) == (True, True)


@pytest.mark.usefixtures("limits")
def test_who_had_its_share_is_told_no_and_who_had_none_yes(fleet: Fleet, console: Database) -> None:
    console.call(
        "configure_rate_limit", account="default", endpoint="search_tweets", requests=20, window_s=900
    )
    ask = fleet.rate_limits.can_make_request
    for _ in range(12):
        assert ask("search_tweets", "greedy").allowed
    assert ask("search_tweets", "shy").allowed
    told, got = both(fleet, "search", "greedy")
    assert (told.available, isinstance(got, Refused)) == (False, True)
    told, got = both(fleet, "search", "shy")
    assert (told.available, isinstance(got, Reservation)) == (True, True)


@pytest.mark.usefixtures("limits")
def test_without_an_id_a_quota_is_available_where_any_endpoint_has_one(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database
) -> None:
    check = fleet.reservations.check_availability
    assert check("api_quota").available
    for endpoint in (
        "post_tweet",
        "search_tweets",
        "users_me",
        "user_tweets",
        "get_tweets",
        "like_tweet",
    ):
        console.call("configure_rate_limit", account="default", endpoint=endpoint, requests=1, window_s=900)
        spend(fleet, 1, endpoint)
    assert check("api_quota").resource_id == "fetch_mentions"
    fleet_database.advance(60)
    console.call(
        "configure_rate_limit", account="default", endpoint="fetch_mentions", requests=1, window_s=900
    )
    spend(fleet, 1, "fetch_mentions")
    told = check("api_quota")
    assert (told.available, told.queue_position) == (False, 1)
    assert told.resource_id != "fetch_mentions"  # that is a minute later
    assert told.estimated_wait_minutes == pytest.approx(14, abs=0.2)
    with pytest.raises(InvalidValueError) as refused:
        check("api_quota", units=1000)
    assert_refused(refused, "units", "1000")


@pytest.mark.usefixtures("limits")
def test_more_than_is_ever_granted_at_once_is_refused_with_how_much_that_is(fleet: Fleet) -> None:
    ask, check = fleet.reservations.request_resource, fleet.reservations.check_availability
    for units in (51, 1000):
        with pytest.raises(InvalidValueError, match="at most 50 at a time") as refused:
            check("api_quota", "tweet", units=units)
        assert_refused(refused, "units", str(units))
        with pytest.raises(InvalidValueError, match="at most 50 at a time") as refused:
            ask("api_quota", "tweet", "w", units=units)
        assert_refused(refused, "estimated_requests", str(units))
    with pytest.raises(InvalidValueError, match="at most 900 at a time"):
        check("api_quota", kind="rate", units=901)  # the most that any of them can have


@pytest.mark.usefixtures("limits")
def test_a_pool_of_requests_is_asked_for_by_its_own_name(fleet: Fleet, console: Database) -> None:
    check = fleet.reservations.check_availability
    assert check("api_quota", "api_requests", units=900).available
    with pytest.raises(InvalidValueError) as refused:
        check("api_quota", "api_requests", units=901)
    assert_refused(refused, "units", "901")
    spend(fleet, 3, "users_me")
    told = check("api_quota", "api_requests", units=898)
    assert (told.available, told.resource_id) == (False, "api_requests")
    assert told.estimated_wait_minutes == pytest.approx(15, abs=0.2)
    console.call("configure_rate_limit", account="default", endpoint="api_tweets", requests=1, window_s=900)
    assert check("api_quota", "api_tweets").available
    spend(fleet, 1)
    assert not check("api_quota", "api_tweets").available


def test_ones_own_claim_of_a_moment_ago_is_before_nobody_else(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database
) -> None:
    configure_pool(console, "content", "pool", actor="me", reason="test", capacity=2, strategy="equal")
    with fleet_database.connect("other") as other:
        held = [fleet.reservations.reserve_resource("content", "pool", "greedy") for _ in range(2)]
        assert other.reservations.reserve_resource("content", "pool", "shy") is None
        assert held[0] is not None
        fleet.reservations.release_resource(held[0])
        check = other.reservations.check_availability
        assert (
            check("content", "pool", worker_id="greedy").available,
            check("content", "pool").queue_position,
        ) == (False, 2)
        assert check("content", "pool", worker_id="shy").available
        assert other.reservations.reserve_resource("content", "pool", "shy") is not None


def test_a_greater_need_is_told_a_better_place(fleet: Fleet, console: Database) -> None:
    configure_pool(console, "content", "pool", actor="me", reason="test", capacity=3, strategy="proportional")
    for worker in ("w", "w", "other"):
        assert fleet.reservations.reserve_resource("content", "pool", worker) is not None
    assert fleet.reservations.reserve_resource("content", "pool", "other") is None
    check = fleet.reservations.check_availability
    assert [check("content", "pool", worker_id="w", need=need).queue_position for need in (1, 4)] == [2, 1]


def test_no_more_is_told_than_what_the_gone_leave(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, console: Database
) -> None:
    configure_pool(console, "content", "pool", actor="me", reason="test", capacity=10)
    ask = fleet.reservations.reserve_resource
    assert ask("content", "pool", "w", units=6) is not None
    assert ask("content", "pool", "w", units=1, duration_minutes=1) is not None
    with fleet_database.connect("mortal") as mortal:
        assert mortal.reservations.reserve_resource("content", "pool", "gone", units=2) is not None
    let_pass(owner, 61)
    check = fleet.reservations.check_availability
    assert [check("content", "pool", units=units).available for units in (3, 4, 5)] == [True, True, False]
    assert ask("content", "pool", "w", units=5) is None
    assert ask("content", "pool", "w", units=4) is not None


@pytest.mark.usefixtures("limits")
def test_a_quota_that_nobody_holds_any_more_is_told_to_be_free(fleet: Fleet, owner: Owner) -> None:
    assert fleet.reservations.reserve_api_quota("w", "tweet", 50, priority="critical") is not None
    assert not fleet.reservations.check_availability("api_quota", "tweet", priority="critical").available
    owner.execute("UPDATE fleet.reservations SET lease_expires_at = clock_timestamp()")
    told, got = both(fleet, "tweet", units=2, priority="critical")
    assert (told.available, isinstance(got, Reservation)) == (True, True)
