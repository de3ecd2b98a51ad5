"""Who wants several units at once is not passed for ever, and nothing stands idle for it too early."""

import pytest

from coordination import Fleet
from coordination.database import Database
from coordination.engagement import Priority
from coordination.resources import Refused, Reservation
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.queueing import configure
from tests.integration.coordination.tables import Owner
from tests.integration.coordination.told import granted, headers, spend


def use(fleet: Fleet, worker: str, endpoint: str, priority: Priority = "medium") -> bool:
    """Ask for one request and make it, if it may be."""
    grant = fleet.rate_limits.can_make_request(endpoint, worker, priority)
    if grant.grant_id is not None:
        fleet.rate_limits.record_usage(grant.grant_id, True)
    return grant.allowed


@pytest.mark.parametrize("binds", ["its own window", "a pool"])
@pytest.mark.parametrize("fair", [True, False])
def test_a_quota_is_served_though_single_requests_come_all_the_time(
    fair: bool, binds: str, fleet: Fleet, console: Database, fleet_database: FleetDatabase
) -> None:
    fleet_database.advance(0, rate=2e-5)
    configure(console, "like_tweet", (10 if binds == "its own window" else 50, 60), fair_share=fair)
    if binds == "a pool":
        configure(console, "api_requests", (10, 60))
    served = 0
    for _ in range(10):
        served += use(fleet, "w/0", "like_tweet", "low")
        fleet_database.advance(6, rate=2e-5)
    returns_s, waited_s = 0.0, 0.0
    while True:
        if waited_s >= returns_s:
            quota = fleet.reservations.request_api_quota("q", "like_tweet", 5, priority="high")
            if isinstance(quota, Reservation):
                break
            returns_s = waited_s + (quota.retry_after_seconds or 0)
        served += use(fleet, f"w/{int(waited_s) % 3}", "like_tweet", "low")
        fleet_database.advance(6, rate=2e-5)
        waited_s += 6
        assert waited_s < 180
    assert served >= 10


def test_what_a_refused_quota_has_no_use_for_yet_goes_to_who_asks(
    fleet: Fleet, console: Database, fleet_database: FleetDatabase
) -> None:
    configure(console, "search_tweets", (20, 900), fair_share=True)
    for _ in range(10):
        assert use(fleet, "a", "search_tweets")
    quota = fleet.reservations.request_api_quota("q", "search_tweets", 12)
    assert isinstance(quota, Refused)
    fleet_database.advance(4)  # it asked a moment ago: a share's unit is left to it for so long
    assert use(fleet, "a", "search_tweets")
    # Half of its time is over: all that is left is held for it.
    fleet_database.advance((quota.retry_after_seconds or 0) / 2 + 1)
    assert not use(fleet, "a", "search_tweets")
    fleet_database.advance((quota.retry_after_seconds or 0) / 2)
    assert isinstance(fleet.reservations.request_api_quota("q", "search_tweets", 12), Reservation)


def test_who_was_told_to_come_later_keeps_no_early_unit_from_who_had_its_share(
    fleet: Fleet, console: Database, owner: Owner, fleet_database: FleetDatabase
) -> None:
    configure(console, "search_tweets", (50, 900), fair_share=True)
    for _ in range(26):
        spend(fleet)
    late = granted(fleet)
    spend(fleet, response_headers=headers(owner, 50, 0, 600), status=200)
    for worker in ("b", "c"):
        assert not fleet.rate_limits.can_make_request("search_tweets", worker).allowed
    fleet.rate_limits.record_usage(late, True, headers(owner, 50, 49, 900), status=200)  # it reset early
    fleet_database.advance(4)
    assert use(fleet, "tester/1", "search_tweets")


def test_what_never_fits_beside_the_kept_part_is_lent_of_it(
    fleet: Fleet, console: Database, fleet_database: FleetDatabase
) -> None:
    configure(console, "like_tweet", (50, 900), fair_share=False)
    assert use(fleet, "a", "like_tweet", "critical")  # five are kept from now on
    fleet_database.advance(1000)
    available = fleet.reservations.check_availability("api_quota", "like_tweet@default", units=48)
    assert available.available
    assert isinstance(
        fleet.reservations.request_api_quota("q", "like_tweet", 48, priority="high"), Reservation
    )


def test_a_pool_smaller_than_the_kept_part_gives_its_requests(
    fleet: Fleet, console: Database, fleet_database: FleetDatabase
) -> None:
    configure(console, "like_tweet", (50, 900), fair_share=False)
    configure(console, "api_requests", (2, 60))
    assert use(fleet, "a", "like_tweet", "critical")
    fleet_database.advance(1000)
    assert use(fleet, "b", "like_tweet")


def test_nothing_is_held_for_a_quota_that_the_limit_can_give_no_more(
    fleet: Fleet, console: Database, fleet_database: FleetDatabase
) -> None:
    configure(console, "like_tweet", (20, 900), fair_share=False)
    for number in range(20):
        assert use(fleet, f"w/{number}", "like_tweet")
        fleet_database.advance(10)
    quota = fleet.reservations.request_api_quota("q", "like_tweet", 19, priority="high")
    assert isinstance(quota, Refused)
    configure(console, "like_tweet", (18, 900), fair_share=False)
    for later_s in ((quota.retry_after_seconds or 0) - 30, 30):
        fleet_database.advance(later_s)
        assert use(fleet, "w/0", "like_tweet")
