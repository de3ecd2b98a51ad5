"""What answers tell binds the window that they speak of; what none tells is counted as late as it may be."""

import pytest

from coordination import Fleet
from coordination.database import Database
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.queueing import configure
from tests.integration.coordination.tables import Owner
from tests.integration.coordination.told import ask, day_headers, granted, headers, prove_dead, spend


def windows(fleet: Fleet, endpoint: str = "search_tweets") -> dict[int, tuple[int, int]]:
    """Limit and use of each window by its span."""
    capacity = fleet.rate_limits.get_remaining_capacity(endpoint)
    return {window.window_s: (window.limit, window.used) for window in capacity.windows}


def test_headers_bind_the_quarter_of_an_hour_and_no_other_window(
    fleet: Fleet, owner: Owner, console: Database
) -> None:
    configure(console, "search_tweets", (3, 60), (100, 900), (300, 3600))
    spend(fleet, response_headers=headers(owner, 80, 30))
    assert windows(fleet) == {60: (3, 1), 900: (80, 50), 3600: (300, 1)}
    spend(fleet)
    spend(fleet)
    assert ask(fleet).reason == "3 of 3 requests of search_tweets used"


def test_an_endpoint_without_a_window_of_a_quarter_of_an_hour_has_the_platforms(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, console: Database
) -> None:
    configure(console, "search_tweets", (200, 3600))
    spend(fleet, response_headers=headers(owner, 5, 4, reset_in_s=60))
    assert windows(fleet) == {900: (5, 1), 3600: (200, 1)}
    assert fleet.rate_limits.get_remaining_capacity("search_tweets").window_s == 900  # the shortest
    for _ in range(3):
        spend(fleet)
    held = granted(fleet)
    assert not ask(fleet).allowed
    fleet_database.advance(61)  # another epoch; the five are in the window all the same
    assert not ask(fleet).allowed
    fleet.rate_limits.record_usage(held, True)
    fleet_database.advance(840)
    for _ in range(4):
        spend(fleet)
    assert ask(fleet).reason == "5 of 5 requests of search_tweets used in 900 s"
    fleet_database.advance(61)
    assert ask(fleet).allowed


def test_the_platforms_count_holds_where_a_tighter_window_makes_another_needless(
    fleet: Fleet, owner: Owner, console: Database
) -> None:
    configure(console, "search_tweets", (20, 3600))
    spend(fleet, response_headers=headers(owner, 40, 2))  # others used 37
    assert windows(fleet) == {3600: (20, 1)}
    assert fleet.rate_limits.get_remaining_capacity("search_tweets").remaining == 2
    spend(fleet)
    spend(fleet)
    assert ask(fleet).reason == "40 of 40 requests of search_tweets used, by the platform's count"


def test_a_refusal_whose_reset_is_further_away_than_its_window_is_long_says_nothing(
    fleet: Fleet, owner: Owner
) -> None:
    told = headers(owner, 180, 0, reset_in_s=72_000)
    fleet.rate_limits.record_usage(granted(fleet), False, told, status=429)
    refused = ask(fleet)
    assert refused.retry_after_seconds is not None
    assert 890 <= refused.retry_after_seconds <= 900


def test_a_refusal_that_says_nothing_closes_for_the_platforms_window_not_for_a_shorter_one(
    fleet: Fleet, console: Database
) -> None:
    configure(console, "search_tweets", (10, 60), (100, 900))
    fleet.rate_limits.record_usage(granted(fleet), False, status=429)
    closed_s = ask(fleet).retry_after_seconds
    assert closed_s is not None
    assert 890 <= closed_s <= 900


@pytest.mark.parametrize("status", [None, 503])
def test_a_request_that_nobody_answered_counts_for_a_window_from_when_it_may_be_counted_last(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database, status: int | None
) -> None:
    configure(console, "search_tweets", (1, 60))
    fleet.rate_limits.record_usage(granted(fleet), False, status=status)
    fleet_database.advance(61)
    refused = ask(fleet)
    assert not refused.allowed
    assert refused.retry_after_seconds is not None
    assert refused.retry_after_seconds <= 14
    fleet_database.advance(refused.retry_after_seconds)
    fleet.rate_limits.record_usage(granted(fleet), False, status=404)  # which is an answer
    fleet_database.advance(61)
    assert ask(fleet).allowed


def test_what_nobody_answered_is_charged_anew_under_gcra(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database
) -> None:
    configure(console, "search_tweets", (1000, 3600))
    taken: list[str] = []
    while (grant := ask(fleet)).grant_id:
        taken.append(grant.grant_id)
    for grant_id in taken:
        fleet.rate_limits.record_usage(grant_id, False)
    fleet_database.advance(10)  # room for two, had these been answered
    assert not ask(fleet).allowed


def test_units_that_the_dead_took_are_counted_by_the_platforms_day_too(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner, console: Database
) -> None:
    configure(console, "search_tweets", (100, 900), (5000, 86400))
    spend(fleet, response_headers=day_headers(owner, "user", 40, 3, 7200))
    victim = fleet_database.connect("dead")
    for _ in range(3):
        granted(victim)
    prove_dead(owner, "dead")
    for _ in range(2):
        assert (
            ask(fleet).reason == "the requests of search_tweets of 24 hours are used, by the platform's count"
        )
    fleet_database.advance(7201)
    assert ask(fleet).allowed
    victim.close()


def test_what_a_crash_may_have_forgotten_is_counted_by_the_platforms_count_too(
    fleet: Fleet, owner: Owner, console: Database
) -> None:
    configure(console, "search_tweets", (600, 900))
    spend(fleet, response_headers=headers(owner, 600, 5))  # others used the rest
    owner.execute("TRUNCATE fleet.rate_epoch")  # as a crash does; up to 6 grants may be forgotten
    assert not ask(fleet).allowed


def test_a_reset_further_away_than_the_window_is_long_hides_no_answer(
    fleet: Fleet, owner: Owner, console: Database
) -> None:
    configure(console, "search_tweets", (40, 900))
    spend(fleet, response_headers=headers(owner, 40, 39, 80_000))
    spend(fleet, response_headers=headers(owner, 40, 5, 600))  # others used 33
    assert fleet.rate_limits.get_remaining_capacity("search_tweets").remaining == 5
    spend(
        fleet, response_headers=headers(owner, 40, 0, 950)
    )  # a reset that is only a little late still holds
    assert not ask(fleet).allowed
