"""API quotas: requests set aside for one worker, which are the rate limiter's own units."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, LiteralString

import psycopg
import pytest

from coordination import Fleet, Reservation, connect
from coordination.database import Database, Json
from coordination.errors import InvalidValueError, ReservationLostError
from coordination.rate_limits import RateLimits
from coordination.resources import Refused
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.crowd import together, until, victim
from tests.integration.coordination.tables import Owner, assert_refused, rows, value

ENDPOINTS = {"tweet": "post_tweet", "search": "search_tweets", "fetch": "fetch_mentions"}


@pytest.fixture(autouse=True)
def a_limit_that_is_not_spread(console: Database) -> None:
    for endpoint, window in (
        ("post_tweet", [50, 900]),
        ("api_tweets", [50, 3600]),
        ("api_requests", [900, 900]),
    ):
        console.call("configure_rate_windows", account="sandbox", endpoint=endpoint, windows=Json([window]))


def left(fleet: Fleet, endpoint: str = "post_tweet") -> int:
    return fleet.rate_limits.get_remaining_capacity(endpoint, "sandbox").remaining


def api_pools(fleet: Fleet, account: str = "sandbox") -> dict[str, dict[str, Any]]:
    """The rate limiter's pools of an account, by name."""
    pools = fleet.reservations.get_pool_status("api_quota")
    return {pool["resource_id"]: pool for pool in pools if pool["account"] == account}


def set_aside(fleet: Fleet, n: int, operation: str = "tweet") -> Reservation:
    """All of a limit, where it is asked for: only critical requests have its last ten units at once."""
    quota = fleet.reservations.reserve_api_quota(
        "tester/1", operation, n, priority="critical", account="sandbox"
    )
    assert quota is not None
    return quota


@pytest.mark.parametrize("operation", ENDPOINTS)
def test_a_quota_takes_the_limiters_own_units_and_gives_back_what_was_not_used(
    fleet: Fleet, operation: str
) -> None:
    endpoint = ENDPOINTS[operation]
    before = left(fleet, endpoint)
    quota = set_aside(fleet, 5, operation)
    assert (quota.resource_type, quota.resource_id, quota.units) == ("api_quota", endpoint, 5)
    assert left(fleet, endpoint) == before - 5
    for _ in range(2):
        grant = fleet.reservations.use_api_quota(quota)
        assert grant.allowed
        assert grant.grant_id is not None
        assert left(fleet, endpoint) == before - 5  # a request under it costs nothing more
        fleet.rate_limits.record_usage(grant.grant_id, success=True)
    fleet.reservations.release_resource(quota)
    assert left(fleet, endpoint) == before - 2
    for late in (fleet.reservations.release_resource, fleet.reservations.use_api_quota):
        with pytest.raises(ReservationLostError) as lost:
            late(quota)
        assert lost.value.why == "released"


def test_a_quota_that_is_used_up_has_ended(fleet: Fleet) -> None:
    quota = set_aside(fleet, 1)
    assert fleet.reservations.use_api_quota(quota.reservation_id).allowed
    with pytest.raises(ReservationLostError) as lost:
        fleet.reservations.use_api_quota(quota)
    assert lost.value.why == "used_up"


def test_what_is_set_aside_is_granted_to_nobody_else_and_all_or_none(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database
) -> None:
    console.call("configure_rate_limit", account="sandbox", endpoint="post_tweet", requests=10, window_s=900)
    quota = set_aside(fleet, 8)
    with fleet_database.connect("other") as other:
        refused = other.reservations.request_api_quota("other/1", "tweet", 3, account="sandbox")
        assert isinstance(refused, Refused)
        assert refused.reason == "no_quota"
        assert refused.retry_after_seconds is not None
        assert left(other) == 2
        found = other.reservations.check_availability("api_quota", "tweet@sandbox", units=3)
        assert (found.available, found.resource_id) == (False, "post_tweet")
        assert other.reservations.check_availability("api_quota", "tweet@sandbox", units=2).available
        fleet.reservations.release_resource(quota)
        assert other.reservations.reserve_api_quota("other/1", "tweet", 3, account="sandbox") is not None


def test_the_pools_bound_all_their_endpoints_together(fleet: Fleet) -> None:
    first = set_aside(fleet, 50)
    pools = api_pools(fleet)
    assert {name: pool["total_capacity"] for name, pool in pools.items()} == {
        "api_tweets": 50,
        "api_requests": 900,
    }
    assert (pools["api_tweets"]["available_capacity"], pools["api_tweets"]["reserved_capacity"]) == (0, 50)
    assert pools["api_requests"]["available_capacity"] == 850
    assert pools["api_tweets"]["held"] == 50
    assert fleet.reservations.reserve_api_quota("tester/1", "tweet", account="sandbox") is None
    set_aside(fleet, 60, "search")
    fleet.reservations.release_resource(first)
    assert api_pools(fleet)["api_tweets"]["available_capacity"] == 50


def test_the_pools_are_told_before_the_first_request_and_who_waits_for_them(
    fleet: Fleet, console: Database
) -> None:
    told = {
        name: (pool["total_capacity"], pool["window_s"]) for name, pool in api_pools(fleet, "default").items()
    }
    assert told == {"api_requests": (900, 900), "api_tweets": (50, 3600)}
    before = api_pools(fleet, "default")["api_tweets"]
    free = (
        before["available_capacity"],
        before["reserved_capacity"],
        before["held"],
        before["waiting_queue"],
    )
    assert free == (50, 0, 0, 0)
    assert (before["utilization_percent"], before["health"]) == (0, "healthy")
    console.call("configure_rate_limit", account="default", endpoint="post_tweet", requests=1, window_s=900)
    answers = [fleet.rate_limits.can_make_request("post_tweet", "w").allowed for _ in range(2)]
    assert answers == [True, False]
    after = {
        name: (pool["reserved_capacity"], pool["waiting_queue"])
        for name, pool in api_pools(fleet, "default").items()
    }
    assert after == {"api_requests": (1, 1), "api_tweets": (1, 1)}


def test_more_than_is_ever_granted_at_once_is_refused_and_not_put_off(fleet: Fleet) -> None:
    with pytest.raises(InvalidValueError) as refused:
        fleet.reservations.reserve_api_quota("w", "tweet", 51, account="sandbox")
    assert_refused(refused, "estimated_requests", "51")
    assert "50" in refused.value.allowed


def test_reserving_the_resource_by_its_type_is_the_same(fleet: Fleet) -> None:
    before = left(fleet, "search_tweets")
    held = fleet.reservations.reserve_resource("api_quota", "search@sandbox", "w", units=3, kind="request")
    assert held is not None
    assert left(fleet, "search_tweets") == before - 3
    fleet.reservations.release_resource(held)
    with pytest.raises(InvalidValueError) as refused:
        fleet.reservations.reserve_resource("api_quota", "search@sandbox", "w", wait_s=5)
    assert_refused(refused, "wait_s", "5")


NAMED = ("search", "search_tweets", "api_tweets", "api_requests")


@pytest.mark.parametrize(
    ("kind", "of"),
    [
        ("request", ["search_tweets", None, None, None]),
        ("endpoint", [None, "search_tweets", None, None]),
        ("rate", [None, None, "post_tweet", None]),  # of all endpoints' pool a request is of none
        ("priority", ["search_tweets", "search_tweets", "post_tweet", None]),
        (None, ["search_tweets", "search_tweets", "post_tweet", None]),
    ],
)
def test_the_kind_of_a_quota_says_what_its_name_is_of(
    fleet: Fleet, kind: str | None, of: list[str | None]
) -> None:
    for name, endpoint in zip(NAMED, of, strict=True):
        if endpoint is None:
            with pytest.raises(InvalidValueError) as refused:
                fleet.reservations.reserve_resource("api_quota", f"{name}@sandbox", "w", kind=kind)
            assert_refused(refused, "operation_type", name)
        else:
            held = fleet.reservations.reserve_resource("api_quota", f"{name}@sandbox", "w", kind=kind)
            assert held is not None
            assert (held.resource_id, held.priority) == (
                endpoint,
                "critical" if kind == "priority" else "medium",
            )


def test_a_quota_of_the_kind_priority_is_had_before_others(fleet: Fleet) -> None:
    set_aside(fleet, 45)
    reserve = fleet.reservations.reserve_resource
    assert [
        reserve("api_quota", "tweet@sandbox", "w", kind=kind) is not None for kind in ("request", "priority")
    ] == [False, True]  # the last ten are not for the asking
    assert fleet.reservations.check_availability("api_quota", "tweet@sandbox", kind="priority").available


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("operation_type", "dance"),
        ("operation_type", "api_requests"),
        ("estimated_requests", 0),
        ("worker_id", ""),
        ("account", "*"),
        ("priority", "x"),
    ],
)
def test_what_can_not_be_set_aside_is_refused_by_name(fleet: Fleet, field: str, bad: Any) -> None:
    options: dict[str, Any] = {"worker_id": "w", "operation_type": "tweet", "account": "sandbox"}
    with pytest.raises(InvalidValueError) as refused:
        fleet.reservations.reserve_api_quota(**{**options, field: bad})
    assert refused.value.field == field


@pytest.mark.parametrize("account", ["", "@sandbox", "sandbox@", "nobody", "*"])
def test_a_quota_is_never_of_another_account_than_the_one_that_is_named(
    fleet: Fleet, owner: Owner, account: str
) -> None:
    for ask in (fleet.reservations.reserve_resource, fleet.reservations.check_availability):
        with pytest.raises(InvalidValueError) as refused:
            ask("api_quota", f"search@{account}", worker_id="w")
        assert_refused(refused, "account", account)
        assert "sandbox" in refused.value.allowed
    owner.execute("DELETE FROM fleet.accounts WHERE name = 'default'")
    assert fleet.reservations.check_availability("api_quota", "search").available
    held = fleet.reservations.reserve_resource("api_quota", "search", "w")
    assert held is not None
    assert value(owner, "SELECT account FROM fleet.reservations") == "default"


def _set_aside_and_draw(keep: Callable[[object], None], dsn: str) -> str:
    fleet = connect(dsn, "mortal")
    keep(fleet)
    quota = set_aside(fleet, 50)
    assert fleet.reservations.use_api_quota(quota).allowed
    return quota.reservation_id


def test_of_a_process_that_died_what_was_not_drawn_comes_back_and_what_was_stays_taken(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    with victim(_set_aside_and_draw, fleet_database.dsn("worker")) as mortal:
        assert fleet.reservations.reserve_api_quota("tester/1", "tweet", account="sandbox") is None
        mortal.kill()
        until(lambda: fleet.reservations.tidy().quotas == 1, 10)
    assert left(fleet) == 49
    assert rows(owner, "SELECT end_reason FROM fleet.reservations") == [("holder_died",)]
    assert set_aside(fleet, 49) is not None


def test_who_asks_finds_out_by_itself_that_a_holder_died(fleet_database: FleetDatabase, fleet: Fleet) -> None:
    with victim(_set_aside_and_draw, fleet_database.dsn("worker")) as mortal:
        mortal.kill()
        until(
            lambda: fleet.reservations.reserve_api_quota("w", "tweet", 40, account="sandbox") is not None, 10
        )


def test_a_quota_out_of_time_gives_its_units_back_and_grants_nothing_any_more(
    fleet: Fleet, owner: Owner
) -> None:
    quota = set_aside(fleet, 7)
    fleet.reservations.renew(quota, 60)
    owner.execute("UPDATE fleet.reservations SET lease_expires_at = clock_timestamp()")
    with pytest.raises(ReservationLostError) as lost:
        fleet.reservations.use_api_quota(quota)
    assert lost.value.why == "expired"
    assert fleet.reservations.tidy().quotas == 1
    assert left(fleet) == 50


def test_the_coordinators_look_takes_the_limiters_rows_in_the_order_of_who_asks(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database, owner: Owner
) -> None:
    for endpoint in ("account_a", "account_b"):  # by their names before the pool of all
        console.call("configure_rate_limit", account="sandbox", endpoint=endpoint, requests=50, window_s=900)
        set_aside(fleet, 2, endpoint)
    owner.execute("UPDATE fleet.reservations SET lease_expires_at = clock_timestamp()")
    row: LiteralString = (
        "SELECT FROM fleet.rate_limits WHERE account = 'sandbox' AND endpoint = %s FOR UPDATE"
    )
    waiting: LiteralString = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    with ThreadPoolExecutor() as pool, psycopg.connect(fleet_database.superuser_dsn) as asker:
        asker.execute(row, ("account_b",))
        look = pool.submit(fleet.reservations.tidy)
        until(lambda: value(owner, waiting) == 1, 10)
        asker.execute(row, ("api_requests",))
        asker.commit()
        assert look.result().quotas == 2
    assert left(fleet, "account_a") == left(fleet, "account_b") == 50


def _draw_all(start: Callable[[], int], dsn: str) -> int:
    """Set aside, use some, give the rest back, until the limit is reached."""
    made = 0
    with connect(dsn, "drawer") as fleet:
        start()
        while (
            quota := fleet.reservations.reserve_api_quota("drawer", "tweet", 3, account="sandbox")
        ) is not None:
            for _ in range(2):
                grant = fleet.reservations.use_api_quota(quota)
                assert grant.grant_id is not None
                RateLimits(fleet.session).record_usage(grant.grant_id, success=True)
                made += 1
            fleet.reservations.release_resource(quota)
    return made


def test_eight_processes_never_make_more_requests_than_the_limit_i9_i10(
    fleet_database: FleetDatabase, fleet: Fleet, owner: Owner
) -> None:
    made = sum(together(_draw_all, 8, fleet_database.dsn("worker")))
    assert 50 - 8 * 3 <= made <= 50
    assert left(fleet) == 50 - made
    assert value(owner, "SELECT count(*) FROM fleet.rate_grants WHERE settled_at IS NULL") == 0
