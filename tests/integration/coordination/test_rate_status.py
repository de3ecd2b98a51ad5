"""What is told of a limit is what an ask would find: windows, pools, and what the platform refused."""

from coordination import Fleet
from coordination.database import Database
from coordination.rate_limits import Capacity
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.queueing import configure
from tests.integration.coordination.tables import Owner, value
from tests.integration.coordination.told import ask, granted, spend


def left(fleet: Fleet) -> Capacity:
    return fleet.rate_limits.get_remaining_capacity("search_tweets")


def status(fleet: Fleet) -> dict[str, object]:
    return next(one for one in fleet.rate_limits.get_system_status() if one["endpoint"] == "search_tweets")


def seconds_until(owner: Owner, moment: object) -> float:
    return float(value(owner, "SELECT extract(epoch FROM %s::timestamptz - fleet.now())", str(moment)))


def test_nothing_is_left_of_an_endpoint_that_the_platform_closed(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, console: Database
) -> None:
    configure(console, "search_tweets", (100, 900))
    assert (left(fleet).remaining, left(fleet).blocked_until) == (100, None)
    fleet.rate_limits.record_usage(granted(fleet), False, status=429)
    told = left(fleet)
    assert (told.remaining, told.used, told.resets_at) == (0, 1, told.blocked_until)
    assert 890 <= seconds_until(owner, told.resets_at) <= 900
    assert (status(fleet)["remaining"], status(fleet)["health"]) == (0, "critical")
    assert status(fleet)["next_free_at"] == status(fleet)["blocked_until"]
    found = fleet.reservations.check_availability("api_quota", "search")
    assert not found.available
    assert found.estimated_wait_minutes is not None
    assert 14.5 <= found.estimated_wait_minutes <= 15
    fleet_database.advance(901)
    assert left(fleet).remaining == 100
    assert status(fleet)["health"] == "healthy"
    assert fleet.reservations.check_availability("api_quota", "search").available


def test_a_pool_that_others_emptied_leaves_nothing_either(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, console: Database
) -> None:
    configure(console, "search_tweets", (100, 900))
    configure(console, "api_requests", (3, 600))
    spend(fleet, "users_me")
    fleet_database.advance(100)
    spend(fleet, "users_me")
    assert (left(fleet).limit, left(fleet).remaining) == (100, 1)
    spend(fleet)
    told = left(fleet)
    assert (told.remaining, told.used) == (0, 1)
    assert 490 <= seconds_until(owner, told.resets_at) <= 500
    assert (status(fleet)["remaining"], status(fleet)["bound_by"]) == (0, "api_requests")
    found = fleet.reservations.check_availability("api_quota", "search", units=2)
    assert not found.available
    assert found.estimated_wait_minutes is not None
    assert 9.5 <= found.estimated_wait_minutes <= 10  # of two the second frees later
    fleet_database.advance(501)
    assert left(fleet).remaining == 1
    assert ask(fleet).allowed


def test_nothing_left_while_all_is_under_way_is_no_reset_at_once(
    fleet: Fleet, owner: Owner, console: Database
) -> None:
    configure(console, "search_tweets", (3, 900), (100, 3600))
    held = [granted(fleet) for _ in range(3)]
    refused = ask(fleet)
    told = left(fleet)
    assert told.remaining == 0
    assert refused.retry_after_seconds is not None
    wait_s = seconds_until(owner, told.resets_at)
    assert wait_s > refused.retry_after_seconds - 2
    assert seconds_until(owner, status(fleet)["next_free_at"]) > refused.retry_after_seconds - 2
    fleet.rate_limits.record_usage(held[0], True)
    assert 890 <= seconds_until(owner, left(fleet).resets_at) <= 900


def test_who_waits_for_a_pool_is_told_with_it(fleet: Fleet, console: Database) -> None:
    configure(console, "api_requests", (1, 600))
    spend(fleet)
    assert not ask(fleet).allowed
    assert not ask(fleet, "users_me").allowed
    queued = {one["endpoint"]: one["requests_queued"] for one in fleet.rate_limits.get_system_status()}
    assert queued == {"search_tweets": 1, "users_me": 1, "api_requests": 2}


def test_a_spread_window_has_no_more_at_once_than_its_burst(fleet: Fleet, console: Database) -> None:
    configure(console, "search_tweets", (1000, 3600))
    at_once = 0
    while fleet.reservations.check_availability("api_quota", "search").available:
        spend(fleet)
        at_once += 1
    assert 10 <= at_once < 20
    assert not ask(fleet).allowed
