"""Prepaid units: where many ask and there is much room, most grants decide nothing; none is above a limit."""

from collections.abc import Callable

import pytest

from coordination import Fleet, connect
from coordination.database import Database
from coordination.errors import InvalidValueError
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.crowd import together
from tests.integration.coordination.queueing import configure
from tests.integration.coordination.tables import Owner, planted, rows, value
from tests.integration.coordination.told import ask, granted, headers, spend

LIMIT, WINDOW_S = 10_000, 60
LEFT = "SELECT coalesce(sum(units), 0) FROM fleet.rate_prepaid"
TAKEN = (
    "SELECT r.kind, r.occupied[1], r.unsettled FROM fleet.rate_limits r "
    "WHERE r.account = 'default' AND r.endpoint IN ('like_tweet', 'api_requests') ORDER BY r.kind"
)
ENDED = "UPDATE fleet.rate_prepaid SET paid_real_at = clock_timestamp() - interval '1 hour'"


@pytest.fixture(autouse=True)
def much_room(console: Database) -> None:
    configure(console, "like_tweet", (LIMIT, WINDOW_S))
    configure(console, "api_requests", (1_000_000, 900))


def many(fleet: Fleet, number: int = 40, endpoint: str = "like_tweet") -> list[str]:
    return [granted(fleet, endpoint) for _ in range(number)]


def test_where_many_ask_units_are_taken_before_they_are_asked_for_and_count_everywhere(
    fleet: Fleet, owner: Owner
) -> None:
    grants = many(fleet)
    left = value(owner, LEFT)
    assert left > 0
    assert len(set(grants)) == 40
    assert value(owner, "SELECT sum(units) FROM fleet.rate_grants") == 40
    assert rows(owner, TAKEN) == [("endpoint", 40 + left, 40 + left), ("pool", 40 + left, 0)]


def test_what_is_left_of_them_after_a_second_is_free_again(fleet: Fleet, owner: Owner) -> None:
    many(fleet)
    owner.execute(ENDED)
    granted(fleet, "like_tweet")
    left = value(owner, LEFT)
    assert rows(owner, TAKEN) == [("endpoint", 41 + left, 41 + left), ("pool", 41 + left, 0)]
    for _ in range(8):  # nobody asks for them: none are taken any more
        owner.execute(ENDED)
        granted(fleet, "like_tweet")
    assert value(owner, LEFT) == 0
    assert rows(owner, TAKEN) == [("endpoint", 49, 49), ("pool", 49, 0)]


def test_counts_that_are_made_anew_have_them(fleet: Fleet, owner: Owner, console: Database) -> None:
    many(fleet)
    left = value(owner, LEFT)
    configure(console, "api_requests", (1_000_000, 900))
    granted(fleet, "get_tweets")
    assert value(owner, "SELECT occupied[1] FROM fleet.rate_limits WHERE kind = 'pool' AND window_s = 900 "
                        "AND account = 'default'") == 41 + left  # fmt: skip


def test_a_limit_that_is_small_or_half_used_gives_each_unit_by_a_decision(
    fleet: Fleet, owner: Owner, console: Database
) -> None:
    configure(console, "search_tweets", (900, WINDOW_S))
    many(fleet, endpoint="search_tweets")
    assert value(owner, LEFT) == 0
    configure(console, "like_tweet", (1100, WINDOW_S))
    many(fleet, 560)
    assert value(owner, LEFT) == 0


@pytest.mark.parametrize("told", ["a refusal", "few are left", "another limit"])
def test_what_the_platform_says_comes_before_what_was_prepaid(fleet: Fleet, owner: Owner, told: str) -> None:
    grants = many(fleet)
    assert value(owner, LEFT) > 0
    if told == "a refusal":
        fleet.rate_limits.record_usage(grants[0], False, headers(owner, LIMIT, 0), status=429)
        assert not ask(fleet, "like_tweet").allowed
    elif told == "few are left":
        fleet.rate_limits.record_usage(grants[0], True, headers(owner, 50, 2), status=200)
        assert not ask(fleet, "like_tweet").allowed
    else:
        fleet.rate_limits.record_usage(grants[0], True, headers(owner, 60, 55), status=200)
        assert ask(fleet, "like_tweet").allowed
        assert value(owner, LEFT) == 0


def test_a_person_s_lower_limit_holds_at_once(fleet: Fleet, console: Database) -> None:
    many(fleet)
    configure(console, "like_tweet", (40, WINDOW_S))
    assert not ask(fleet, "like_tweet").allowed


@pytest.mark.parametrize(
    ("field", "given"), [("endpoint", "no_such"), ("worker_id", ""), ("priority", "utmost"), ("account", "*")]
)
def test_wrong_requests_are_refused_as_everywhere(fleet: Fleet, field: str, given: str) -> None:
    many(fleet)
    asked = {"endpoint": "like_tweet", "worker_id": "w/1", "priority": "low", "account": "default"}
    with pytest.raises(InvalidValueError, match=field):
        fleet.session.call("can_make_request", **{**asked, field: given})  # pyright: ignore[reportArgumentType]


def greedy(start: Callable[[], object], dsn: str, endpoints: tuple[str, ...]) -> int:
    """Ask for each in turn until all are refused; give how many were granted. None is settled."""
    with connect(dsn, "greedy") as fleet:
        start()
        had, open_ones = 0, list(endpoints)
        while open_ones:
            for endpoint in list(open_ones):
                grant = fleet.rate_limits.can_make_request(endpoint, f"greedy-{fleet.incarnation.id}")
                had += grant.allowed
                if not grant.allowed:
                    open_ones.remove(endpoint)
        return had


@pytest.fixture
def dsn(fleet_database: FleetDatabase) -> str:
    return fleet_database.dsn("worker")


def test_many_processes_get_what_there_is_and_never_more_i9(
    console: Database, owner: Owner, dsn: str
) -> None:
    configure(console, "like_tweet", (2000, WINDOW_S))
    got = sum(together(greedy, 6, dsn, ("like_tweet",)))
    assert got == value(owner, "SELECT count(*) FROM fleet.rate_grants")
    assert 1950 <= got <= 2000


def test_a_pool_of_two_endpoints_is_never_above_its_capacity_i11(
    console: Database, owner: Owner, dsn: str
) -> None:
    configure(console, "api_requests", (2000, WINDOW_S))
    got = sum(together(greedy, 4, dsn, ("like_tweet", "get_tweets")))
    assert got == value(owner, "SELECT count(*) FROM fleet.rate_grants")
    assert 1900 <= got <= 2000


def test_units_that_were_prepaid_and_not_counted_would_be_seen(fleet: Fleet, owner: Owner) -> None:
    with planted(owner, "take_units", ("one.occupied[i] + n + spare", "one.occupied[i] + n")):
        many(fleet)
        left = value(owner, LEFT)
        assert rows(owner, TAKEN) != [("endpoint", 40 + left, 40 + left), ("pool", 40 + left, 0)]


def test_a_crash_of_the_server_forgets_what_was_prepaid_and_counts_what_may_be_forgotten(
    fleet_database: FleetDatabase,
) -> None:
    before = fleet_database.connect("before")
    many(before, 300)
    fleet_database.server.immediate_stop()
    try:
        before.close()
    finally:
        fleet_database.server.start()
    with fleet_database.connect("after") as after, fleet_database.owner() as owner:
        assert value(owner, LEFT) == 0
        spend(after, "like_tweet")
        assert after.rate_limits.get_remaining_capacity("like_tweet").used >= 301
